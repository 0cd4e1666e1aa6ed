"""One function per table and figure of the paper: the jobs it takes. And the one tidy table of what came out.

A study is a list of jobs (a training and a test each); :func:`tidy` turns results into rows, one value a row.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from dglab.classes import CLASS_NAMES
from dglab.experiments.lab import SHIPPED, Job, Lab, Result
from dglab.tasks import DOMAIN_NAMES, Task
from dglab.testtime.methods import BANK_POLICIES, TestConfig, bank, bn, tn
from dglab.training.config import TrainingConfig

COLUMNS = (
    "study", "preset", "data", "task", "method", "backbone", "target", "domain_evaluated", "batch_size", "neighbors",
    "capacity", "style_layer", "policy", "train_seed", "test_seed", "order", "steps", "metric", "class", "value",
)  # fmt: skip
TYPES = {
    **dict.fromkeys(("batch_size", "neighbors", "capacity", "train_seed", "test_seed", "order", "steps"), "Int64"),
    "style_layer": "string",  # "1" or a module path
}  # of the columns that a file alone would not give back as they were: both have gaps

# The paper's two methods and the controls that could explain the difference away: name -> settings of the training.
VARIANTS: dict[str, dict[str, Any]] = {
    "AGG": {"method": "agg"},
    "AGG2": {"method": "agg2"},  # the loss doubled: MLDG's step length
    "split": {"method": "split"},  # two passes over mixed halves: and its batch sizes
    "MLDG inner 0": {"method": "mldg", "inner_lr": 0.0},  # and its domain split, without the inner step
    "MLDG": {"method": "mldg"},
    "MLDG mean": {"method": "mldg_mean"},  # MLDG with AGG's step length
}
TEST_NAMES = {"bn": "", "bn-reestimated": "+BN re-estimated", "tn": "+TN", "adabn": "+AdaBN", "qib": "+QIB",
              "sib": "+SIB", "random": "+random", "oracle": "+oracle"}  # fmt: skip
M = 4  # the paper's default number of neighbours
PRIORS = (0.0, 0.25, 0.5, 0.75)  # shares of source statistics in TN; 1 is source BN


def main_tasks(lab: Lab) -> list[Task]:
    """The tasks with one target: the paper's G+S+I+M->C on streets, on other data each domain left out in turn."""
    letters = tuple(lab.domains)
    targets = ("C",) if lab.data == "streets" else letters
    return [Task(tuple(other for other in letters if other != target), (target,)) for target in targets]


def mixed_task(lab: Lab) -> Task | None:
    """The task with a mixed stream: the paper's G+S+I->C+M on streets, on other data the first and the last domain
    left out; None where fewer than two sources would remain."""
    letters = tuple(lab.domains)
    targets = ("C", "M") if lab.data == "streets" else (letters[0], letters[-1])
    sources = tuple(letter for letter in letters if letter not in targets)
    return Task(sources, targets) if len(sources) >= 2 else None


def _trainings(lab: Lab, task: Task, variants: Iterable[str]) -> list[TrainingConfig]:
    return [
        lab.training(task.sources, seed, **VARIANTS[name])
        for name in variants
        for seed in lab.preset.train_seeds
        if len(task.sources) >= 2 or VARIANTS[name]["method"] in ("agg", "agg2")
    ]


def ablation(lab: Lab) -> list[Job]:
    """Table 3: {AGG, MLDG} x {BN, TN, SIB}, with the training controls and the re-estimated statistics beside them.

    TN at M = 1 (which the missing deviation suggests the paper used), at 4, and at 5, as many as SIB normalizes. On
    data of one's own AdaBN and QIB, too, with every training method; on streets Tables 5 and 11 have them.
    """
    jobs = []
    for task in main_tasks(lab):
        tests = [bn(task.targets), TestConfig("bn-reestimated", task.targets), tn(task.targets, 1, None)]
        for seed in lab.preset.test_seeds:
            tests += [tn(task.targets, M, seed), tn(task.targets, M + 1, seed), bank("sib", task.targets, seed)]
        if lab.data != "streets":
            tests += [TestConfig("adabn", task.targets), *(bank("qib", task.targets, s) for s in lab.preset.test_seeds)]
        jobs += [Job(training, test) for training in _trainings(lab, task, VARIANTS) for test in tests]
    return jobs


def batch_size(lab: Lab) -> list[Job]:
    """Figure 5: TN over the test batch size M, with source BN as the flat line."""
    jobs = []
    for task in main_tasks(lab):
        tests = [bn(task.targets)]
        tests += [tn(task.targets, m, seed) for m in lab.preset.batch_sizes for seed in lab.preset.test_seeds]
        jobs += [Job(training, test) for training in _trainings(lab, task, VARIANTS) for test in dict.fromkeys(tests)]
    return jobs


def selection_policy(lab: Lab) -> list[Job]:
    """Table 5: BN, TN, QIB and SIB on the mixed stream; with MLDG also random and oracle selection as controls."""
    task = mixed_task(lab)
    if task is None:
        return []
    jobs = []
    for variant, methods in (("AGG", ("qib", "sib")), ("MLDG", ("qib", "sib", "random", "oracle"))):
        tests = [bn(task.targets), TestConfig("adabn", task.targets), tn(task.targets, 1, None)]
        for seed in lab.preset.test_seeds:
            tests += [tn(task.targets, M, seed), tn(task.targets, M + 1, seed)]
            tests += [bank(method, task.targets, seed) for method in methods]
        jobs += [Job(training, test) for training in _trainings(lab, task, (variant,)) for test in tests]
    return jobs


def style_layer(lab: Lab) -> list[Job]:
    """Table 6: the layer that the style is read off, by mIoU and by the share of selections from the same domain."""
    return _bank_sweep(lab, "style_layer", lab.preset.style_layers)


def queue_size(lab: Lab) -> list[Job]:
    """Table 7: the capacity Q of the bank."""
    return _bank_sweep(lab, "capacity", lab.preset.queue_sizes)


def _bank_sweep(lab: Lab, option: str, values: tuple[int, ...]) -> list[Job]:
    task = mixed_task(lab)
    if task is None:
        return []
    return [
        Job(training, bank("sib", task.targets, seed, **{option: value}))
        for training in _trainings(lab, task, ("MLDG",))
        for value in values
        for seed in lab.preset.test_seeds
    ]


def source_and_target(lab: Lab) -> list[Job]:
    """Table 9: performance on the target and on the validation images of the sources, with and without SIB."""
    return [
        Job(training, test)
        for task in main_tasks(lab)
        for training in _trainings(lab, task, ("AGG", "MLDG"))
        for letter in (*task.targets, *task.sources)
        for test in (bn((letter,)), bank("sib", (letter,), lab.preset.test_seeds[0]))
    ]


def adabn(lab: Lab) -> list[Job]:
    """Table 11: SIB against AdaBN, which sees the whole target set before testing."""
    jobs = []
    for task in main_tasks(lab):
        tests = [bn(task.targets), TestConfig("adabn", task.targets)]
        tests += [bank("sib", task.targets, seed) for seed in lab.preset.test_seeds]
        jobs += [Job(training, test) for training in _trainings(lab, task, ("AGG", "MLDG")) for test in tests]
    return jobs


def cached_statistics(lab: Lab) -> list[Job]:
    """SIB by each image's kept moments (one pass) against joint statistics (M + 1), on one target and on the mix."""
    tasks = [*main_tasks(lab), *([mixed_task(lab)] if mixed_task(lab) else [])]
    return [
        Job(training, bank("sib", task.targets, seed, statistics=statistics))
        for task in tasks
        for training in _trainings(lab, task, ("AGG", "MLDG"))
        for seed in lab.preset.test_seeds
        for statistics in ("joint", "cached")
    ]


def prior(lab: Lab) -> list[Job]:
    """TN with a share of source statistics, M = 1 and 4, on each unseen target; source BN is the share of 1."""
    task = mixed_task(lab)
    tasks = main_tasks(lab) if task is None or lab.data != "streets" else [task]  # each target of the mix by itself
    seed = lab.preset.test_seeds[0]
    return [
        Job(training, test)
        for task in tasks
        for training in _trainings(lab, task, ("AGG", "MLDG"))
        for letter in task.targets
        for test in (bn((letter,)), *(tn((letter,), m, seed, prior=share) for share in PRIORS for m in (1, M)))
    ]


def imagenet(lab: Lab) -> list[Job]:
    """A network that starts from ImageNet weights, and the same one from random weights, on each target in turn.

    A third of the preset's steps, for its network is several times as large. The learning rate is the best of 0.02,
    0.05, 0.1 and 0.2 on the sources' validation images (AGG on two triples of CamVid's recordings, a seed apart).
    """
    jobs = []
    for task in main_tasks(lab):
        tests = [bn(task.targets), tn(task.targets, 1, None), bank("sib", task.targets, lab.preset.test_seeds[0])]
        for variant, weights in (("AGG", "imagenet"), ("MLDG", "imagenet"), ("AGG", "")):
            for seed in lab.preset.train_seeds:
                training = lab.training(task.sources, seed, weights=weights, **PRETRAINED, **VARIANTS[variant])
                training = replace(training, steps=max(1, training.steps // 3))
                jobs += [Job(training, test) for test in tests]
    return jobs


def order(lab: Lab) -> list[Job]:
    """MLDG by the first and by the second order of its gradient (lesson 03)."""
    return [
        Job(training, test)
        for task in main_tasks(lab)
        for number in (1, 2)
        for training in (
            lab.training(task.sources, s, **VARIANTS["MLDG"], order=number) for s in lab.preset.train_seeds
        )
        for test in (bn(task.targets), tn(task.targets, 1, None))
    ]


PRETRAINED = {"backbone": "efficientnet-lite0", "lr": 0.05, "inner_lr": 0.01}
STUDIES: dict[str, Callable[[Lab], list[Job]]] = {
    "ablation": ablation,
    "batch_size": batch_size,
    "selection_policy": selection_policy,
    "style_layer": style_layer,
    "queue_size": queue_size,
    "source_and_target": source_and_target,
    "adabn": adabn,
    "cached_statistics": cached_statistics,
    "prior": prior,
}


EXTRA_STUDIES = {"order": order, "imagenet": imagenet}  # that reproduce leaves out, for they take minutes more


def variant_name(training: TrainingConfig) -> str:
    """The name of a training among :data:`VARIANTS`: AGG, AGG2, split, MLDG, ..., from ImageNet weights or not."""
    if training.method == "mldg" and training.inner_lr == 0:
        return "MLDG inner 0"
    name = next(n for n, options in VARIANTS.items() if options["method"] == training.method and len(options) == 1)
    return f"{name} (ImageNet)" if training.weights else name


def test_name(test: TestConfig) -> str:
    """What a test adds to the name of the training: "+TN", "+SIB cached", "+TN prior 0.25"."""
    return (
        TEST_NAMES[test.method]
        + (" cached" if test.statistics == "cached" else "")
        + (f" prior {test.prior:g}" if test.prior is not None else "")
    )


def task_of(lab: Lab, job: Job) -> Task:
    """The task that a job belongs to: a test on a source domain belongs to the task of its network."""
    tasks = [task for task in (*main_tasks(lab), mixed_task(lab)) if task and task.sources == job.training.sources]
    exact = [task for task in tasks if task.targets == job.test.domains]
    return (exact or tasks)[0]


def tidy(lab: Lab, study: str, results: dict[Job, Result]) -> pd.DataFrame:
    """Results as rows, one value each, with the columns of ``tables.csv``; IoU in percent, accuracy in percent.

    Metrics: ``miou``; ``iou`` of each class (empty where absent); ``absent_classes``, the number that the mean leaves
    out; ``selection_accuracy`` of a bank on a mixed stream; ``agreement`` of cached statistics with joint ones.
    """
    rows = []
    for job, result in results.items():
        training, test = job
        task = task_of(lab, job)
        common = {
            "study": study,
            "preset": lab.preset.name,
            "data": lab.data_name,
            "task": str(task),
            "method": variant_name(training) + test_name(test),
            "target": task.target,
            "domain_evaluated": "+".join(test.domains),
            "policy": BANK_POLICIES.get(test.method),
            "train_seed": training.seed,
            "order": training.order if training.method.startswith("mldg") else None,
            "style_layer": None if test.style_layer is None else str(test.style_layer),
            **{key: asdict(test)[key] for key in ("batch_size", "neighbors", "capacity", "test_seed")},
            **{key: asdict(training)[key] for key in ("backbone", "steps")},
        }
        rows.append({**common, "metric": "miou", "value": 100 * result.matrix.miou()})
        rows.append({**common, "metric": "absent_classes", "value": result.matrix.num_absent})
        if result.selection_accuracy is not None:
            rows.append({**common, "metric": "selection_accuracy", "value": 100 * result.selection_accuracy})
        if result.agreement is not None:
            rows.append({**common, "metric": "agreement", "value": 100 * result.agreement})
        rows += [
            {**common, "metric": "iou", "class": name, "value": 100 * value}
            for name, value in zip(CLASS_NAMES, result.matrix.iou(), strict=True)
            if np.isfinite(value)
        ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(TYPES)


def run_study(lab: Lab, study: str) -> pd.DataFrame:
    """The tidy table of a study: what is missing is computed now, the rest is read.

    Where it has not been computed and the package ships figures of this preset and data, those are returned: a
    lesson then opens in seconds. ``dglab reproduce`` makes your own.
    """
    jobs = (STUDIES | EXTRA_STUDIES)[study](lab)
    if lab.use_shipped and not all(lab.score_path(job).exists() for job in jobs):
        shipped = shipped_table(lab)
        if shipped is not None and study in set(shipped["study"]):
            return shipped[shipped["study"] == study].reset_index(drop=True)
    return tidy(lab, study, lab.results(jobs))


def shipped_table(lab: Lab) -> pd.DataFrame | None:
    """The figures that ship with the package for this preset and data; None if there are none."""
    path = SHIPPED / lab.preset.name / "streets.csv"
    return read_tidy(path) if lab.data == "streets" and path.exists() else None


def recorded_real() -> pd.DataFrame:
    """What came out on CamVid with the preset quick, as recorded: for lesson 06 where no real data are at hand."""
    return read_tidy(SHIPPED / "quick" / "camvid.csv")


def read_tidy(path: Any) -> pd.DataFrame:
    """A tidy table back from its CSV file, its columns of the same types as before."""
    return pd.read_csv(path, dtype=TYPES)


def domain_name(letter: str, lab: Lab) -> str:
    """What a letter stands for, in the words of a figure's axis."""
    return (
        f"{letter} ({DOMAIN_NAMES[letter]}-like)" if lab.data == "streets" else f"{letter} ({lab.domains[letter].name})"
    )
