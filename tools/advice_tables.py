"""How often advice is right, from ``docs/advice.csv`` and ``docs/guard.csv``.

Following advice is source BN for "source" and "undecided", the advised prior else. It is safe where that loses no more
than 0.3 points against source BN, right where besides it is within 1 point of the best of source BN, TN and the fixed
priors, chosen with labels; M = 4.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from dglab.testtime.advice import LITTLE, MUCH
from dglab.testtime.guarded import K, share_of_target
from tools.guard_tables import CHOICES, TEST, read

SAFE, NEAR = -0.3, 1.0  # points
THRESHOLDS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)  # of the distance, tried in place of K
SHARES = {"source BN": 0.0, "prior 0.9": 0.1, "prior 0.8": 0.2, "prior 0.5": 0.5, "TN": 1.0}
KEY = ["data", "train_method", "left_out", "tested", "train_seed"]


def cases() -> pd.DataFrame:
    """A row a network and domain: its advice, and the gain of every choice over source BN."""
    scores = read("guard.csv").query("shift == '' and batch_size == 4")
    scores = scores.pivot(index=KEY, columns="test", values="miou")[list(CHOICES)].dropna()
    found = read("advice.csv").set_index(KEY).join(scores, how="inner")
    for name in ("followed", *CHOICES[1:], CHOICES[0]):  # source BN last: the others are relative to it
        found[name] -= found[CHOICES[0]]
    found["best"] = found[list(CHOICES)].max(axis=1)
    return found.reset_index()


def judged(gain: pd.Series, best: pd.Series) -> pd.DataFrame:
    """Whether following is safe, and right."""
    safe = gain >= SAFE
    return pd.DataFrame({"safe": safe, "right": safe & (gain >= best - NEAR)})


def advised_share(case: pd.Series, threshold: float) -> float:
    """The share of the target's statistics that advice with another threshold would be followed by: 0 is source BN."""

    def share(distance: float) -> float:
        return case["home"] + (1 - case["home"]) * share_of_target(distance * K / threshold)

    shares = [share(case[name]) for name in ("distance", "even", "odd")]
    verdicts = {"source" if w <= LITTLE else "target" if w >= MUCH else "blend" for w in shares}
    return 0.0 if len(verdicts) > 1 or verdicts == {"source"} else shares[0]


def followed(found: pd.DataFrame, threshold: float) -> pd.Series:
    """The gain of following advice with another threshold, between the shares that were tested on a straight line."""
    shares, columns = list(SHARES.values()), list(SHARES)
    return found.apply(
        lambda case: float(np.interp(advised_share(case, threshold), shares, case[columns].astype(float))), axis=1
    )


def calibrated(found: pd.DataFrame) -> pd.DataFrame:
    """Each domain's cases by the threshold that has most right answers on all others; of equals, the nearest to K."""
    right = {t: judged(followed(found, t), found["best"])["right"] for t in THRESHOLDS}
    parts = []
    for _, cases_ in found.groupby("tested"):
        others = ~found.index.isin(cases_.index)
        chosen = max(THRESHOLDS, key=lambda t: (right[t][others].sum(), -abs(t - K)))
        gain = followed(cases_, chosen)
        parts.append(cases_.assign(threshold=chosen, gain=gain, **judged(gain, cases_["best"])))
    return pd.concat(parts)


def advice_table(data: str) -> list[dict[str, object]]:
    """What was advised on one data set's images, how often, and what following it gave."""
    found = cases().query("data == @data")
    found = found.join(judged(found["followed"], found["best"]))
    unseen = found["tested"] == found["left_out"]
    lines = []
    for place, part in (("unseen", found[unseen]), ("a source", found[~unseen])):
        for said, some in part.groupby("recommendation"):
            lines.append({"domain": place, "advice": said, **_line(some, some["followed"])})
    return [*lines, {"domain": "all", "advice": "", **_line(found, found["followed"])}]


def calibration_table() -> list[dict[str, object]]:
    """The threshold as it is, and chosen on all domains but the one that it is tried on."""
    found = calibrated(cases())
    lines = []
    for domain, part in found.groupby("tested"):
        as_it_is = followed(part, K)
        lines.append(
            {
                "domain": domain,
                "threshold of the others": f"{part['threshold'].iloc[0]:g}",
                "cases": len(part),
                "right": _share(part["right"]),
                "safe": _share(part["safe"]),
                "worst": f"{part['gain'].min():+.2f}",
                f"right at {K:g}": _share(judged(as_it_is, part["best"])["right"]),
                f"safe at {K:g}": _share(judged(as_it_is, part["best"])["safe"]),
            }
        )
    return lines


def _line(some: pd.DataFrame, gain: pd.Series) -> dict[str, object]:
    return {
        "cases": len(some),
        "right": _share(some["right"]),
        "safe": _share(some["safe"]),
        "followed: mean, worst": f"{gain.mean():+.2f}, {gain.min():+.2f}",
        "best with labels": f"{some['best'].mean():+.2f}",
        "TN: mean, worst": f"{some['TN'].mean():+.2f}, {some['TN'].min():+.2f}",
    }


def _share(true: pd.Series) -> str:
    return f"{100 * true.mean():.0f} %"


def tables() -> dict[str, Callable[[], list[dict[str, object]]]]:
    """What can stand between the marks, by name."""
    return {
        "advice_real": lambda: advice_table(TEST),
        "advice_streets": lambda: advice_table("streets"),
        "advice_calibration": calibration_table,
    }
