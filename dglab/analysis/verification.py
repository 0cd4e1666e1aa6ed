"""Whether a run agrees with the recorded ones: each training against a prediction interval for one more training."""

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from dglab.utils.errors import InputError

LEVEL = 0.999
SETTINGS = [
    "task", "train_method", "inner_lr", "order", "split", "backbone", "weights", "steps", "test_method",
    "domain_evaluated", "train_images", "lr", "batch_per_domain", "domains_per_pass", "shift", "dose", "batch_size",
    "neighbors", "capacity", "style_layer", "statistics", "prior", "modalities", "variant", "branch", "without",
]  # fmt: skip
_OF_NETWORK = ["task", "train_method", "inner_lr", "order", "split", "backbone", "weights", "steps", "train_images",
               "lr", "batch_per_domain", "domains_per_pass", "modalities", "variant"]  # fmt: skip


def verify(frame: pd.DataFrame, record: pd.DataFrame) -> pd.DataFrame:
    """Each recorded setting and the result of this run.

    The interval is the prediction interval of one new training at a level of 99.9 %: the recorded mean, plus and minus
    what one training deviates by and the mean may be off by. The deviation is pooled over all settings with the same
    test method, because each has few trainings and they deviate alike; its degrees of freedom are those of the
    trainings, however many tests each has had.

    Args:
        frame: the tidy table of the run.
        record: the recorded one, of the same preset and data.

    Returns:
        A row a setting: its fields, ``recorded`` (mean mIoU), ``low`` and ``high``, ``here`` (of the training farthest
        from the mean), and ``verdict``: ``inside``, ``outside``, ``not bounded`` where the interval holds all of 0 to
        100 (the record has too few trainings of that test), or ``not run``.

    Raises:
        InputError: for a record without two trainings of anything, which bounds nothing.
    """
    known, here = _by_training(record), _by_training(frame)
    groups = known.groupby(SETTINGS, dropna=False)["value"].agg(["mean", "count", "var"]).reset_index()
    pooled = _pooled(groups)
    if not len(pooled):
        raise InputError("the record holds one training of each method, which bounds nothing; reinstall dglab")
    table = groups.merge(pooled, on="test_method", how="left")
    reach = stdtrit(table["freedom"], (1 + LEVEL) / 2) * np.sqrt(table["variance"])
    reach = reach * np.sqrt(1 + 1 / table["count"])
    table = table.assign(recorded=table["mean"], low=table["mean"] - reach, high=table["mean"] + reach)
    table = table.merge(here, on=SETTINGS, how="left").rename(columns={"value": "here"})
    distance = (table["here"] - table["recorded"]).abs()
    table = table.assign(distance=distance.fillna(0)).sort_values("distance", ascending=False, kind="stable")
    table = table.drop_duplicates(SETTINGS).sort_index()
    outside = (table["here"] < table["low"]) | (table["here"] > table["high"])
    unbounded = ~((table["low"] > 0) | (table["high"] < 100))  # one training of a test has no interval at all
    verdicts = {"not run": table["here"].isna(), "not bounded": unbounded, "outside": outside}
    table["verdict"] = np.select(list(verdicts.values()), list(verdicts), "inside")
    return table[[*SETTINGS, "recorded", "low", "high", "here", "verdict"]].reset_index(drop=True)


def _by_training(frame: pd.DataFrame) -> pd.DataFrame:
    """mIoU of each training in each setting, the mean over orders of arrival."""
    rows = frame[frame["metric"] == "miou"].drop_duplicates([*SETTINGS, "train_seed", "test_seed"])  # shared by studies
    return rows.groupby([*SETTINGS, "train_seed"], dropna=False)["value"].mean().reset_index()


def _pooled(groups: pd.DataFrame) -> pd.DataFrame:
    """For each test method the variance over trainings, pooled over settings, and its degrees of freedom."""
    groups = groups[groups["count"] > 1].assign(more=groups["count"] - 1)  # than one training
    networks = groups.groupby(["test_method", *_OF_NETWORK], dropna=False)["more"].max()
    squares = (groups["more"] * groups["var"]).groupby(groups["test_method"]).sum()
    variance = squares / groups.groupby("test_method")["more"].sum()
    return pd.DataFrame({"variance": variance, "freedom": networks.groupby("test_method").sum()}).reset_index()
