"""Dose and response: the gain of target statistics over source BN against the gap between target and sources."""

import numpy as np
import pandas as pd

from dglab.analysis.intervals import Difference, paired_difference, per_training
from dglab.analysis.predictions import Prediction
from dglab.data.shifts import COLOUR, DETAIL, SEVERITIES
from dglab.experiments.methods import (
    ADABN,
    AGG,
    BY_DOMAIN,
    MLDG,
    QIB_CACHED,
    SIB,
    SIB_CACHED,
    SOURCE_BN,
    TN_4,
    Normalization,
    TrainingMethod,
    select,
)

TRAINED = (AGG, BY_DOMAIN, MLDG)
TESTED = (TN_4, SIB, ADABN)
PHOTOMETRIC = {test.label: test for test in (TN_4, SIB_CACHED, ADABN)}
SELECTION = "SIB - QIB"


def dose_response(frame: pd.DataFrame) -> pd.DataFrame:
    """The gain of each way to normalize over source BN of the same networks, dose by dose.

    Args:
        frame: a tidy table with the study ``style_dose``.

    Returns:
        A row for each of ``trained with``, ``test`` and ``dose``: ``gain`` in points of mIoU, the ends ``low`` and
        ``high`` of its 95 % interval over trainings (infinite for one), and their number.
    """
    rows = frame[frame["study"] == "style_dose"]
    found = []
    for method in TRAINED:
        for test in TESTED:
            for dose in sorted(rows["dose"].dropna().unique()):
                gain = _gap(rows, method, test, SOURCE_BN, dose)
                if gain is not None:
                    found.append({"trained with": method.label, "test": test.label, "dose": dose, "gain": gain.mean,
                                  "low": gain.low, "high": gain.high, "trainings": gain.trainings})  # fmt: skip
    columns = ["trained with", "test", "dose", "gain", "low", "high", "trainings"]
    return pd.DataFrame(found, columns=columns)


def dose_table(frame: pd.DataFrame) -> list[dict[str, str]]:
    """The same for reading: one row for each training method and test, one column per dose."""
    response = dose_response(frame)
    return [
        {"trained with": trained, "gain of": test, **{f"{one.dose:g}": f"{one.gain:+.2f}" for one in part.itertuples()}}
        for (trained, test), part in response.groupby(["trained with", "test"], sort=False)
    ]


def dose_predictions(frame: pd.DataFrame) -> list[Prediction]:
    """The predictions 6 to 9 of docs/predictions.md and their outcomes.

    Args:
        frame: a tidy table with the study ``style_dose``; what it lacks is left out.
    """
    rows = frame[frame["study"] == "style_dose"]
    found: list[Prediction] = []

    def add(number: int, method: TrainingMethod, what: str, dose: str, expected: str, gap: Difference | None) -> None:
        if gap is not None:
            found.append(Prediction(number, f"{method.label}: {what}", f"dose {dose}", expected, gap))

    for method in TRAINED:
        others = "negative" if method is AGG else "positive"
        add(6, method, "TN - source BN, that at 1.5 minus that at 0", "1.5, 0", "positive", _growth(rows, method))
        add(7, method, "TN - source BN", "0", others, _gap(rows, method, TN_4, SOURCE_BN, 0.0))
        add(8, method, "AdaBN - TN", "0", "no difference", _gap(rows, method, ADABN, TN_4, 0.0))
        if method is not AGG:
            add(9, method, "SIB - TN", "0", "positive", _gap(rows, method, SIB, TN_4, 0.0))
            add(9, method, "SIB - TN", "1", "no difference", _gap(rows, method, SIB, TN_4, 1.0))
    return sorted(found, key=lambda one: one.number)


def _values(rows: pd.DataFrame, method: TrainingMethod, test: Normalization, dose: float) -> pd.Series:
    return per_training(select(rows, method, test, dose=dose))


def _gap(
    rows: pd.DataFrame, method: TrainingMethod, better: Normalization, worse: Normalization, dose: float
) -> Difference | None:
    """The difference of two tests of the same networks at one dose; None where one has not run."""
    first, second = (_values(rows, method, test, dose) for test in (better, worse))
    return paired_difference(first, second) if (first - second).notna().any() else None


def _growth(rows: pd.DataFrame, method: TrainingMethod) -> Difference | None:
    """The growth of TN's gain from the lowest dose to the highest; None with fewer than two doses."""
    doses = rows["dose"].dropna().unique()
    if len(doses) < 2:
        return None
    gains = [
        _values(rows, method, TN_4, dose) - _values(rows, method, SOURCE_BN, dose)
        for dose in (np.max(doses), np.min(doses))
    ]
    return paired_difference(*gains) if (gains[0] - gains[1]).notna().any() else None


# ------------------------------------------------------------------------------ photometric shifts of real images


def photometric_gains(frame: pd.DataFrame) -> pd.DataFrame:
    """What target statistics gain over source BN on an unseen real target under photometric shifts.

    Args:
        frame: a tidy table with the study ``photometric``.

    Returns:
        A row for each ``target``, way it was ``trained with``, ``shift`` and ``dose`` (0: the images as they are), with
        a column a test: the mean gain over trainings in points of mIoU. Under ``SIB - QIB``, by the same trainings: the
        difference of the two on a stream of which half is under the shift.
    """
    rows = frame[(frame["study"] == "photometric") & (frame["metric"] == "miou")]
    found = []
    for task in rows["task"].unique():
        of_task = rows[rows["task"] == task]
        for method in TRAINED:
            for shift in (*COLOUR, *DETAIL):
                for dose in (0.0, *SEVERITIES):
                    networks = _photometric(of_task, method, shift, dose)
                    if len(networks):
                        found.append({"target": of_task["target"].iloc[0], "trained with": method.label,
                                      "shift": shift, "dose": dose, **networks.mean().to_dict(),
                                      "trainings": len(networks)})  # fmt: skip
    columns = ["target", "trained with", "shift", "dose", *PHOTOMETRIC, SELECTION, "trainings"]
    return pd.DataFrame(found, columns=columns)


def _photometric(rows: pd.DataFrame, method: TrainingMethod, shift: str, dose: float) -> pd.DataFrame:
    """The gains at one dose and the worth of selection, a row a network."""
    at = rows[rows["shift"].isna()] if dose == 0 else select(rows, shift=shift, dose=dose)
    alone = at[at["domain_evaluated"] == at["target"]]
    beside = at[at["domain_evaluated"] != at["target"]]
    plain = per_training(select(alone, method, SOURCE_BN))
    gains = {name: per_training(select(alone, method, test)) - plain for name, test in PHOTOMETRIC.items()}
    sib, qib = (per_training(select(beside, method, test)) for test in (SIB_CACHED, QIB_CACHED))
    return pd.DataFrame({**gains, SELECTION: sib - qib}).dropna(how="all")


def photometric_predictions(frame: pd.DataFrame) -> list[Prediction]:
    """The predictions 10 to 13 of docs/predictions.md: every network of a training method is a unit, over all targets.

    Args:
        frame: a tidy table with the study ``photometric``; what it lacks is left out.
    """
    rows = frame[(frame["study"] == "photometric") & (frame["metric"] == "miou")]
    low, high = SEVERITIES[0], SEVERITIES[-1]
    tests = (
        (10, TN_4.label, COLOUR, (high, 0.0), "positive"),
        (11, TN_4.label, DETAIL, (high, 0.0), "positive"),
        (12, SELECTION, COLOUR, (high, low), "positive"),
        (13, SELECTION, COLOUR, (low, None), "no difference"),
    )
    found = []
    for number, test, shifts, (dose, less), expected in tests:
        for method in TRAINED:
            value = _mean_over(rows, method, test, shifts, dose)
            base = 0 * value if less is None else _mean_over(rows, method, test, shifts, less)
            if (value - base).notna().any():
                what = "SIB - QIB" if test == SELECTION else f"{test} - source BN"
                than = "" if less is None else f" minus that at {less:g}"
                found.append(Prediction(number, f"{method.label}: {what}, mean of {', '.join(shifts)}",
                                        f"dose {dose:g}{than}", expected, paired_difference(value, base)))  # fmt: skip
    return found


def _mean_over(
    rows: pd.DataFrame, method: TrainingMethod, test: str, shifts: tuple[str, ...], dose: float
) -> pd.Series:
    """A gain at one dose, averaged over shifts, by network; nan where one of the shifts is missing."""
    each = [_photometric(rows, method, shift, dose)[test] for shift in shifts]
    return pd.concat(each, axis=1).mean(axis=1, skipna=False)
