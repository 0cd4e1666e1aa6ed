"""What a reader needs beside the paper's tables: the claims at several scales, which networks there are, and where
they were made. Rows of text, as in :mod:`dglab.report.tables`."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from dglab.analysis.claims import Part, Verdict, judge
from dglab.analysis.gmp_claims import judge_gmp
from dglab.analysis.published import published_differences
from dglab.experiments.methods import training_name
from dglab.experiments.record import recorded_networks
from dglab.report.tables import MISSING, PAPER, Row
from dglab.tasks import sources_of

VERDICT = "verdict"
PARTS = "difference (points of mIoU unless said)"
# what tells two trained networks apart, beside their sources and seed
NETWORK = ["train_method", "inner_lr", "order", "alpha", "split", "domains_per_pass", "train_images", "backbone",
           "weights", "lr", "batch_per_domain", "steps", "modalities", "variant", "alpha_k", "alpha_p"]  # fmt: skip
# how a setting is named where it is not the usual one of its method
_SETTINGS = {
    "split": "{}", "order": "order {}", "domains_per_pass": "domains a pass: {}", "train_images": "{} images a domain",
    "batch_per_domain": "{} images of each domain a step",
    "backbone": "{}", "weights": "{} weights", "lr": "rate {:g}", "steps": "{} steps",
}  # fmt: skip
_SPLITS = {"random": "cut anywhere"}


def claim_rows(scales: Mapping[str, pd.DataFrame], numbers: Collection[int] | None = None) -> list[Row]:
    """Each claim, the paper's own evidence, and ours at each scale: a row for the verdict, and one for each part.

    Args:
        scales: the tidy table of each, by name.
        numbers: of the claims; None takes all.

    Returns:
        Rows with ``claim``, the part, ``the paper`` (the same difference in its tables; in the row of the verdict what
        else its own figures say for or against the claim), and for each scale the difference with its interval and
        ``n``, the number of trainings that it rests on. A part that no scale has is left out.
    """
    return _claim_rows({scale: judge(frame) for scale, frame in scales.items()}, numbers, published_differences)


def gmp_claim_rows(scales: Mapping[str, pd.DataFrame], numbers: Collection[int] | None = None) -> list[Row]:
    """The same for the claims of the second paper (GMP)."""
    return _claim_rows({scale: judge_gmp(frame) for scale, frame in scales.items()}, numbers)


def _claim_rows(
    judged: Mapping[str, Sequence[Verdict]],
    numbers: Collection[int] | None,
    published: Callable[[int], dict[str, str]] = lambda _: {},
) -> list[Row]:
    rows: list[Row] = []
    for verdicts in zip(*judged.values(), strict=True):
        claim = verdicts[0].claim
        if numbers is not None and claim.number not in numbers:
            continue
        by_scale = dict(zip(judged, verdicts, strict=True))
        against = "; ".join(text for text in (published(claim.number).get(""), claim.against) if text)
        rows.append({
            "claim": f"{claim.number}. {claim.text}", PARTS: VERDICT, PAPER: against,
            **{cell: text for s, v in by_scale.items() for cell, text in ((s, v.outcome), (f"n ({s})", ""))},
        })  # fmt: skip
        rows += _part_rows(f"{claim.number}. {claim.text}", by_scale)
    return rows


def _part_rows(claim: str, by_scale: Mapping[str, Verdict]) -> list[Row]:
    parts: dict[str, dict[str, Part]] = {}  # by name, then by scale
    for scale, verdict in by_scale.items():
        for part in verdict.parts:
            if part.difference is not None:
                parts.setdefault(part.name, {})[scale] = part
    rows = []
    for name, found in parts.items():
        primary = next(iter(found.values())).primary
        row = {"claim": claim, PARTS: name if primary else f"beside it: {name}",
               PAPER: next(iter(found.values())).published}  # fmt: skip
        for scale in by_scale:
            gap = found[scale].difference if scale in found else None
            row |= {scale: MISSING if gap is None else str(gap), f"n ({scale})": "" if gap is None else gap.trainings}
        rows.append(row)
    return rows


def networks(frame: pd.DataFrame) -> pd.DataFrame:
    """The trained networks behind a table, one row each: its sources, training seed and settings.

    A network belongs to its sources, not to a task: the same one is tested on several targets. Those of GMP, the second
    paper, are not among them.
    """
    rows = frame[frame["train_method"] != "gmp"]
    rows = rows.assign(sources=rows["task"].map({task: sources_of(task) for task in rows["task"].unique()}))
    return rows.drop_duplicates(["sources", "train_seed", *NETWORK])[["sources", "train_seed", *NETWORK]]


def networks_table(frame: pd.DataFrame) -> list[Row]:
    """How many networks were trained in each way, by their sources; the last row is their sum."""
    found = networks(frame)
    usual = {
        method: {name: _most_common(part[name]) for name in _SETTINGS} for method, part in found.groupby("train_method")
    }
    trained = [_way(row, usual[row["train_method"]]) for row in found.to_dict("records")]
    counts = pd.crosstab(pd.Series(trained), found["sources"].reset_index(drop=True))
    order = sorted(counts.columns, key=lambda sources: (len(sources), sources))
    counts = counts[order].loc[list(dict.fromkeys(trained))]  # in the order of the studies
    total = {"trained with": "all", **counts.sum().to_dict(), "together": int(counts.to_numpy().sum())}
    rows = [
        {"trained with": name, **{s: n or "" for s, n in line.items()}, "together": int(line.sum())}
        for name, line in counts.iterrows()
    ]
    return [*rows, total]


def _most_common(values: pd.Series) -> Any:
    """The most frequent setting, None for an empty one; of two as frequent that of the earlier study."""
    return Counter(values.astype(object).where(values.notna(), None)).most_common(1)[0][0]


def _way(row: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    """The training method, with the settings in which it differs from most networks of that method."""
    unusual = [
        form.format(_SPLITS.get(row[name], row[name]))
        for name, form in _SETTINGS.items()
        if pd.notna(row[name]) and (pd.isna(usual[name]) or row[name] != usual[name])
    ]
    return ", ".join([training_name(row), *unusual])


def recorded_on(preset: str) -> str:
    """On which machines the recorded networks of a preset were made; empty if there is no record of that."""
    found = recorded_networks(preset)
    if found is None or found.empty:
        return ""
    counts = found.groupby(["machine", "instructions", "torch"]).size().sort_values(ascending=False)
    return "; ".join(
        f"{count} networks on {machine} with {instructions}, torch {torch}"
        for (machine, instructions, torch), count in counts.items()
    )
