"""Dose and response: the gain of target statistics over source BN against the gap between target and sources."""

import numpy as np
import pandas as pd

from dglab.analysis.intervals import Difference, paired_difference, per_training
from dglab.analysis.predictions import Prediction
from dglab.experiments.methods import (
    ADABN,
    AGG,
    BY_DOMAIN,
    MLDG,
    SIB,
    SOURCE_BN,
    TN_4,
    Normalization,
    TrainingMethod,
    select,
)

TRAINED = (AGG, BY_DOMAIN, MLDG)
TESTED = (TN_4, SIB, ADABN)


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
