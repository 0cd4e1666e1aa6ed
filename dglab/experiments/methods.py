"""The methods that studies compare: their labels, their settings, and their rows in the tidy table.

A record here is what a table or figure shows as one row, curve or panel. Its ``rows`` selects by the fields of the tidy
table, never by ``method``, which is for display only.
"""

import functools
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pandas as pd

from dglab.experiments.gmp_methods import ABLATION, ALONE, STRATEGIES
from dglab.testtime.methods import BANK_POLICIES

M = 4  # the paper's default number of neighbours


@dataclass(frozen=True)
class TrainingMethod:
    """A way to train: one of the paper's two, or a control that could explain their difference.

    Args:
        label: for display.
        method: a key of :data:`dglab.training.methods.METHODS`; ``train_method`` in the table.
        inner_step: False for MLDG with an inner learning rate of 0.
    """

    label: str = field(compare=False)
    method: str
    inner_step: bool = True

    @property
    def settings(self) -> dict[str, Any]:
        """The changes that it makes to the preset's training settings."""
        return {"method": self.method} if self.inner_step else {"method": self.method, "inner_lr": 0.0}

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows of the tidy table that belong to networks trained so."""
        return frame[(frame["train_method"] == self.method) & ((frame["inner_lr"] == 0) != self.inner_step)]


@dataclass(frozen=True)
class Normalization:
    """A way to normalize at test time. A field that is None matches any value.

    Args:
        label: for display.
        method: of the test, see :data:`dglab.testtime.methods.TEST_METHODS`; ``test_method`` in the table.
        batch_size: M of TN.
        prior: share of source statistics.
        statistics: of a bank.
    """

    label: str = field(compare=False)
    method: str
    batch_size: int | None = None
    prior: float | None = None
    statistics: str | None = None

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows of the tidy table that belong to tests of this kind."""
        wanted = {name: getattr(self, name) for name in ("batch_size", "prior", "statistics")}
        given = {name: value for name, value in wanted.items() if value is not None}
        return select(frame, test_method=self.method, **given)


class Shown(Protocol):
    """Anything with ``rows``, for example a :class:`TrainingMethod` or a :class:`Normalization`."""

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame: ...


def trained_in(frame: pd.DataFrame) -> list[TrainingMethod]:
    """The training methods that a tidy table has rows of, in the order of :data:`TRAINING_METHODS`."""
    return [method for method in TRAINING_METHODS if len(method.rows(frame))]


def select(frame: pd.DataFrame, *shown: Shown, **fields: Any) -> pd.DataFrame:
    """The rows of a tidy table that belong to all of these records and have these values: ``select(frame, MLDG, SIB)``.

    Args:
        frame: a tidy table.
        shown: training methods and normalizations.
        fields: columns and their values.
    """
    wanted = [frame[column] == value for column, value in fields.items()]
    frame = frame[functools.reduce(operator.and_, wanted)] if wanted else frame  # one copy, not one a column
    for one in shown:  # of the few rows that are left
        frame = one.rows(frame)
    return frame


AGG = TrainingMethod("AGG", "agg")
# the controls from AGG2 to MLDG_INNER_0 each have one more thing in common with MLDG
AGG2 = TrainingMethod("AGG2", "agg2")  # twice the loss: at the same learning rate, MLDG's step length
SPLIT = TrainingMethod("split", "split")  # two passes over mixed halves: also its batch sizes
MLDG_INNER_0 = TrainingMethod("MLDG inner 0", "mldg", inner_step=False)  # also its domain split; no inner step
MLDG = TrainingMethod("MLDG", "mldg")
MLDG_MEAN = TrainingMethod("MLDG mean", "mldg_mean")  # half of each loss: at the same learning rate, AGG's step length
PROJECTED = TrainingMethod("projected", "projected")  # GMP's projection between domains instead of the inner step
BY_DOMAIN = TrainingMethod("by domain", "by_domain")  # AGG with one pass per domain: no meta-learning at all
BY_DOMAIN2 = TrainingMethod("by domain, 2x", "by_domain2")  # and twice the loss
TRAINING_METHODS = (AGG, AGG2, SPLIT, BY_DOMAIN, BY_DOMAIN2, MLDG_INNER_0, MLDG, MLDG_MEAN)
# The main question: what does the domain split do to BatchNorm, and what does the inner step add to it?
MAIN_METHODS = (AGG, BY_DOMAIN, MLDG_INNER_0, MLDG)

SOURCE_BN = Normalization("source BN", "bn")
BN_REESTIMATED = Normalization("BN re-estimated", "bn-reestimated")
# M + 1: as many images as SIB normalizes; 16: the authors' evaluation by default
TN_1, TN_4, TN_5, TN_16 = (Normalization(f"TN, M = {m}", "tn", m, prior=0.0) for m in (1, M, M + 1, 16))
ADABN = Normalization("AdaBN", "adabn")
RANDOM, QIB, SIB, ORACLE = (
    Normalization(label, method, statistics="joint")
    for label, method in ((f"random {M}", "random"), ("QIB", "qib"), ("SIB", "sib"), ("oracle", "oracle"))
)
QIB_CACHED, SIB_CACHED = (Normalization(f"{one.label} cached", one.method, statistics="cached") for one in (QIB, SIB))

_SUFFIXES = {"bn": "", "bn-reestimated": "+BN re-estimated", "tn": "+TN", "adabn": "+AdaBN", "guarded": "+guarded",
             **{method: f"+{method.upper()}" if method in ("qib", "sib") else f"+{method}" for method in BANK_POLICIES},
             }  # fmt: skip


def display_name(row: Mapping[str, Any]) -> str:
    """The column ``method`` of a row of the tidy table: "MLDG inner 0+TN", "AGG+TN prior 0.25".

    For display only: no code parses it or compares with it.

    Args:
        row: the other fields of the row.
    """
    return (
        training_name(row)
        + (f" {row['domains_per_pass']} domain(s) a pass" if row["domains_per_pass"] else "")
        + (" (ImageNet)" if row["weights"] == "imagenet" else "")
        + _SUFFIXES[row["test_method"]]
        + (" cached" if row["statistics"] == "cached" else "")
        + (f" prior {row['prior']:g}" if row["prior"] else "")
        + (f", {row['branch']} branch" if row["branch"] else "")
        + (f", without {row['without']}" if row["without"] else "")
        + (f", {row['shift']} at {row['dose']:g}" if row["shift"] else "")
    )


def training_name(row: Mapping[str, Any]) -> str:
    """The way of training of a row of the tidy table: "MLDG inner 0". For display only."""
    if row["train_method"] == "gmp":
        known = {
            (one.variant, "+".join(one.modalities)): one.label for one in (*ABLATION, *STRATEGIES, *ALONE.values())
        }
        return known.get((row["variant"], row["modalities"]), f"GMP {row['variant']} of {row['modalities']}")
    labels = {(known.method, known.inner_step): known.label for known in (*TRAINING_METHODS, PROJECTED)}
    return labels.get((row["train_method"], row["inner_lr"] != 0), row["train_method"])
