"""Networks by name, the weights they start from, and where their BatchNorm layers are."""

from dglab.models.networks import BACKBONES, IBN_NETS, SegmentationModel, build_model, logits_of

__all__ = ["BACKBONES", "IBN_NETS", "SegmentationModel", "build_model", "logits_of"]
