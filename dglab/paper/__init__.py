"""The paper's published figures as data, and its claims.

Source: Zhang, Qi, Shi, Gao, "Generalizable Model-agnostic Semantic Segmentation via Target-specific Normalization",
arXiv 2003.12296; for the files ``gmp_*``: Li, Shen, Li, Xu, Khan, "Balancing Multimodal Domain Generalization via
Gradient Modulation and Projection", arXiv 2603.14175. Figures as printed; where the paper disagrees with itself,
:data:`CLAIMS` says so.
"""

from importlib import resources
from typing import NamedTuple

from dglab.utils.errors import InputError
from dglab.utils.extras import extras_named

with extras_named("dglab.paper"):
    import pandas as pd


def table(name: str) -> pd.DataFrame:
    """A published table by the name of its file without ``.csv``, for example ``table03_ablation``.

    Raises:
        InputError: for an unknown name.
    """
    folder = resources.files(__name__) / "tables"
    known = sorted(path.name.removesuffix(".csv") for path in folder.iterdir() if path.name.endswith(".csv"))
    if name not in known:
        raise InputError(f"unknown table {name!r}; the published tables are {', '.join(known)}")
    with (folder / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


class Claim(NamedTuple):
    """A claim of the paper in one sentence, where it is made, and which of the paper's own numbers contradict it."""

    number: int
    text: str
    where: str
    against: str = ""


CLAIMS: tuple[Claim, ...] = (
    Claim(1, "MLDG beats AGG on the target, more with four sources than with three", "Table 3",
          "G+S+I->M: 49.00 < 49.26"),
    Claim(2, "TN hurts AGG and helps MLDG", "Table 3",
          "G+S+I+C->M: MLDG+TN 53.32 < MLDG 53.85; G+S+I+M->C: AGG+SIB 54.48 > AGG 53.71"),
    Claim(3, "SIB beats TN, and varies less", "Table 3", "no deviation is printed for TN"),
    Claim(4, "a 2:2 split of the domains beats 3:1 and 1:3", "Table 4"),
    Claim(5, "mIoU rises with M, peaks, then falls a little; with MLDG even M = 1 beats source BN, with AGG no M does",
          "Figure 5"),
    Claim(6, "on a mixed stream QIB < TN < SIB", "Table 5"),
    Claim(7, "layer 1 gives the best selection accuracy and mIoU", "Table 6"),
    Claim(8, "a queue of about 128 is best", "Table 7",
          "Q = 64 to 256 differ by 0.10 at most, beside a deviation of 0.14"),
    Claim(9, "more sources help, most when they resemble the target", "Table 8",
          "the number of images grows with the sources"),
    Claim(10, "SIB also raises MLDG's performance on the sources and lowers AGG's", "Table 9",
          "GTA5 falls with MLDG too: 57.09 to 55.52"),
    Claim(11, "it carries over to stronger backbones", "Table 10"),
    Claim(12, "SIB beats AdaBN", "Table 11"),
)  # fmt: skip
