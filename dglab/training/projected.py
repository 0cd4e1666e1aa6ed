"""GMP's projection between domains in place of MLDG's inner step: where their gradients conflict, one gives way."""

import math

from torch import nn

from dglab.models.batchnorm import update_running_stats
from dglab.training.gmp import project_conflict
from dglab.training.gmp_checks import all_finite
from dglab.training.losses import Batch, Losses, LossFunction
from dglab.training.mean_loss import MeanLoss, set_gradient


def projected_backward(
    model: nn.Module, loss_fn: LossFunction, meta_train: Batch, meta_test: Batch, *, micro_batches: int = 1
) -> Losses:
    """The gradients of two groups of domains, added once they no longer conflict, into ``.grad``.

    A control of ours: MLDG's inner step is said to favour updates on which the domains agree; this asks for them
    outright. It is MLDG without inner step but for :func:`dglab.training.gmp.project_conflict`, with the ratio of the
    losses for gamma: the group whose loss is smaller is ahead, and gives way.

    Args:
        model, loss_fn, meta_train, meta_test, micro_batches: as in :func:`dglab.training.mldg.mldg_backward`. As there
            by default, only the pass over meta-train updates BatchNorm's running statistics.

    Returns:
        ``ds`` and ``dg``, the two losses, ``total`` their sum.
    """
    ds = MeanLoss(model, loss_fn, [meta_train], micro_batches)
    dg = MeanLoss(model, loss_fn, [meta_test], micro_batches)
    loss_ds, g_ds = ds.value_and_grad()
    with update_running_stats(model, enabled=False):
        loss_dg, g_dg = dg.value_and_grad()

    losses = Losses(loss_ds.item(), loss_dg.item(), (loss_ds + loss_dg).item())
    finite = math.isfinite(losses.total) and all_finite([*g_ds, *g_dg])  # else the trainer refuses it
    if finite and losses.ds > 0:
        g_ds, g_dg = project_conflict(g_ds, g_dg, losses.dg / losses.ds)
    set_gradient(ds.theta, [a + b for a, b in zip(g_ds, g_dg, strict=True)])
    return losses
