"""Executing the lessons, one by one or several at a time, and extracting their figures."""

import base64
import hashlib
import io
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import chdir, contextmanager
from pathlib import Path

import nbformat
import papermill
from PIL import Image
from tqdm.auto import tqdm

from dglab.experiments.runner import Lab, project_root
from dglab.utils.errors import InputError
from dglab.utils.files import written_whole
from dglab.utils.machine import usable_cpus

DONE = "executed.json"
# A kernel of ours listens on this machine alone, and need not warn of it; nor is it an error that one which still draws
# an explorer is interrupted at the end. What fails in a cell is in the notebook.
QUIET = ["--IPKernelApp.log_level=CRITICAL"]


def find_lessons() -> list[Path]:
    """The lessons in order.

    Raises:
        InputError: if there is no folder of lessons here.
    """
    root = project_root() or Path(__file__).parents[2]
    if not (root / "notebooks").is_dir():
        raise InputError("there is no notebooks folder here; run this in a clone of the project")
    return sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def execute_alone(lesson: Path, lab: Lab) -> Path:
    """Execute one lesson, which computes what it needs; a later complete run executes it again.

    Returns:
        The executed notebook.
    """
    target = lab.out / "notebooks" / lesson.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with quiet_kernels(usable_cpus()), chdir(lesson.parent):
        execute(lesson, target, lab)
    return target


def execute_all(lessons: list[Path], lab: Lab) -> None:
    """Execute lessons into the results folder, as many at a time as there are cores.

    A lesson that has already been executed with the same library and settings is not executed again.

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
    """Within the block, kernels start with few threads, and without progress bars, which would stay in the outputs.

    Torch's profiler does not log either. The last two variables have the effect of
    :func:`dglab.utils.machine.keep_freed_memory`, which cannot be called in the kernel.
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
        InputError: if a cell fails, with its error; the partly executed notebook is kept for inspection.
    """
    parameters = {"preset": lab.preset.name, "data": lab.data, "device": lab.device, "results": str(lab.out),
                  "seed": lab.preset.train_seeds[0]}  # fmt: skip
    try:
        papermill.execute_notebook(lesson, target, parameters=parameters, progress_bar=False, extra_arguments=QUIET)
    except papermill.PapermillExecutionError as error:
        raise InputError(
            f"lesson {lesson.stem} failed in cell {error.exec_count}: {error.ename}: {error.evalue}; see {target}"
        ) from error


def fingerprint(lesson: Path, lab: Lab) -> str:
    """A digest that changes with the lesson, the library or the settings."""
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
