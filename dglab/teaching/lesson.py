"""Small things that every lesson uses: the library's own lines, and the paper's claims beside what came out."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import Markdown

from dglab.analysis.intervals import summarize
from dglab.report.overview import PARTS, claim_rows


def source(*objects: Any) -> Markdown:
    """The lines of the library that implement something, with the file they stand in."""
    blocks = []
    for thing in objects:
        place = inspect.getmodule(thing).__name__.replace(".", "/") + ".py"
        blocks.append(f"`{place}`\n```python\n{inspect.getsource(thing).rstrip()}\n```")
    return Markdown("\n\n".join(blocks))


def claims(frame: pd.DataFrame, numbers: Sequence[int]) -> pd.DataFrame:
    """The paper's claims of these numbers, its own evidence and ours; see :func:`claims_at`.

    Args:
        frame: a tidy table.
        numbers: of the claims, see :data:`dglab.paper.CLAIMS`.
    """
    presets = frame["preset"].dropna().unique()
    return claims_at({presets[0] if len(presets) else "here": frame}, numbers)


def claims_at(scales: Mapping[str, pd.DataFrame], numbers: Sequence[int]) -> pd.DataFrame:
    """The same at several scales, side by side: each part with its interval, 95 % for all parts of a claim together.

    Args:
        scales: the tidy table of each, by name.
        numbers: of the claims.
    """
    return pd.DataFrame(claim_rows(scales, numbers)).set_index(["claim", PARTS])  # a claim's text stands once


def pivot(frame: pd.DataFrame, index: Sequence[str], metric: str = "miou", digits: int = 1) -> pd.DataFrame:
    """Means with both deviations, rounded for reading; empty where there is none.

    Args:
        frame: a tidy table.
        index: the columns that make a row: ``["train_method", "test_method", "batch_size"]``, or ``["method"]``, which
            is written for this. Where a frame holds MLDG and its control without an inner step, ``inner_lr`` tells
            them apart.
        metric: which rows of the table.
        digits: to round to.
    """
    table = summarize(frame, index, metric)
    for column in index:  # an empty cell where a setting does not apply
        table[column] = table[column].astype(object).where(table[column].notna(), "")
    table = table.set_index(list(index)).rename(columns={
        "mean": f"{metric} (%)", "train_sd": "± over trainings", "test_sd": "± over orders of arrival",
    })  # fmt: skip
    return table.dropna(axis=1, how="all").round(digits).astype(object).where(lambda cells: cells.notna(), "")
