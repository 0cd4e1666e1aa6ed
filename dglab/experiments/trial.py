"""Trials, which a study consists of: each is one trained network, tested in one way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dglab.tasks import Task
from dglab.testtime.methods import BANK_POLICIES, TestConfig
from dglab.training.config import TrainingConfig
from dglab.training.methods import ALL_OPTIONS, OPTIONS, modalities_of

if TYPE_CHECKING:
    from dglab.experiments.runner import Lab


@dataclass(frozen=True)
class Trial:
    """One trained network, tested in one way, for one study.

    Args:
        study: the table or figure that it belongs to.
        task: the sources of its network, and the unseen targets. A test on a source belongs to the task, too.
        training: all settings of the training.
        test: the test-time method, its settings, and the domains tested on.
    """

    study: str
    task: Task
    training: TrainingConfig
    test: TestConfig

    @property
    def fields(self) -> dict[str, Any]:
        """The columns of the tidy table that describe the trial; None where a setting does not apply."""
        training, test = self.training, self.test
        reads = OPTIONS[training.method]
        options = {name: getattr(training, name) if name in reads else None for name in ALL_OPTIONS}
        return {
            "study": self.study, "task": str(self.task), "train_method": training.method, "test_method": test.method,
            "backbone": training.backbone, "weights": training.weights or "random", "target": self.task.target,
            "domain_evaluated": "+".join(test.domains), "batch_size": test.batch_size, "neighbors": test.neighbors,
            "capacity": test.capacity, "style_layer": None if test.style_layer is None else str(test.style_layer),
            "policy": BANK_POLICIES.get(test.method), "statistics": test.statistics,
            "prior": (test.prior or 0.0) if test.method in ("tn", *BANK_POLICIES) else None,
            "guard": "reference" if test.method == "guarded" else None,
            "train_seed": training.seed, "test_seed": test.test_seed, "steps": training.steps,
            "lr": training.lr, "batch_per_domain": training.batch_per_domain,
            **options, "domains_per_pass": options["domains_per_pass"] or None,
            "modalities": "+".join(modalities_of(training)) or None, "branch": test.branch, "without": test.without,
            "shift": test.shift, "dose": test.dose,
        }  # fmt: skip


def main_tasks(lab: Lab) -> list[Task]:
    """The tasks with one target: G+S+I+M->C for the paper's five domains; otherwise each domain left out in turn."""
    letters = tuple(lab.domains)
    targets = ("C",) if lab.of_paper else letters
    return [Task(tuple(other for other in letters if other != target), (target,)) for target in targets]


def combined(study: str, task: Task, trainings: Iterable[TrainingConfig], tests: Iterable[TestConfig]) -> list[Trial]:
    """Every training, tested in every way."""
    tests = list(dict.fromkeys(tests))
    return [Trial(study, task, training, test) for training in trainings for test in tests]
