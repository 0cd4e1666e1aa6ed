"""One command for the whole story: every study, every lesson, one table, one report."""

import base64
import hashlib
import io
import json
import os
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import chdir, contextmanager
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import torch
from PIL import Image
from tqdm.auto import tqdm

from dglab.experiments.lab import Lab, open_lab, project_root
from dglab.experiments.studies import STUDIES, mixed_task, run_study
from dglab.report.page import write_report
from dglab.utils.errors import InputError
from dglab.utils.files import written_whole
from dglab.utils.machine import usable_cpus

DONE = "executed.json"
MIXED_LESSON = "05_sib"  # needs two targets beside two sources


def reproduce(
    preset: str, data: str = "streets", out: Path | None = None, only: str | None = None, device: str = "auto"
) -> Path:
    """Train and test all that the preset's studies need, execute the lessons, and write table, figures and report.

    What is finished is reused, so that a second call costs seconds and a killed one goes on.

    Args:
        preset: a name.
        data: ``"streets"`` or a prepared root.
        out: the results folder; None takes ``results/<preset>[-<name>]``.
        only: the name of one lesson (``04_tn``): execute that one alone, and compute only what it needs.
        device: where to train and test.

    Returns:
        The path of ``report.html``, or of the executed notebook if ``only`` names one.

    Raises:
        InputError: for bad input, or a lesson that failed, named with its error.
    """
    lab = open_lab(preset, data, device=device, results=out, use_shipped=False)
    lessons = find_lessons(only)
    if mixed_task(lab) is None:  # fewer than four domains: nothing to mix
        lessons = [lesson for lesson in lessons if lesson.stem != MIXED_LESSON]
    lab.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    if only is None:
        lab.results(job for study in STUDIES.values() for job in study(lab))
    if only is not None:
        return execute_alone(lessons, only, lab)
    execute_all(lessons, lab)
    frame = pd.concat([run_study(lab, study) for study in STUDIES], ignore_index=True)
    with written_whole(lab.out / "tables.csv") as beside:
        frame.to_csv(beside, index=False, float_format="%.4f")
    extract_figures(lab.out)
    return write_report(lab, frame, machine=describe_machine(lab), minutes=(time.monotonic() - start) / 60)


def find_lessons(only: str | None = None) -> list[Path]:
    """The lessons in order, or the one that is asked for.

    Raises:
        InputError: if there is no folder of lessons here, or none of that name.
    """
    root = project_root() or Path(__file__).parents[2]
    if not (root / "notebooks").is_dir():
        raise InputError("there is no notebooks folder here; run this in a clone of the project")
    lessons = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if only is None:
        return lessons
    chosen = [path for path in lessons if path.stem == only]
    if not chosen:
        raise InputError(f"there is no lesson {only!r}; the lessons are {', '.join(path.stem for path in lessons)}")
    return chosen


def execute_alone(lessons: list[Path], only: str, lab: Lab) -> Path:
    """Execute one lesson, which computes what it needs; a later full run executes it again."""
    if not lessons:
        raise InputError(f"lesson {only} mixes two target domains; {lab.data} has too few domains for that")
    target = lab.out / "notebooks" / lessons[0].name
    target.parent.mkdir(exist_ok=True)
    with quiet_kernels(usable_cpus()), chdir(lessons[0].parent):
        execute(lessons[0], target, lab)
    return target


def execute_all(lessons: list[Path], lab: Lab) -> None:
    """Execute lessons into the results folder, as many at a time as there are cores.

    A lesson that has been executed with the same library and settings is left as it is.

    Raises:
        InputError: naming the lesson whose cell failed.
    """
    folder = lab.out / "notebooks"
    folder.mkdir(exist_ok=True)
    record = folder / DONE
    done = json.loads(record.read_text()) if record.exists() else {}
    digests = {lesson: fingerprint(lesson, lab) for lesson in lessons}
    missing = [le for le in lessons if done.get(le.stem) != digests[le] or not (folder / le.name).exists()]
    workers = usable_cpus() if lab.device == "cpu" else 1
    threads = max(1, usable_cpus() // workers)
    with quiet_kernels(threads), chdir(lessons[0].parent), ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(execute, lesson, folder / lesson.name, lab): lesson for lesson in missing}
        try:
            for future in tqdm(as_completed(futures), total=len(futures), desc="lessons", unit="lesson", leave=False):
                future.result()
                done[futures[future].stem] = digests[futures[future]]
                with written_whole(record) as beside:
                    beside.write_text(json.dumps(done, indent=1))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def quiet_kernels(threads: int) -> Iterator[None]:
    """Inside, kernels start without progress bars, which would be frozen into their outputs, and with few threads.

    Torch's profiler is told to keep quiet, too. The last two settings are
    :func:`dglab.utils.machine.keep_freed_memory` for a process that is not ours to start.
    """
    wanted = {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": str(threads),
              "KINETO_LOG_LEVEL": "99", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}  # fmt: skip
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def execute(lesson: Path, target: Path, lab: Lab) -> None:
    """Execute one lesson with the lab's settings.

    Raises:
        InputError: if a cell fails, with the cell's error; the partly executed notebook stays for inspection.
    """
    parameters = {"preset": lab.preset.name, "data": lab.data, "device": lab.device, "results": str(lab.out)}
    try:
        papermill.execute_notebook(lesson, target, parameters=parameters, progress_bar=False)
    except papermill.PapermillExecutionError as error:
        raise InputError(
            f"lesson {lesson.stem} failed in cell {error.exec_count}: {error.ename}: {error.evalue}; see {target}"
        ) from error


def fingerprint(lesson: Path, lab: Lab) -> str:
    """Changes when the lesson, the library or the settings do."""
    digest = hashlib.sha256(lesson.read_bytes())
    package = Path(__file__).parents[1]
    for path in sorted((*package.rglob("*.py"), *package.rglob("*.csv"))):
        digest.update(path.read_bytes())
    digest.update(repr((lab.preset, lab.data, lab.identity, lab.device)).encode())
    return digest.hexdigest()


def extract_figures(out: Path) -> None:
    """Every picture in the executed lessons as ``figures/<lesson>_<number>.png``."""
    for path in sorted((out / "notebooks").glob("*.ipynb")):
        outputs = [o for cell in nbformat.read(path, as_version=4).cells for o in cell.get("outputs", [])]
        bundles = [o.data for o in outputs if {"image/png", "image/jpeg"} & o.get("data", {}).keys()]
        for old in (out / "figures").glob(f"{path.stem}_*.png"):
            old.unlink()
        for number, data in enumerate(bundles, 1):
            encoded = data.get("image/png") or data["image/jpeg"]
            with written_whole(out / "figures" / f"{path.stem}_{number}.png") as beside:
                Image.open(io.BytesIO(base64.b64decode(encoded))).save(beside, format="PNG")


def describe_machine(lab: Lab) -> str:
    """What the numbers were made on."""
    device = (
        torch.cuda.get_device_name(lab.device)
        if torch.device(lab.device).type == "cuda"
        else f"{usable_cpus()} CPU cores ({_processor()})"
    )
    return f"{device}, Python {platform.python_version()}, torch {torch.__version__}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        return models[0] if models else platform.machine()
    return platform.processor() or platform.machine()
