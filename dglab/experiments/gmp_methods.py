"""What the studies of GMP compare: ways to train a network of several modalities, and what of it is looked at.

Records as in :mod:`dglab.experiments.methods`, whose ``select`` and ``per_training`` take them as well.
"""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

BOTH = ("rgb", "depth")  # the modalities of the studies
UNSEEN = ("C", "M")  # the targets of their tasks: the main one, and the second one of gmp_branches


@dataclass(frozen=True)
class MultimodalMethod:
    """A way to train a network of several modalities, or of one of them alone.

    Args:
        label: for display.
        variant: of GMP, see :func:`dglab.training.gmp.find_variant`; ``variant`` in the table.
        modalities: that the network has.
    """

    label: str = field(compare=False)
    variant: str
    modalities: tuple[str, ...] = BOTH

    @property
    def settings(self) -> dict[str, Any]:
        """What the settings of its training have beside the preset's."""
        return {"method": "gmp", "variant": self.variant, "modalities": self.modalities}

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows of the tidy table that belong to networks trained so."""
        return frame[
            (frame["variant"] == self.variant).fillna(False)
            & (frame["modalities"] == "+".join(self.modalities)).fillna(False)
        ]


@dataclass(frozen=True)
class View:
    """What of a network is tested: its fused classifier, or the own one of a modality.

    Args:
        label: for display.
        branch: the modality whose own classifier it is; None for the fused one, with no modality missing.
    """

    label: str = field(compare=False)
    branch: str | None = None

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows of the tidy table that belong to it."""
        own = frame["branch"].isna() if self.branch is None else (frame["branch"] == self.branch).fillna(False)
        return frame[own & frame["without"].isna()]


JOINT = MultimodalMethod("joint training", "joint")
GMP = MultimodalMethod("GMP (IGDM + CAGP)", "gmp")
IGDM = MultimodalMethod("IGDM only", "igdm")
CAGP = MultimodalMethod("CAGP only", "cagp")
UNIFIED = MultimodalMethod("unified modulation", "unified")
OGM_GE = MultimodalMethod("OGM-GE", "ogm_ge")
FIXED_C = MultimodalMethod("classification gives way", "fixed_c")
FIXED_D = MultimodalMethod("invariance gives way", "fixed_d")
PCGRAD = MultimodalMethod("both give way (PCGrad)", "torchjd:PCGrad")
ALONE = {name: MultimodalMethod(f"{name} alone", "joint", (name,)) for name in BOTH}

FUSED = View("fused")
BRANCHES = {name: View(f"{name} branch", name) for name in BOTH}

# Table 4; Table 2, whose Grad-Blending is not built here, and its directions of projection
ABLATION = (JOINT, IGDM, CAGP, UNIFIED, GMP)
STRATEGIES = (JOINT, OGM_GE, FIXED_C, FIXED_D, PCGRAD, GMP)
STRATEGIES_IN_PART = (JOINT, OGM_GE, GMP)
IN_BRANCHES = (*ALONE.values(), JOINT, GMP)
