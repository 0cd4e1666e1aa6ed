"""``dglab reproduce``: every study, every lesson, one table, one report."""

import dataclasses
import json
import time
from collections.abc import Collection, Iterable
from pathlib import Path

from dglab.experiments.cluster import check_cluster
from dglab.experiments.record import describe_run, expected_hours, made_on, recorded_networks
from dglab.experiments.runner import Lab, open_lab, reusable, run
from dglab.experiments.table import write_table
from dglab.experiments.trials import EXTRA_STUDIES, STUDIES, Study, Trial, mixed_task, needs, studies_of
from dglab.report.examples import draw_examples
from dglab.report.page import write_report
from dglab.teaching.execution import execute_all, execute_alone, extract_figures, find_lessons
from dglab.utils.errors import InputError
from dglab.utils.files import refuse_inside, written_whole
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

    Finished results are reused: a second call takes seconds, and a killed one resumes.

    Args:
        preset: a name, see :data:`dglab.presets.PRESETS`.
        data: ``"streets"`` or a prepared root.
        out: the results folder; None takes ``results/<preset>[-<name>]``.
        only: the name of one lesson (``04_tn``) or study (``batch_size``): compute only what it needs.
        device: where to train and test.
        seeds: at most so many trainings of each method; None takes the preset's.
        jobs: networks trained or tested at a time; None takes one per core, or, on a cluster, all.
        executor: ``"local"``, or ``"slurm"``: each network is a job of a Slurm cluster, on a GPU if ``device`` is
            ``"cuda"``; lessons and report are made on this machine.
        reuse_recorded: take the results that ship with the package, and compute the others.

    Returns:
        The path of ``report.html``; with ``only``, of the executed notebook or of the study's table.

    Raises:
        InputError: for bad input, for a study that needs what the data lack, or for a lesson that failed, with its name
            and error.
    """
    start = time.monotonic()
    on_nodes = _submitted(executor, device)
    lab = open_lab(preset, data, device="auto" if on_nodes else device, results=out, use_shipped=False)
    if lab.data != "streets":
        refuse_inside(lab.out, Path(lab.data))
    chosen = lab.preset.with_seeds(seeds) if seeds else lab.preset
    lab = dataclasses.replace(lab, preset=chosen, jobs=jobs, reuse_recorded=reuse_recorded)
    trained_by = dataclasses.replace(lab, **on_nodes)
    if only is not None:
        return _reproduce_one(lab, trained_by, only)
    lessons = find_lessons()
    if mixed_task(lab) is None:  # fewer than four domains: no mixed stream
        lessons = [lesson for lesson in lessons if lesson.stem != MIXED_LESSON]
    lab.out.mkdir(parents=True, exist_ok=True)
    trials = [trial for study in studies_of(lab).values() for trial in study(lab)]
    reused = known_already(trained_by, trials)
    tell_expected(trained_by, trials, reused)
    frame = run(trained_by, trials)  # all studies at once, because they share networks and tests
    write_table(frame, lab.out / "tables.csv")  # before the lessons: one of them may fail
    execute_all(lessons, lab)
    extract_figures(lab.out)
    draw_examples(lab)
    networks = {trial.training.address for trial in trials}
    places = made_on(lab.out / "scores", networks)
    described = describe_run(lab, (time.monotonic() - start) / 60, len(reused), places, impossible(lab))
    with written_whole(lab.out / "run.json") as beside:
        beside.write_text(json.dumps(described, indent=1), encoding="utf-8")
    return write_report(lab.out)


def impossible(lab: Lab) -> dict[str, str]:
    """The studies, of any preset, that the lab's data do not allow, and what they need."""
    return {name: needs(name) for name, make in (STUDIES | EXTRA_STUDIES).items() if not make(lab)}


def known_already(lab: Lab, trials: Iterable[Trial]) -> set[Trial]:
    """The trials whose results will be taken from those that ship with the package, instead of being computed."""
    if not lab.reuse_recorded:
        return set()
    return set(reusable(lab, list(dict.fromkeys(trials))))


def tell_expected(lab: Lab, trials: Iterable[Trial], known: Collection[Trial]) -> None:
    """Print what is reused, and how long the missing networks will take, by those recorded on a device of this kind.

    Args:
        lab: where they are to be made.
        trials: all that are wanted.
        known: those of them that need not be computed, see :func:`known_already`.
    """
    trials = set(trials)
    if known:
        print(f"{len(known)} of {len(trials)} results are taken from those that ship with dglab", flush=True)
    missing = {t.training for t in trials if t not in known and not lab.score_path(t).exists()}
    on_cpu = lab.device == "cpu"
    networks = recorded_networks(lab.preset.name)
    if networks is not None:
        networks = networks[networks["machine"].str.contains("CPU") == on_cpu]
    jobs = (lab.jobs or usable_cpus()) if lab.preset.parallel and on_cpu else 1
    hours = expected_hours(networks, missing, jobs)
    if hours is not None and missing:
        print(f"{len(missing)} networks to train and test: about {hours:.1f} hours, {jobs} at a time", flush=True)


def _submitted(executor: str, device: str) -> dict[str, str]:
    """The changes that make a lab submit its networks to a cluster; none for the local executor."""
    if executor == "local":
        return {}
    if executor != "slurm":
        raise InputError(f"unknown executor {executor!r}; expected local or slurm")
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"the device of a cluster's nodes is {device!r}; expected cpu (as auto is) or cuda")
    check_cluster()
    return {"executor": executor, "device": "cuda" if device == "cuda" else "cpu"}


def _reproduce_one(lab: Lab, trained_by: Lab, name: str) -> Path:
    """Execute one lesson, or run one study and write its table; returns the path."""
    studies: dict[str, Study] = STUDIES | EXTRA_STUDIES
    if name in studies:
        path = lab.out / f"{name}.csv"
        trials = studies[name](lab)
        if not trials:
            raise InputError(f"{name}: not run on {lab.data_name} ({', '.join(lab.domains)}); it needs {needs(name)}")
        tell_expected(trained_by, trials, known_already(trained_by, trials))
        write_table(run(trained_by, trials), path)
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
