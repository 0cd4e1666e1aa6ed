"""The trials of the studies of GMP, on streets with camera images and depth maps.

One function per study, as in :mod:`dglab.experiments.trials`; a prepared root has images only, and so no such trials.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from dglab.experiments.gmp_methods import (
    ABLATION,
    BRANCHES,
    FUSED,
    IN_BRANCHES,
    STRATEGIES,
    STRATEGIES_IN_PART,
    UNSEEN,
    MultimodalMethod,
    View,
)
from dglab.experiments.methods import M
from dglab.experiments.trial import Trial, combined, main_tasks
from dglab.tasks import Task
from dglab.testtime.methods import TestConfig, bank, bn, tn

if TYPE_CHECKING:
    from dglab.experiments.runner import Lab

Tests = Callable[[Task, MultimodalMethod], Iterable[TestConfig]]


def gmp_ablation(lab: Lab) -> list[Trial]:
    """GMP's Table 4: neither half, IGDM, CAGP, both with one coefficient for both tasks, and the method itself."""
    return _study(lab, "gmp_ablation", _tasks(lab), ABLATION, lambda task, _: [bn(task.targets)])


def gmp_strategies(lab: Lab) -> list[Trial]:
    """GMP's Table 2: OGM-GE beside GMP, on the unseen target and on the sources.

    A preset that runs every table has the other directions of projection, too: always one task, or both (PCGrad, for
    which TorchJD must be installed).
    """
    methods = STRATEGIES if lab.preset.whole else STRATEGIES_IN_PART
    return _study(lab, "gmp_strategies", _tasks(lab), methods, lambda task, _: _everywhere(task))


def gmp_branches(lab: Lab) -> list[Trial]:
    """Each modality's branch: trained alone, jointly, and by GMP; on target and sources, under TN, one missing.

    A modality's own classifier is a probe that reads its encoder, in a network of that modality alone, too: so the two
    sides of a comparison differ in what has taught the encoder. A preset that runs every table has M as the unseen
    domain, too, towards which it is depth that should lose.
    """
    tasks = _tasks(lab)
    if lab.preset.whole and tasks:
        second = UNSEEN[1]
        tasks.append(Task(tuple(letter for letter in lab.domains if letter != second), (second,)))
    return _study(lab, "gmp_branches", tasks, IN_BRANCHES, lambda task, method: _of_branches(lab, task, method))


def _of_branches(lab: Lab, task: Task, method: MultimodalMethod) -> list[TestConfig]:
    """Fused and each branch under every normalization on the target, under source BN on the sources; one missing."""
    seed = lab.preset.test_seeds[0]
    targets = task.targets
    normalizations = [tn(targets, 1, None), tn(targets, M, seed), bank("sib", targets, seed)]
    tests = []
    for view in (FUSED, *(BRANCHES[name] for name in method.modalities)):
        tests += [_seen(test, view) for test in (*_everywhere(task), *normalizations)]
    if len(method.modalities) > 1:
        tests += [dataclasses.replace(bn(targets), without=name) for name in method.modalities]
    return tests


def _study(
    lab: Lab, study: str, tasks: Iterable[Task], methods: Iterable[MultimodalMethod], tests: Tests
) -> list[Trial]:
    trials = []
    for task in tasks:
        for method in methods:
            seeds = lab.preset.gmp_seeds or lab.preset.train_seeds
            trainings = [lab.training(task.sources, seed, **method.settings) for seed in seeds]
            trials += combined(study, task, trainings, tests(task, method))
    return trials


def _tasks(lab: Lab) -> list[Task]:
    return main_tasks(lab) if lab.data == "streets" else []


def _everywhere(task: Task) -> list[TestConfig]:
    """Source BN on the target, and on each source by itself."""
    return [bn(task.targets), *(bn((letter,)) for letter in task.sources)]


def _seen(test: TestConfig, view: View) -> TestConfig:
    return dataclasses.replace(test, branch=view.branch)
