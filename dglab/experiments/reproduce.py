"""One command for the whole story: every study, every lesson, one table, one report."""

import dataclasses
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dglab.experiments.cluster import check_cluster
from dglab.experiments.lessons import execute_all, execute_alone, extract_figures, find_lessons
from dglab.experiments.methods import AGG, MLDG
from dglab.experiments.record import describe_machine, expected_hours, recorded_networks, versions
from dglab.experiments.runner import Lab, open_lab, recorded, run
from dglab.experiments.table import write_table
from dglab.experiments.trials import EXTRA_STUDIES, STUDIES, WHOLE_STUDIES, Study, Trial, main_tasks, mixed_task
from dglab.report.examples import example_predictions
from dglab.report.page import write_report
from dglab.utils.errors import InputError
from dglab.utils.files import written_whole
from dglab.utils.machine import usable_cpus

MIXED_LESSON = "05_sib"  # needs two targets beside two sources


def reproduce(
    preset: str,
    data: str = "streets",
    out: Path | None = None,
    only: str | None = None,
    device: str = "auto",
    *,
    seeds: int | None = None,
    jobs: int | None = None,
    executor: str = "local",
    reuse_recorded: bool = False,
) -> Path:
    """Train and test all that the preset's studies need, execute the lessons, and write table, figures and report.

    What is finished is reused, so that a second call costs seconds and a killed one goes on.

    Args:
        preset: a name.
        data: ``"streets"`` or a prepared root.
        out: the results folder; None takes ``results/<preset>[-<name>]``.
        only: the name of one lesson (``04_tn``) or study (``batch_size``): compute what it needs, and no more.
        device: where to train and test.
        seeds: how many trainings of each method at the most; None takes the preset's.
        jobs: networks that are trained or tested at a time on a CPU or a cluster; None takes one a core, or all.
        executor: ``"slurm"`` makes each network a job of a Slurm cluster, on a GPU if ``device`` is ``"cuda"``; lessons
            and report are made here.
        reuse_recorded: take each result that ships along, and compute the others.

    Returns:
        The path of ``report.html``; of the executed notebook, or of the study's table, if ``only`` names one.

    Raises:
        InputError: for bad input, or a lesson that failed, named with its error.
    """
    start = time.monotonic()
    on_nodes = _submitted(executor, device)
    lab = open_lab(preset, data, device="auto" if on_nodes else device, results=out, use_shipped=False)
    chosen = lab.preset.with_seeds(seeds) if seeds else lab.preset
    lab = dataclasses.replace(lab, preset=chosen, jobs=jobs, reuse_recorded=reuse_recorded)
    trained_by = dataclasses.replace(lab, **on_nodes)
    if only is not None:
        return _reproduce_one(lab, trained_by, only)
    lessons = find_lessons()
    if mixed_task(lab) is None:  # fewer than four domains: nothing to mix
        lessons = [lesson for lesson in lessons if lesson.stem != MIXED_LESSON]
    lab.out.mkdir(parents=True, exist_ok=True)
    trials = [trial for study in studies_of(lab).values() for trial in study(lab)]
    tell_expected(lab, trials)
    frame = run(trained_by, trials)  # of all studies at once, for they share networks and tests
    execute_all(lessons, lab)
    extract_figures(lab.out)
    draw_examples(lab)
    write_table(frame, lab.out / "tables.csv")
    with written_whole(lab.out / "run.json") as beside:
        beside.write_text(json.dumps(describe_run(lab, (time.monotonic() - start) / 60), indent=1), encoding="utf-8")
    return write_report(lab.out)


def tell_expected(lab: Lab, trials: Iterable[Trial]) -> None:
    """Say how long the missing networks will take, where networks of this preset are recorded to go by."""
    known = recorded(lab, list(trials)) if lab.reuse_recorded else {}
    missing = {t.training for t in trials if t not in known and not lab.score_path(t).exists()}
    jobs = lab.jobs or usable_cpus()
    hours = expected_hours(recorded_networks(lab.preset.name), missing, jobs)
    if hours is not None and missing:
        print(f"{len(missing)} networks to train and test: about {hours:.1f} hours, {jobs} at a time", flush=True)


def studies_of(lab: Lab) -> dict[str, Study]:
    """The studies that the preset runs."""
    return STUDIES | WHOLE_STUDIES if lab.preset.whole and lab.of_paper else STUDIES


def _submitted(executor: str, device: str) -> dict[str, str]:
    """What a lab has otherwise whose networks are jobs of a cluster; nothing where they are trained here."""
    if executor == "local":
        return {}
    if executor != "slurm":
        raise InputError(f"unknown executor {executor!r}; expected local or slurm")
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"the device of a cluster's nodes is {device!r}; expected cpu (as auto is) or cuda")
    check_cluster()
    return {"executor": executor, "device": "cuda" if device == "cuda" else "cpu"}


def _reproduce_one(lab: Lab, trained_by: Lab, name: str) -> Path:
    """One lesson, executed; or one study, its table written beside the others' results."""
    studies: dict[str, Study] = STUDIES | EXTRA_STUDIES
    if name in studies:
        path = lab.out / f"{name}.csv"
        tell_expected(lab, studies[name](lab))
        write_table(run(trained_by, studies[name](lab)), path)
        return path
    lessons = {path.stem: path for path in find_lessons()}
    if name not in lessons:
        raise InputError(
            f"there is no lesson {name!r} and no study; the lessons are {', '.join(lessons)}, "
            f"the studies {', '.join(studies)}"
        )
    if name == MIXED_LESSON and mixed_task(lab) is None:
        raise InputError(f"lesson {name} mixes two target domains; {lab.data} has too few domains for that")
    return execute_alone(lessons[name], lab)


def draw_examples(lab: Lab) -> None:
    """Figure 4 as ``figures/figure4_predictions.png``; on data of one's own one picture a target.

    The networks are those of the preset's first training seed; which images are shown depends on nothing else.
    """
    seed = lab.preset.train_seeds[0]
    for task in main_tasks(lab):
        suffix = "" if lab.of_paper else f"_{task.target}"
        agg, mldg = (lab.trained(lab.training(task.sources, seed, **method.settings)) for method in (AGG, MLDG))
        stream = lab.target_set(task.targets)
        figure = example_predictions(agg, mldg, stream, lab.preset.test_seeds[0], lab.device)
        with written_whole(lab.out / "figures" / f"figure4_predictions{suffix}.png") as beside:
            figure.savefig(beside, format="png", dpi=110)


def describe_run(lab: Lab, minutes: float) -> dict[str, Any]:
    """What stands in ``run.json``: what the table beside it was made on, and of what.

    Args:
        lab: where it was made.
        minutes: how long this call took, training reused or not.
    """
    identity = lab.identity
    return {
        "machine": describe_machine(lab.device),
        "versions": versions(),
        "minutes": round(minutes, 2),
        "preset": {"name": lab.preset.name, "about": lab.preset.about},
        "data": {
            "name": lab.data_name,
            "identity": identity if isinstance(identity, str) else dataclasses.asdict(identity),
        },
        "domains": lab.names,
        "train_seeds": lab.preset.train_seeds,
        "test_seeds": lab.preset.test_seeds,
    }
