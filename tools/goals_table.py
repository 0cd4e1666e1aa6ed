"""What was asked of the recorded study before it was run, and what it reached: a table of docs/results.md."""

import pandas as pd

from dglab.analysis.claims import Part, judge
from dglab.analysis.intervals import on_sources
from dglab.experiments.methods import AGG, SOURCE_BN, select
from dglab.experiments.record import expected_hours, recorded_networks
from dglab.experiments.runner import open_lab
from dglab.experiments.trials import studies_of

OVER_TRAININGS = (1, 4, 9, 11)  # the claims whose primary test compares networks that were trained in different ways
IN_POINTS = (2, 3, 5, 6, 7, 8, 10, 12)  # those whose primary test compares tests of one network


def goals(full: pd.DataFrame, quick: pd.DataFrame) -> list[dict[str, str]]:
    """A row for each number that was set, with what was reached.

    Args:
        full, quick: the recorded tidy tables of these presets.
    """
    verdicts = {verdict.claim.number: verdict for verdict in judge(full)}
    primary = {number: [part for part in v.parts if part.primary] for number, v in verdicts.items()}
    decided = [number for number, parts in primary.items() if all(map(_is_decided, parts))]
    within = [_half(part) for number in IN_POINTS for part in primary[number] if _is_miou(part)]
    between = {f"{number}. {part.name}": _half(part) for number in OVER_TRAININGS for part in primary[number]}
    wide = {name: half for name, half in between.items() if half > 1}
    narrow = [half for name, half in between.items() if name not in wide]
    return [
        {"what": what, "set": goal, "reached": reached}
        for what, goal, reached in (
            ("claims decided (no part of the primary test open)", "9 of 12", f"{len(decided)} of 12"),
            ("half-width of an interval between tests of one network", "0.5 points at most", _range(within)),
            ("the same between trainings", "1.0 points at most",
             "; ".join([_range(narrow), *(f"{_points(half)} ({name})" for name, half in wide.items())])),
            ("mIoU of AGG on the validation images of its four sources", "33 (`quick`: 27)",
             f"{_on_sources(full):.1f} (`quick`: {_on_sources(quick):.1f})"),
            ("classes with 5 % or more where a network is trained on the target itself", "19 of 19", _classes(full)),
            ("all of `full`, on two cores", "20 hours", f"{_hours():.0f} hours"),
        )
    ]  # fmt: skip


def _is_decided(part: Part) -> bool:
    return part.difference is not None and part.difference.verdict != "open"


def _is_miou(part: Part) -> bool:
    return part.difference is not None and not part.name.startswith(("log", "selection accuracy"))


def _half(part: Part) -> float:
    """Half of an interval; infinite where it rests on one training a side."""
    return float("inf") if part.difference is None else (part.difference.high - part.difference.low) / 2


def _points(half: float) -> str:
    return f"{half:.2f}" if half < float("inf") else "no interval, one training each"


def _range(halves: list[float]) -> str:
    return f"{min(halves):.2f} to {max(halves):.2f}"


def _on_sources(frame: pd.DataFrame) -> float:
    rows = on_sources(select(frame, AGG, SOURCE_BN, study="source_and_target", metric="miou"))
    return rows.groupby("domain_evaluated")["value"].mean().mean()


def _classes(frame: pd.DataFrame) -> str:
    each = select(frame, study="bound", metric="iou").groupby("class")["value"].mean()
    low = ", ".join(f"{name} {value:.1f}" for name, value in each[each < 5].items())
    return f"{(each >= 5).sum()} of {len(each)} (not {low})"


def _hours() -> float:
    lab = open_lab("full", device="cpu", use_shipped=False)
    every = {trial.training for study in studies_of(lab).values() for trial in study(lab)}
    return expected_hours(recorded_networks("full"), every, 2)
