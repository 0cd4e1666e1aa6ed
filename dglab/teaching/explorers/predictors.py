"""What the explorers compare on single images."""

from torch import nn

from dglab.testtime import GuardedNormalization, SourceNormalization, SourceReference, TargetNormalization
from dglab.testtime.predictor import Predictor


def predictors_of(model: nn.Module, reference: SourceReference | None) -> dict[str, Predictor]:
    """By name: source BN, TN with M = 1, and the guarded default.

    Args:
        model: a trained network.
        reference: of the network; None leaves out the guarded default.
    """
    found: dict[str, Predictor] = {"source BN": SourceNormalization(model), "TN, M = 1": TargetNormalization(model)}
    if reference is not None:
        found["guarded"] = GuardedNormalization(model, reference)
    return found
