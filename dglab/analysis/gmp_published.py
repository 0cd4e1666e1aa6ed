"""What is known of the figures in GMP's paper, by our methods: accuracies on two video data sets, one figure a row."""

import pandas as pd

from dglab import paper
from dglab.experiments.gmp_methods import CAGP, GMP, IGDM, JOINT, OGM_GE, UNIFIED, MultimodalMethod

GRAD_BLENDING = "Grad-Blending"  # printed, and not built here
NOT_AT_HAND = "not at hand"  # which does not say that the paper lacks it
GAIN_OF_BRANCH = {"rgb": "+3.5 (video)", "depth": "+1.7 (audio)"}  # GMP - joint, of our modalities' counterparts
DATA_SETS = {"epic_kitchens_accuracy": "EPIC-Kitchens", "hac_accuracy": "HAC"}
# what the printed tables call a method
_TABLE_2 = {JOINT: "Base (concatenation fusion)", OGM_GE: "OGM-GE", GRAD_BLENDING: "Grad-Blending", GMP: "GMP"}
_TABLE_4 = {IGDM: "IGDM only", CAGP: "CAGP only", UNIFIED: "unified instead of decoupled modulation",
            GMP: "IGDM+CAGP (GMP)"}  # fmt: skip

Printed = dict[MultimodalMethod | str, pd.Series]  # accuracies by data set


def published_table_2() -> Printed:
    """The printed accuracies of the strategies."""
    table = paper.table("gmp_table02_gradient_strategies").set_index("method")
    return {method: table.loc[name] for method, name in _TABLE_2.items()}


def published_table_4() -> Printed:
    """The printed accuracies of the ablation, its base taken from Table 2."""
    table = paper.table("gmp_table04_ablation").set_index("variant")
    return {JOINT: published_table_2()[JOINT], **{method: table.loc[name] for method, name in _TABLE_4.items()}}


def published_difference(better: MultimodalMethod, worse: MultimodalMethod) -> str:
    """The difference of two rows of the ablation on each data set, for reading: ``+0.92 (EPIC-Kitchens), ...``."""
    gaps = published_table_4()[better] - published_table_4()[worse]
    return ", ".join(f"{gaps[column]:+.2f} ({name})" for column, name in DATA_SETS.items())
