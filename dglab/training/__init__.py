"""Training: AGG, MLDG and the controls side by side, GMP for several modalities, and the trainer around them."""

from dglab.training.agg import agg_backward, by_domain_backward, split_backward
from dglab.training.config import TrainingConfig
from dglab.training.gmp import gmp_backward
from dglab.training.losses import Losses, cross_entropy
from dglab.training.mldg import mldg_backward
from dglab.training.trainer import train

__all__ = [
    "Losses",
    "TrainingConfig",
    "agg_backward",
    "by_domain_backward",
    "cross_entropy",
    "gmp_backward",
    "mldg_backward",
    "split_backward",
    "train",
]
