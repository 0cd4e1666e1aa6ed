"""One function per table and figure of the paper: the trials that it consists of.

A trial is one trained network, tested in one way, for one study. :func:`describe` shows what a list of them holds, and
:func:`dglab.experiments.runner.run` trains and tests what is missing::

    trials = batch_size(lab)
    describe(trials)
    frame = run(lab, trials)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from dglab.data.doses import DOSES, STYLE
from dglab.data.shifts import COLOUR, DETAIL, SEVERITIES
from dglab.experiments.gmp_trials import gmp_ablation, gmp_branches, gmp_strategies
from dglab.experiments.methods import (
    AGG,
    AGG2,
    BY_DOMAIN,
    BY_DOMAIN2,
    MAIN_METHODS,
    MLDG,
    MLDG_INNER_0,
    PROJECTED,
    TRAINING_METHODS,
    M,
    TrainingMethod,
)
from dglab.experiments.trial import Trial, combined, main_tasks
from dglab.models import IBN_NETS
from dglab.tasks import Task
from dglab.testtime.methods import TestConfig, bank, bn, tn
from dglab.training.config import TrainingConfig
from dglab.training.methods import OPTIONS, PASS

if TYPE_CHECKING:
    from dglab.experiments.runner import Lab

ARRIVALS = range(20)  # orders of arrival where the deviation over them is the question; why 20: docs/predictions.md
PRIORS = (0.0, 0.25, 0.5, 0.75)  # shares of source statistics in TN; 1 is source BN
_Seeds = Callable[["Lab", TrainingMethod], tuple[int, ...]]  # of a training method
PRETRAINED = {"backbone": "efficientnet-lite0", "lr": 0.05, "inner_lr": 0.01}


def describe(trials: Iterable[Trial]) -> pd.DataFrame:
    """What a study consists of, for reading: one row for each way of training and testing.

    Returns:
        ``task``, ``train_method``, ``test_method``, the settings that differ between trials, and the numbers of
        trainings and of orders of arrival of each row. An empty cell: the setting does not apply.
    """
    table = pd.DataFrame([trial.fields for trial in trials]).convert_dtypes()  # 4, not 4.0, beside a gap
    if table.empty:
        return table
    named = ["task", "train_method", "test_method"]
    implied = [*named, "study", "target", "policy", "train_seed", "test_seed"]  # follow from these, or are counted
    varying = [name for name in table.columns.drop(implied) if table[name].nunique() > 1]
    by = [*named, *varying]
    groups = table.groupby(by, dropna=False, sort=False)
    counts = groups.agg(trainings=("train_seed", "nunique"), orders=("test_seed", "nunique")).reset_index()
    counts["orders"] = counts["orders"].where(counts["orders"] > 0)  # 0: no effect, as for M = 1
    counts = counts.rename(columns={"orders": "orders of arrival"}).convert_dtypes().astype(object)
    return counts.where(counts.notna(), "")


def other_tasks(lab: Lab) -> list[Task]:
    """The other tasks with one target that the paper prints, and each other domain left out in turn."""
    if not lab.preset.whole or not lab.of_paper:
        return []
    letters = tuple(lab.domains)
    left_out = [Task(tuple(other for other in letters if other != target), (target,)) for target in letters]
    three = tuple(letters[:3])
    return [Task(three, ("C",)), Task(three, ("M",)), *(task for task in left_out if task not in main_tasks(lab))]


def mixed_task(lab: Lab) -> Task | None:
    """The task with a mixed stream: G+S+I->C+M for the paper's five domains; otherwise the first and the last left out.

    None where fewer than two sources would remain.
    """
    letters = tuple(lab.domains)
    targets = ("C", "M") if lab.of_paper else (letters[0], letters[-1])
    sources = tuple(letter for letter in letters if letter not in targets)
    return Task(sources, targets) if len(sources) >= 2 else None


def _trainings(
    lab: Lab,
    task: Task,
    methods: Iterable[TrainingMethod],
    seeds: _Seeds | None = None,
    **changes: Any,
) -> list[TrainingConfig]:
    """A training for each method and seed that the task allows: methods that split the sources need two of them.

    Args:
        lab: whose preset gives the other settings.
        task: its sources are trained on.
        methods: each with its settings.
        seeds: of each method; None takes the preset's.
        changes: of the preset's settings.
    """
    return [
        lab.training(task.sources, seed, **changes, **method.settings)
        for method in methods
        for seed in (seeds(lab, method) if seeds else lab.preset.train_seeds)
        if len(task.sources) >= 2 or "split" not in OPTIONS[method.method]
    ]


def _seeds_of(lab: Lab, method: TrainingMethod) -> tuple[int, ...]:
    """The seeds of a method: more for the methods of the main question, fewer for the other controls."""
    preset = lab.preset
    own = preset.decisive_seeds if method in MAIN_METHODS else preset.control_seeds
    return own or preset.train_seeds


def _seeds_of_claims(lab: Lab, method: TrainingMethod) -> tuple[int, ...]:
    """More still of AGG and MLDG, in the studies of claims 1, 2, 4, 5 and 11: ten left wide intervals there."""
    return (lab.preset.claim_seeds if method in (AGG, MLDG) else ()) or _seeds_of(lab, method)


def ablation(lab: Lab) -> list[Trial]:
    """Table 3: {AGG, MLDG} x {BN, TN, SIB}, with the training controls and re-estimated statistics.

    TN with M = 1 (which the paper seems to use, as it prints no deviation), 4, 5 (as many images as SIB normalizes
    together), and 16. On the user's own data also AdaBN and QIB for every training method; for the paper's domains they
    are in Tables 5 and 11, and AdaBN here as well where every table is wanted: the paper prints it for four tasks.
    """
    trials = []
    for task in main_tasks(lab):
        methods = TRAINING_METHODS if lab.preset.whole else MAIN_METHODS
        for method in methods:
            tests = _ablation_tests(lab, task, banks=method in (AGG, BY_DOMAIN, MLDG) or not lab.preset.whole)
            trials += combined("ablation", task, _trainings(lab, task, [method], _seeds_of_claims), tests)
    for task in other_tasks(lab):
        trials += combined("ablation", task, _trainings(lab, task, (AGG, MLDG)), _ablation_tests(lab, task))
        if len(task.sources) == 3:  # why does TN suit MLDG? asked of two, three and four sources
            controls = _trainings(lab, task, (BY_DOMAIN, MLDG_INNER_0))
            trials += combined("ablation", task, controls, _ablation_tests(lab, task, banks=False))
    return trials


def _ablation_tests(lab: Lab, task: Task, *, banks: bool = True) -> list[TestConfig]:
    """The normalizations of Table 3; ``banks`` False leaves out SIB, which costs several passes per image."""
    tests = [bn(task.targets), TestConfig("bn-reestimated", task.targets), tn(task.targets, 1, None)]
    for seed in lab.preset.test_seeds:
        tests += [tn(task.targets, m, seed) for m in _sizes_of_tn(lab)]
        tests += [bank("sib", task.targets, seed)] if banks else []
    if not lab.of_paper:
        tests += [TestConfig("adabn", task.targets), *(bank("qib", task.targets, s) for s in lab.preset.test_seeds)]
    elif lab.preset.whole and banks:
        tests.append(TestConfig("adabn", task.targets))
    return tests


def _sizes_of_tn(lab: Lab) -> tuple[int, ...]:
    """How many images TN normalizes together: as many as SIB selects, as many as it normalizes, and the authors' 16."""
    return (M, M + 1, 16) if lab.preset.whole else (M, M + 1)


def batch_size(lab: Lab) -> list[Trial]:
    """Figure 5: TN for different test batch sizes M, and source BN as a horizontal line."""
    trials = []
    for task in main_tasks(lab):
        tests = [bn(task.targets)]
        tests += [tn(task.targets, m, seed) for m in lab.preset.batch_sizes for seed in lab.preset.test_seeds]
        methods = (AGG, BY_DOMAIN, MLDG) if lab.preset.whole else MAIN_METHODS
        trials += combined("batch_size", task, _trainings(lab, task, methods, _seeds_of_claims), tests)
    return trials


def selection_policy(lab: Lab) -> list[Trial]:
    """Table 5: BN, TN, QIB and SIB on the mixed stream; with MLDG also random and oracle selection as controls."""
    task = mixed_task(lab)
    if task is None:
        return []
    trials = []
    for method, banks in ((AGG, ("qib", "sib")), (MLDG, ("qib", "sib", "random", "oracle"))):
        tests = [bn(task.targets), TestConfig("adabn", task.targets), tn(task.targets, 1, None)]
        for seed in lab.preset.test_seeds:
            tests += [tn(task.targets, size, seed) for size in _sizes_of_tn(lab)]
            tests += [bank(name, task.targets, seed) for name in banks]
        trials += combined("selection_policy", task, _trainings(lab, task, [method]), tests)
    return trials


def style_layer(lab: Lab) -> list[Trial]:
    """Table 6: the style layer, by mIoU and by the share of selected images that are of the same domain."""
    return _bank_sweep(lab, "style_layer", "style_layer", lab.preset.style_layers)


def queue_size(lab: Lab) -> list[Trial]:
    """Table 7: the capacity Q of the bank."""
    return _bank_sweep(lab, "queue_size", "capacity", lab.preset.queue_sizes)


def _bank_sweep(lab: Lab, study: str, option: str, values: tuple[int, ...]) -> list[Trial]:
    task = mixed_task(lab)
    if task is None:
        return []
    tests = [bank("sib", task.targets, seed, **{option: value}) for value in values for seed in lab.preset.test_seeds]
    return combined(study, task, _trainings(lab, task, [MLDG]), tests)


def arrival_orders(lab: Lab) -> list[Trial]:
    """Claim 3, does SIB vary less than TN: both in many orders of arrival, for five tell little about a deviation."""
    trials = []
    for task in main_tasks(lab):
        tests = [test for seed in ARRIVALS for test in (tn(task.targets, M + 1, seed), bank("sib", task.targets, seed))]
        trials += combined("arrival_orders", task, _trainings(lab, task, [MLDG], _seeds_of), tests)
    return trials


def source_and_target(lab: Lab) -> list[Trial]:
    """Table 9: performance on the target and on the validation images of the sources, with and without SIB."""
    trials = []
    seeds = lab.preset.test_seeds if lab.preset.whole else lab.preset.test_seeds[:1]
    for task in main_tasks(lab):
        tests = []
        for letter in (*task.targets, *task.sources):
            tests += [bn((letter,)), *(bank("sib", (letter,), seed) for seed in seeds)]
        trials += combined("source_and_target", task, _trainings(lab, task, [AGG, MLDG]), tests)
    return trials


def adabn(lab: Lab) -> list[Trial]:
    """Table 11: SIB against AdaBN, which sees the whole target set before testing."""
    trials = []
    for task in main_tasks(lab):
        tests = [bn(task.targets), TestConfig("adabn", task.targets)]
        tests += [bank("sib", task.targets, seed) for seed in lab.preset.test_seeds]
        trials += combined("adabn", task, _trainings(lab, task, [AGG, MLDG]), tests)
    return trials


def cached_statistics(lab: Lab) -> list[Trial]:
    """SIB with cached statistics (one image per pass) and joint ones (M + 1), on one target and the mixed stream."""
    trials = []
    for task in [*main_tasks(lab), *([mixed_task(lab)] if mixed_task(lab) else [])]:
        seeds = lab.preset.test_seeds[:2]  # two suffice: differences within one network vary little with the order
        tests = [bank("sib", task.targets, seed, statistics=kind) for seed in seeds for kind in ("joint", "cached")]
        trials += combined("cached_statistics", task, _trainings(lab, task, [AGG, MLDG]), tests)
    return trials


def prior(lab: Lab) -> list[Trial]:
    """TN blended with source statistics, M = 1 and 4, on each unseen target; a prior of 1 is source BN."""
    mixed = mixed_task(lab)
    tasks = main_tasks(lab) if mixed is None or not lab.of_paper else [mixed]  # each target of the mix by itself
    seed = lab.preset.test_seeds[0]
    trials = []
    for task in tasks:
        tests = []
        for letter in task.targets:
            tests += [bn((letter,)), *(tn((letter,), m, seed, prior=share) for share in PRIORS for m in (1, M))]
        trials += combined("prior", task, _trainings(lab, task, [AGG, MLDG]), tests)
    return trials


def order(lab: Lab) -> list[Trial]:
    """MLDG with first-order and with second-order gradients (lesson 03)."""
    trials = []
    for task in main_tasks(lab):
        trainings = [config for number in (1, 2) for config in _trainings(lab, task, [MLDG], order=number)]
        trials += combined("order", task, trainings, [bn(task.targets), tn(task.targets, 1, None)])
    return trials


def imagenet(lab: Lab) -> list[Trial]:
    """A network that starts from ImageNet weights, and the same one from random weights, on each target in turn.

    A third of the preset's steps, because the network is several times as large. The learning rate is the best of 0.02,
    0.05, 0.1 and 0.2 on the sources' validation images (AGG on two triples of CamVid's recordings, one seed each).
    """
    steps = max(1, lab.preset.training.steps // 3)
    trials = []
    for task in main_tasks(lab):
        tests = [bn(task.targets), tn(task.targets, 1, None), bank("sib", task.targets, lab.preset.test_seeds[0])]
        for method, weights in ((AGG, "imagenet"), (MLDG, "imagenet"), (AGG, "")):
            trainings = _trainings(lab, task, [method], weights=weights, steps=steps, **PRETRAINED)
            trials += combined("imagenet", task, trainings, tests)
    return trials


def train_as_you_test(lab: Lab) -> list[Trial]:
    """Does TN suit MLDG, or any training whose BatchNorm batches hold few domains? (docs/predictions.md)

    Two sources, so that each pass of MLDG holds one: AGG, by domain, MLDG without inner step, and MLDG, each loss once
    and doubled, on every unseen domain and on the sources; source BN, re-estimated, and TN.
    """
    letters = tuple(lab.domains)
    sources, targets = letters[:2], letters[2:]
    methods = (AGG, AGG2, BY_DOMAIN, BY_DOMAIN2, MLDG_INNER_0, MLDG)
    trials = []
    for letter in targets:
        tests = _bn_and_tn(lab, (letter,))
        if letter == targets[0]:  # a test on a source belongs to one task
            tests += [test for source in sources for test in _bn_and_tn(lab, (source,))]
        task = Task(sources, (letter,))
        trials += combined("train_as_you_test", task, _trainings(lab, task, methods, _seeds_of), tests)
    return trials


def tn_on_sources(lab: Lab) -> list[Trial]:
    """The first prediction of :func:`train_as_you_test` with all sources: what TN does on the domains trained on."""
    trials = []
    for task in main_tasks(lab):
        tests = []
        for source in task.sources:
            tests += [bn((source,)), *(tn((source,), M, seed) for seed in lab.preset.test_seeds)]
        trials += combined("tn_on_sources", task, _trainings(lab, task, MAIN_METHODS, _seeds_of), tests)
    return trials


def domains_per_pass(lab: Lab) -> list[Trial]:
    """The effect of the number of domains in a BatchNorm batch: AGG with K domains in each, from one to all.

    Every BatchNorm batch holds four images, and every step equally many of each domain. With two sources, tested on
    every unseen domain and on the sources; and with all sources, tested on the target.
    """
    letters = tuple(lab.domains)
    tasks = [Task(letters[:2], (letter,)) for letter in letters[2:]]
    trials = []
    for task in [*tasks, *(task for task in main_tasks(lab) if lab.of_paper)]:
        counts = [count for count in (1, 2, 4) if len(task.sources) % count == 0]
        trainings = [
            config
            for count in counts
            for config in _trainings(lab, task, [AGG], domains_per_pass=count, batch_per_domain=PASS)
        ]
        tests = _bn_and_tn(lab, task.targets)
        if task == tasks[0]:  # a test on a source belongs to one task
            tests += [test for source in task.sources for test in _bn_and_tn(lab, (source,))]
        trials += combined("domains_per_pass", task, trainings, tests)
    return trials


def meta_split(lab: Lab) -> list[Trial]:
    """Table 4: the numbers of meta-train and meta-test domains, fixed or drawn in each step (the authors' code)."""
    trials = []
    for task in main_tasks(lab):
        count = len(task.sources)
        cuts = [f"{first}:{count - first}" if 2 * first != count else "half" for first in range(count - 1, 0, -1)]
        trainings = []
        for split in (*cuts, "random"):
            seeds = _seeds_of_claims if split in ("half", cuts[-1]) else _seeds_of  # 2:2 - 1:3 varies most
            trainings += _trainings(lab, task, [MLDG], seeds, split=split)
        trials += combined("meta_split", task, trainings, _bn_and_tn(lab, task.targets))
    return trials


def common_rate(lab: Lab) -> list[Trial]:
    """The methods of Table 3 with its controls, all at the learning rate of MLDG instead of each at its own."""
    preset = lab.preset
    mldg = preset.template(MLDG.method)
    seeds = preset.control_seeds or preset.train_seeds
    trials = []
    for task in main_tasks(lab):
        for method in TRAINING_METHODS:
            changes = {"lr": mldg.lr, "inner_lr": mldg.inner_lr} | method.settings
            trainings = [lab.training(task.sources, seed, **changes) for seed in seeds]
            trials += combined("common_rate", task, trainings, _bn_and_tn(lab, task.targets))
    return trials


def source_domains(lab: Lab) -> list[Trial]:
    """Table 8: from one source domain to all of them. With one, only AGG can be trained."""
    trials = []
    for full in main_tasks(lab):
        for count in range(1, len(full.sources) + 1):
            task = Task(full.sources[:count], full.targets)
            tests = [*_bn_and_tn(lab, task.targets)]
            tests += [bank("sib", task.targets, seed) for seed in lab.preset.test_seeds]
            trials += combined("source_domains", task, _trainings(lab, task, [AGG, MLDG]), tests)
    return trials


def source_domains_fixed(lab: Lab) -> list[Trial]:
    """Table 8 with the number of images fixed: more domains, and no more images to train on, nor more of them a step.

    As many in all as one domain has; so of four domains a quarter of each. By domain is the control: the BatchNorm
    batches of one source hold one domain, those of AGG on several hold all. On the embedded data alone.
    """
    if lab.data != "streets":
        return []
    size, step = lab.preset.streets, 4 * lab.preset.training.batch_per_domain
    trials = []
    for full in main_tasks(lab):
        for count in range(1, len(full.sources) + 1):
            task = Task(full.sources[:count], full.targets)
            changes = {
                "data": dataclasses.replace(size, train_images=max(1, size.train_images // count)),
                "batch_per_domain": -(-step // count),
            }
            tests = _bn_and_tn(lab, task.targets)
            tests += [bank("sib", task.targets, seed) for seed in lab.preset.test_seeds]
            seeds = _seeds_of if count in (1, len(full.sources)) else None  # claim 9 compares these two
            methods = [AGG] if count == 1 else [AGG, BY_DOMAIN, MLDG]  # of one domain, by domain is AGG
            trainings = _trainings(lab, task, methods, seeds, **changes)
            trials += combined("source_domains_fixed", task, trainings, tests)
    return trials


def bound(lab: Lab) -> list[Trial]:
    """An upper bound: a network trained on the target's own training images, with the same budget: as many steps, and
    as many images a step as the task's sources have together."""
    return [trial for task in main_tasks(lab) for trial in _bound(lab, "bound", task)]


def _bound(lab: Lab, study: str, full: Task, seeds: _Seeds | None = None, **changes: Any) -> list[Trial]:
    task = Task(full.targets, full.targets, unseen=False)
    images = len(full.sources) * lab.preset.training.batch_per_domain
    trainings = _trainings(lab, task, [AGG], seeds, batch_per_domain=images, **changes)
    return combined(study, task, trainings, [bn(task.targets)])


def twice_the_steps(lab: Lab) -> list[Trial]:
    """Is it the short training? The methods of the main question and the bound, with twice the preset's steps."""
    steps, seeds = 2 * lab.preset.training.steps, lab.preset.control_seeds or lab.preset.train_seeds
    trials = []
    for task in main_tasks(lab):
        for method in MAIN_METHODS:
            trainings = _trainings(lab, task, [method], lambda *_: seeds, steps=steps)
            tests = _ablation_tests(lab, task, banks=method is not MLDG_INNER_0)
            trials += combined("twice_the_steps", task, trainings, tests)
        trials += _bound(lab, "twice_the_steps", task, lambda *_: seeds, steps=steps)
    return trials


def ibn_net(lab: Lab) -> list[Trial]:
    """Table 1: IBN-Net, trained as AGG, beside AGG and MLDG, under source BN and TN; nothing for other networks.

    On the task of all sources, and on that of the published row, G->C, which MLDG cannot be trained on.
    """
    name = IBN_NETS.get(lab.preset.training.backbone)
    if name is None:
        return []
    published = [Task(("G",), ("C",))] if lab.of_paper else []
    trials = []
    for task in [*main_tasks(lab), *published]:
        trainings = _trainings(lab, task, [AGG, MLDG])
        trainings += _trainings(lab, task, [AGG], backbone=name)
        trials += combined("ibn_net", task, trainings, _bn_and_tn(lab, task.targets))
    return trials


def backbones(lab: Lab) -> list[Trial]:
    """Table 10: MLDG with SIB beside AGG, for three network architectures."""
    trials = []
    for task in main_tasks(lab):
        tests = [*_bn_and_tn(lab, task.targets)]
        tests += [bank("sib", task.targets, seed) for seed in lab.preset.test_seeds[:2]]  # the large ones take minutes
        trainings = _trainings(lab, task, [AGG, MLDG], _seeds_of_claims)
        for name, settings in lab.preset.backbones.items():
            trainings += _trainings(lab, task, [AGG, MLDG], backbone=name, **settings)
        trials += combined("backbones", task, trainings, tests)
    return trials


def style_dose(lab: Lab) -> list[Trial]:
    """Dose and response: what target statistics gain over source BN as the target's style moves away from the sources'.

    On the embedded data alone, whose styles can be mixed; the levels stand in docs/predictions.md.
    """
    if lab.data != "streets":
        return []
    trials = []
    for task in main_tasks(lab):
        plain = [bn(task.targets), TestConfig("adabn", task.targets)]
        for seed in lab.preset.test_seeds[:2]:
            plain += [tn(task.targets, M, seed), bank("sib", task.targets, seed)]
        tests = [dataclasses.replace(test, shift=STYLE, dose=dose) for dose in DOSES for test in plain]
        trials += combined("style_dose", task, _trainings(lab, task, (AGG, BY_DOMAIN, MLDG)), tests)
    return trials


def photometric(lab: Lab) -> list[Trial]:
    """Dose and response on real images: two targets, each left out, under photometric shifts at five severities.

    Gains over source BN, and, on streams of which every second image is shifted ("K+K"), SIB against QIB. A bank's
    statistics are cached here, one image a pass. Levels and expectations stand in docs/predictions.md.
    """
    mixed = mixed_task(lab)
    if lab.data == "streets" or lab.of_paper or mixed is None:  # of the paper's five, one alone is left out by itself
        return []
    seeds, order = lab.preset.control_seeds or lab.preset.train_seeds, lab.preset.test_seeds[0]
    trials = []
    for task in (task for task in main_tasks(lab) if task.target in mixed.targets):
        alone, beside = task.targets, task.targets * 2
        plain = [bn(alone), tn(alone, M, order), TestConfig("adabn", alone),
                 bank("sib", alone, order, statistics="cached")]  # fmt: skip
        under = plain + [bank(name, beside, order, statistics="cached") for name in ("qib", "sib")]
        doses = [(shift, dose) for shift in (*COLOUR, *DETAIL) for dose in SEVERITIES]
        tests = plain + [dataclasses.replace(test, shift=shift, dose=dose) for shift, dose in doses for test in under]
        trainings = _trainings(lab, task, (AGG, BY_DOMAIN, MLDG), lambda *_: seeds)
        trials += combined("photometric", task, trainings, tests)
    return trials


def domain_conflict(lab: Lab) -> list[Trial]:
    """Do conflicting gradients of domains matter? MLDG's split alone, with its inner step, and with GMP's projection in
    place of the inner step. How often they conflict: :func:`dglab.analysis.gradients.domain_conflicts`."""
    seeds = lab.preset.gmp_seeds or lab.preset.train_seeds
    trials = []
    for task in main_tasks(lab):
        trainings = _trainings(lab, task, (MLDG_INNER_0, PROJECTED, MLDG), lambda *_: seeds)
        trials += combined("domain_conflict", task, trainings, [bn(task.targets), tn(task.targets, 1, None)])
    return trials


def _bn_and_tn(lab: Lab, targets: tuple[str, ...]) -> list[TestConfig]:
    """Source BN, re-estimated, and TN with M = 1 and 4."""
    orders = [tn(targets, M, seed) for seed in lab.preset.test_seeds]
    return [bn(targets), TestConfig("bn-reestimated", targets), tn(targets, 1, None), *orders]


Study = Callable[["Lab"], list[Trial]]
STUDIES: dict[str, Study] = {
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
WHOLE_STUDIES: dict[str, Study] = {
    "arrival_orders": arrival_orders,
    "meta_split": meta_split,
    "source_domains": source_domains,
    "source_domains_fixed": source_domains_fixed,
    "train_as_you_test": train_as_you_test,
    "tn_on_sources": tn_on_sources,
    "domains_per_pass": domains_per_pass,
    "bound": bound,
    "twice_the_steps": twice_the_steps,
    "backbones": backbones,
    "style_dose": style_dose,
    "ibn_net": ibn_net,
    "common_rate": common_rate,
    "gmp_ablation": gmp_ablation,
    "gmp_strategies": gmp_strategies,
    "gmp_branches": gmp_branches,
    "domain_conflict": domain_conflict,
}  # what a preset runs in addition if it runs every table (``whole``)
REAL_STUDIES: dict[str, Study] = {"tn_on_sources": tn_on_sources, "photometric": photometric}  # the same, on real data
EXTRA_STUDIES: dict[str, Study] = {
    "order": order,
    "imagenet": imagenet,
    **REAL_STUDIES,
    **WHOLE_STUDIES,
}  # not run by the other presets, because they take minutes to hours more; ``reproduce --only`` runs each by its name


def studies_of(lab: Lab) -> dict[str, Study]:
    """The studies that the preset runs on these data."""
    if not lab.preset.whole:
        recorded = lab.preset.as_recorded if lab.data == "streets" else ()
        return {name: make for name, make in STUDIES.items() if name not in recorded}
    return STUDIES | (WHOLE_STUDIES if lab.of_paper else {}) | (REAL_STUDIES if lab.data != "streets" else {})


def needs(study: str) -> str:
    """What a study needs of the data, to be said where it has no trial."""
    if study in ("selection_policy", "style_layer", "queue_size"):
        return "four domains or more: two targets on one stream, and two sources"
    if study == "photometric":
        return "images of four domains or more (--data), lettered otherwise than the paper's five"
    if study == "ibn_net":
        return f"a preset whose network has a twin with instance normalization ({', '.join(IBN_NETS)})"
    if study in ("source_domains_fixed", "style_dose") or study.startswith("gmp_"):
        return "the embedded streets, of which images, styles and depth can be made to measure"
    return "two source domains beside the target, for methods that split them"
