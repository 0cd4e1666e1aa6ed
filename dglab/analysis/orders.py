"""First against second order: the angle between MLDG's approximate gradient and its exact one."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from dglab.testtime import preserved_statistics
from dglab.training import cross_entropy, mldg_backward
from dglab.training.losses import Batch
from dglab.training.mean_loss import trainable


def cosine_of_orders(model: nn.Module, meta_train: Batch, meta_test: Batch, inner_lrs: Sequence[float]) -> list[float]:
    """Cosine between the first- and the second-order gradient of MLDG, for several inner steps.

    Args:
        model: in training mode; parameters and statistics come back as they were.
        meta_train, meta_test: (images, labels) of disjoint domains.
        inner_lrs: eta values. At 0 both orders agree and the cosine is 1.
    """
    with preserved_statistics(model):
        return [
            F.cosine_similarity(*(_flat_gradient(model, meta_train, meta_test, eta, k) for k in (1, 2)), dim=0).item()
            for eta in inner_lrs
        ]


def _flat_gradient(model: nn.Module, meta_train: Batch, meta_test: Batch, inner_lr: float, order: int) -> torch.Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the same dropout in both orders
        mldg_backward(model, cross_entropy, meta_train, meta_test, inner_lr, order=order)
    return torch.cat([parameter.grad.flatten() for parameter in trainable(model)])
