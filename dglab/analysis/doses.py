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
        add(6, method, "TN - source BN", "1.5 minus dose 0", "positive", _growth(rows, method))
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
        A row for each ``target``, way it was ``trained with``, ``shift``, ``test`` and ``dose`` (0: the images as they
        are): the mean ``gain`` in points of mIoU over the ``trainings`` that have every dose of that curve. The test
        ``SIB - QIB`` is the difference of the two on a stream of which every second image is under the shift.
    """
    each = _gains_of_networks(frame)
    doses = each["test"].map(lambda test: len(SEVERITIES) + (test != SELECTION))  # no two targets without a shift
    whole = each[each.groupby([*_CURVE, "train_seed"])["dose"].transform("size") == doses]
    means = whole.groupby([*_CURVE, "dose"], sort=False)["gain"].agg(["mean", "size"]).reset_index()
    return means.rename(columns={"mean": "gain", "size": "trainings"})


_CURVE = ["target", "trained with", "shift", "test"]


def photometric_table(gains: pd.DataFrame) -> list[dict[str, str]]:
    """The same for reading: a row for each curve, a column a dose.

    Args:
        gains: as :func:`photometric_gains` returns them.
    """
    return [
        {**dict(zip(_CURVE, names, strict=True)), **{f"{one.dose:g}": f"{one.gain:+.2f}" for one in part.itertuples()}}
        for names, part in gains.groupby(_CURVE, sort=False)
    ]


def photometric_means(frame: pd.DataFrame) -> list[dict[str, str]]:
    """The same in short: means over the shifts of colour, and over those of detail.

    Args:
        frame: a tidy table with the study ``photometric``.

    Returns:
        A row for each target, kind of shift and way to train; a column a dose, "source BN: gain of TN / SIB / AdaBN",
        over the networks that have all of these.
    """
    each = _of_networks(frame)
    found = []
    for target in each["target"].unique():
        for kind, shifts in (("colour", COLOUR), ("detail", DETAIL)):
            for method in TRAINED:
                own = each[(each["target"] == target) & (each["trained with"] == method.label)]
                cells = {}
                for dose in (0.0, *SEVERITIES):
                    by_test = {test: _mean_over(own[own["test"] == test], shifts, dose)
                               for test in (SOURCE_BN.label, *PHOTOMETRIC)}  # fmt: skip
                    common = pd.DataFrame(by_test).dropna()
                    if common.empty:
                        break
                    level, *gains = common.mean()
                    cells[f"{dose:g}"] = f"{level:.1f}: " + " / ".join(f"{gain:+.1f}" for gain in gains)
                else:
                    found.append({"unseen": target, "shifts of": kind, "trained with": method.label, **cells})
    return found


def selection_means(frame: pd.DataFrame) -> list[dict[str, str]]:
    """SIB - QIB on a stream of which every second image is shifted, a mean over the shifts of colour; a column a dose.

    Args:
        frame: a tidy table with the study ``photometric``.
    """
    each = _gains_of_networks(frame)
    each = each[each["test"] == SELECTION]
    found = []
    for (target, trained), own in each.groupby(["target", "trained with"], sort=False):
        means = {f"{dose:g}": _mean_over(own, COLOUR, dose).mean() for dose in SEVERITIES}
        if not any(np.isnan(mean) for mean in means.values()):
            cells = {dose: f"{mean:+.2f}" for dose, mean in means.items()}
            found.append({"stream of": target, "trained with": trained, **cells})
    return found


def _gains_of_networks(frame: pd.DataFrame) -> pd.DataFrame:
    """The gain of each network, in the columns of a curve, with its ``train_seed``, ``dose`` and ``gain``."""
    each = _of_networks(frame)
    return each[each["test"] != SOURCE_BN.label]


def _of_networks(frame: pd.DataFrame) -> pd.DataFrame:
    """The same, and as the ``gain`` of source BN its own mIoU."""
    rows = frame[(frame["study"] == "photometric") & (frame["metric"] == "miou")]
    found = []
    for method in TRAINED:
        own = method.rows(rows)
        alone, beside = (own[(own["domain_evaluated"] == own["target"]) == which] for which in (True, False))
        plain = _by_network(SOURCE_BN.rows(alone))
        gains = {SOURCE_BN.label: plain}
        gains |= {name: _by_network(test.rows(alone)) - plain for name, test in PHOTOMETRIC.items()}
        gains[SELECTION] = _by_network(SIB_CACHED.rows(beside)) - _by_network(QIB_CACHED.rows(beside))
        for test, gain in gains.items():
            found.append(gain.dropna().rename("gain").reset_index().assign(test=test, **{"trained with": method.label}))
    each = pd.concat(found, ignore_index=True)
    as_they_are = each[each["shift"] == ""]
    under = [as_they_are.assign(shift=shift) for shift in (*COLOUR, *DETAIL)]  # where each shift's curve begins
    each = pd.concat([*under, each[each["shift"] != ""]], ignore_index=True)
    return each.sort_values("dose", kind="stable")[[*_CURVE, "train_seed", "dose", "gain"]]


def _by_network(rows: pd.DataFrame) -> pd.Series:
    rows = rows.assign(shift=rows["shift"].fillna("").astype(str), dose=rows["dose"].fillna(0.0))
    return rows.groupby(["target", "shift", "dose", "train_seed"])["value"].mean()


def photometric_predictions(frame: pd.DataFrame) -> list[Prediction]:
    """The predictions 10 to 13 of docs/predictions.md: each network of a training method is a unit, of both targets.

    The targets that the networks were tested on are named: an interval over trainings of these, no forecast for others.

    Args:
        frame: a tidy table with the study ``photometric``; what it lacks is left out.
    """
    each = _gains_of_networks(frame)
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
            own = each[(each["test"] == test) & (each["trained with"] == method.label)]
            value = _mean_over(own, shifts, dose)
            base = 0 * value if less is None else _mean_over(own, shifts, less)
            if (value - base).notna().any():
                what = test if test == SELECTION else f"{test} - source BN"
                than = "" if less is None else f" minus that at {less:g}"
                targets = (value - base).dropna().index.get_level_values("target").unique()
                where = f"{', '.join(targets)}: dose {dose:g}{than}"
                found.append(Prediction(number, f"{method.label}: {what}, mean of {', '.join(shifts)}", where, expected,
                                        paired_difference(value, base)))  # fmt: skip
    return found


def _mean_over(each: pd.DataFrame, shifts: tuple[str, ...], dose: float) -> pd.Series:
    """A gain at one dose, averaged over shifts, by network; nan where one of the shifts is missing."""
    at = each[(each["dose"] == dose) & each["shift"].isin(shifts)]
    wide = at.pivot(index=["target", "train_seed"], columns="shift", values="gain").reindex(columns=list(shifts))
    return wide.mean(axis=1, skipna=False)
