"""What the book runs, as plain numbers: for a quarter of an hour on one GPU, and in seconds to see that it runs."""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

from dglab.experiments.runner import Lab
from dglab.presets import find_preset


@dataclass(frozen=True)
class Plan:
    """How much of each step there is."""

    preset: str  # of tries and study: a rate that is best for another length or size is another rate
    backbone: str  # whose inference is timed
    size: tuple[int, int]  # of the images that it is timed on, H x W pixels
    rounds: int  # that visit every case in turn
    rates: tuple[float, ...]  # learning rates tried for AGG and for MLDG
    try_seed: int  # of the tries, which no study uses
    at_once: int  # trainings that share the device, each in a process; 0 trains one after another in this process


ON_GPU = Plan(
    preset="standard",
    backbone="resnet50",
    size=(769, 769),
    rounds=100,
    rates=(0.02, 0.06, 0.2),
    try_seed=100,
    at_once=4,
)

TRY_OUT = Plan(
    preset="tiny",
    backbone="thin",
    size=(33, 65),
    rounds=3,
    rates=(0.05, 0.1),
    try_seed=100,
    at_once=0,
)


@dataclass(frozen=True)
class Book:
    """One call: what to run, where, and until when.

    Args:
        plan: how much of it.
        device: ``"cuda"`` or ``"cpu"``.
        out: gets the results, a few small files; what is there already is not computed again.
        work: gets what is large: drawn scenes, trained networks.
        until: when the call has to end, on ``time.monotonic``'s clock, in seconds; all processes have the same.
    """

    plan: Plan
    device: str
    out: Path
    work: Path
    until: float

    @property
    def seconds_left(self) -> float:
        """Until the call has to end."""
        return self.until - time.monotonic()

    @property
    def drawn(self) -> Path:
        """The folder of drawn scenes, where a lab looks for them."""
        return self.work / "results" / "streets"

    def lab(self, rates: dict[str, dict[str, float]] | None = None) -> Lab:
        """The lab of the study.

        Args:
            rates: of each method that has its own, and under ``"agg"`` those of all others; None takes the preset's.
        """
        preset = find_preset(self.plan.preset)
        training = dataclasses.replace(preset.training, **(rates or {}).get("agg", {}))
        chosen = dataclasses.replace(preset, training=training, rates={**preset.rates, **(rates or {})})
        return Lab(chosen, "streets", self.work / "results", self.device, use_shipped=False)
