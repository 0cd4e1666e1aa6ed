"""Networks by name, their initial weights, and their BatchNorm layers."""

from dglab.models.networks import BACKBONES, IBN_NETS, SegmentationModel, build_model, logits_of

__all__ = ["BACKBONES", "IBN_NETS", "SegmentationModel", "build_model", "logits_of"]
