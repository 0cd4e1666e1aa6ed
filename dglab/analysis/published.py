"""The paper's own evidence for each claim: the differences that its printed tables give, beside which ours stand.

Each is computed from the tables in :mod:`dglab.paper`. The paper prints one training a row, so none has an interval.
"""

import pandas as pd

from dglab import paper
from dglab.tasks import parse_task

MAIN, THREE = "G+S+I+M->C", "G+S+I->C"
NOT_PRINTED = "not printed"


def published_differences(number: int) -> dict[str, str]:
    """The paper's own difference for each part of a claim that its tables allow.

    Args:
        number: of the claim, see :data:`dglab.paper.CLAIMS`.

    Returns:
        By the name of the part, see :func:`dglab.analysis.claims.judge`: ``+2.24``, in the part's unit, with a remark
        where other rows of the same table say more; under the empty name what belongs to no part.
    """
    return _EVIDENCE[number]()


def _miou(name: str, index: list[str], **fields: str) -> pd.Series:
    table = paper.table(name)
    for column, value in fields.items():
        table = table[table[column] == value]
    return table.set_index(index if len(index) > 1 else index[0])["miou"]


def _on_tasks(gain: pd.Series, remark: str = "", without: tuple[str, ...] = ()) -> str:
    """``+2.24 (G+S+I->M: -0.26)``: a difference on the main task, those on the others, and a remark."""
    others = [f"{task}: {value:+.2f}" for task, value in gain.items() if task not in (MAIN, *without)]
    return f"{gain[MAIN]:+.2f} ({', '.join(others)}{'; ' + remark if remark else ''})"


def _claim_1() -> dict[str, str]:
    miou = _miou("table03_ablation", ["method", "task"])
    gain = miou["MLDG"] - miou["AGG"]  # by task
    four, three = gain[MAIN], gain[THREE]
    return {
        "MLDG - AGG": _on_tasks(gain, without=(THREE,)),
        "that with four sources - that with three": f"{four - three:+.2f} ({THREE}: {three:+.2f})",
    }


def _claim_2() -> dict[str, str]:
    miou = _miou("table03_ablation", ["method", "task"])
    return {
        "AGG - AGG+TN (M = 4)": _on_tasks(miou["AGG"] - miou["AGG+TN"], "M not stated"),
        "MLDG+TN - MLDG (M = 4)": _on_tasks(miou["MLDG+TN"] - miou["MLDG"], "M not stated"),
    }


def _claim_3() -> dict[str, str]:
    miou = _miou("table03_ablation", ["method", "task"])
    return {
        "MLDG+SIB - MLDG+TN (M = 5)": _on_tasks(miou["MLDG+SIB"] - miou["MLDG+TN"], "M not stated"),
        "log of the ratio of deviations over orders, TN (M = 5) : SIB": NOT_PRINTED,
    }


def _claim_4() -> dict[str, str]:
    miou = _miou("table04_meta_split", ["meta_train_domains"])
    return {"2:2 - 3:1": f"{miou[2] - miou[3]:+.2f}", "2:2 - 1:3": f"{miou[2] - miou[1]:+.2f}"}


def _claim_5() -> dict[str, str]:
    return dict.fromkeys(("MLDG+TN (M = 1) - MLDG", "AGG - the best of AGG+TN over M"), f"{NOT_PRINTED} (a plot)")


def _claim_6() -> dict[str, str]:
    miou = _miou("table05_selection_policy", ["method"])
    tn = miou["MLDG+TN"]
    return {
        "TN (M = 5) - QIB": f"{tn - miou['MLDG+QIB']:+.2f} (M not stated)",
        "SIB - TN (M = 5)": f"{miou['MLDG+SIB'] - tn:+.2f} (M not stated)",
    }


def _claim_7() -> dict[str, str]:
    table = paper.table("table06_style_layer").set_index("style_layer")[["miou", "selection_accuracy"]]
    best = table.loc[1] - table.drop(index=1).max()
    return {
        "selection accuracy of layer 1 - the best other layer's, percentage points":
            f"{best['selection_accuracy']:+.2f}",
        "mIoU of layer 1 - the best other layer's": f"{best['miou']:+.2f}",
    }  # fmt: skip


def _claim_8() -> dict[str, str]:
    miou = _miou("table07_queue_size", ["queue_size"])
    return {"Q = 128 - the best other Q": f"{miou[128] - miou.drop(128).max():+.2f}"}


def _claim_9() -> dict[str, str]:
    miou = _miou("table08_source_domains", ["sources"])
    grows = miou["+".join(parse_task(MAIN).sources)] - miou["G"]
    printed = f"{grows:+.2f} (the method of G is not stated)"
    return {"the same, images grow": printed, "": f"four sources - G alone: {printed}"}


def _claim_10() -> dict[str, str]:
    table = paper.table("table09_source_and_target")
    means = table[table["role"] == "source"].groupby("method")["miou"].mean()
    return {
        "MLDG+SIB - MLDG on the sources": f"{means['MLDG+SIB'] - means['MLDG']:+.2f}",
        "AGG - AGG+SIB on the sources": f"{means['AGG'] - means['AGG+SIB']:+.2f}",
    }


def _claim_11() -> dict[str, str]:
    """Its three networks are others than ours, and AGG is printed for the first alone."""
    table = paper.table("table10_backbones").pivot(index="backbone", columns="method", values="miou")
    gain = table["MLDG+SIB"] - table["MLDG"]
    return {"": "MLDG+SIB - MLDG: " + ", ".join(f"{value:+.2f} ({name})" for name, value in gain.items())}


def _claim_12() -> dict[str, str]:
    miou = _miou("table11_adabn", ["method", "task"])
    return {"MLDG+SIB - MLDG+AdaBN": _on_tasks(miou["MLDG+SIB"] - miou["MLDG+AdaBN"])}


_EVIDENCE = {
    1: _claim_1, 2: _claim_2, 3: _claim_3, 4: _claim_4, 5: _claim_5, 6: _claim_6, 7: _claim_7, 8: _claim_8,
    9: _claim_9, 10: _claim_10, 11: _claim_11, 12: _claim_12,
}  # fmt: skip
