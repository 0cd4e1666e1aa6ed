"""The lab: runs trainings and tests once, keeps what came out, and hands it over as one tidy table."""

import dataclasses
import functools
import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from dglab.data import Domain, Joined, prepared_domains, streets_domains
from dglab.data.streets.size import StreetsSize
from dglab.evaluation import ConfusionMatrix, View, arrival_order, evaluate, image_batches, whole_images
from dglab.models import logits_of
from dglab.presets import PRESETS, QUICK, Preset, find_preset
from dglab.testtime import ImageBank, preserved_statistics
from dglab.testtime.methods import TestConfig, build_predictor
from dglab.training.checkpoints import load_checkpoint
from dglab.training.config import TrainingConfig
from dglab.training.guards import check_fits
from dglab.training.log import read_log
from dglab.training.state import CHECKPOINT
from dglab.training.trainer import train, training_batches
from dglab.utils.errors import InputError
from dglab.utils.files import written_whole
from dglab.utils.machine import keep_freed_memory, usable_cpus
from dglab.utils.seeds import derive_seed

SHIPPED = Path(__file__).parents[1] / "shipped"  # checkpoints and figures of the quick preset
REESTIMATION_BATCHES = 50
ADAPTATION_SEED = 0  # AdaBN collects its statistics in a random order: each batch then mixes a stream's domains


class Job(NamedTuple):
    """One trained network, tested in one way."""

    training: TrainingConfig
    test: TestConfig


class Result(NamedTuple):
    """What came out of a job: the confusion matrix and, for a bank, how it selected and how near to joint it came."""

    matrix: ConfusionMatrix
    selection_accuracy: float | None = None  # on a mixed stream: share of selected images of the right domain, 0 to 1
    agreement: float | None = None  # of cached statistics: share of pixels predicted as with joint ones, 0 to 1


@dataclass(frozen=True)
class Lab:
    """Where a study takes place.

    Args:
        preset: its scale.
        data: ``"streets"``, or the path of a prepared root.
        out: the results folder; trained networks lie in ``runs``, scores in ``scores``.
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``.
        use_shipped: take trained networks that ship with the package where ``out`` has none of its own.
    """

    preset: Preset
    data: str
    out: Path
    device: str = "cpu"
    use_shipped: bool = True

    @property
    def domains(self) -> dict[str, Domain]:
        """The domains at hand, by letter."""
        return load_domains(self.data, self.preset.streets, self.preset.in_memory)

    @property
    def data_name(self) -> str:
        """``streets``, or the name of the prepared root's folder."""
        return "streets" if self.data == "streets" else Path(self.data).resolve().name

    @property
    def identity(self) -> str | StreetsSize:
        """What a run on these data records as its data."""
        return self.preset.streets if self.data == "streets" else fingerprint(self.data)

    def training(self, sources: Sequence[str], seed: int, **changes: Any) -> TrainingConfig:
        """The settings of a run: the preset's, for these sources and this seed, with ``changes``."""
        return dataclasses.replace(
            self.preset.training, sources=tuple(sources), seed=seed, data=self.identity, **changes
        )

    def checkpoint(self, training: TrainingConfig) -> Path | None:
        """The trained network of a run, if there is one."""
        places = [self.out / "runs" / training.address / CHECKPOINT]
        if self.use_shipped:
            places.append(SHIPPED / self.preset.name / f"{training.address}.safetensors")
        return next((path for path in places if path.exists()), None)

    def trained(self, training: TrainingConfig) -> torch.nn.Module:
        """The trained network of a run, in evaluation mode; trained now if need be."""
        self.train_all([training])
        return load_checkpoint(self.checkpoint(training), self.device)[0]

    def training_log(self, training: TrainingConfig) -> pd.DataFrame:
        """The losses of a run, one row a step; trained now if its log is not at hand."""
        folder = self.out / "runs" / training.address
        if not (folder / CHECKPOINT).exists():  # a network that ships along has no log
            self._run(_train_job, [training], "training")
        return read_log(folder)

    def target_set(self, letters: Sequence[str], view: View = whole_images) -> Joined:
        """The validation images of one domain, or of several as one stream."""
        return Joined([view(self.domains[letter].val) for letter in letters])

    def train_all(self, trainings: Iterable[TrainingConfig]) -> None:
        """Train what is not trained yet."""
        missing = [t for t in dict.fromkeys(trainings) if self.checkpoint(t) is None]
        for training in missing:
            check_fits(training, self.domains)  # all of them, before the first one takes its minutes
        self._run(_train_job, missing, "training")

    def results(self, jobs: Iterable[Job]) -> dict[Job, Result]:
        """What came out of each job; computed now where it has not been yet."""
        jobs = list(dict.fromkeys(jobs))
        missing = [job for job in jobs if not self.score_path(job).exists()]
        self.train_all(job.training for job in missing)
        self._run(_test_jobs, _grouped(missing), "testing")
        return {job: self._read(job) for job in jobs}

    def score_path(self, job: Job) -> Path:
        """Where the score of a job lies."""
        images = self.preset.streets.val_images if self.data == "streets" else None  # for other data: in the identity
        tested = json.dumps({**dataclasses.asdict(job.test), "val_images": images}, sort_keys=True)
        digest = hashlib.sha256(tested.encode()).hexdigest()[:12]
        return self.out / "scores" / job.training.address / f"{job.test.method}_{digest}.json"

    def _read(self, job: Job) -> Result:
        stored = json.loads(self.score_path(job).read_text())
        matrix = ConfusionMatrix()
        matrix.counts += np.array(stored["counts"])
        return Result(matrix, stored["selection_accuracy"], stored["agreement"])

    def _run(self, function: Callable[["Lab", Any], None], tasks: Sequence[Any], what: str) -> None:
        """Run independent tasks, several at a time where the preset says so, with a bar."""
        if not tasks:
            return
        parallel = self.preset.parallel and torch.device(self.device).type == "cpu"
        workers = min(len(tasks), usable_cpus()) if parallel else 0
        with tqdm(total=len(tasks), desc=f"{what} ({self.preset.name}, {self.data_name})", leave=False) as bar:
            for _ in _in_parallel(functools.partial(function, self), tasks, workers):
                bar.update()


def _begin_worker() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()


def _in_parallel(function: Callable[[Any], None], tasks: Sequence[Any], workers: int) -> Iterator[None]:
    if workers == 0:  # here; one worker is another matter, for it has one thread, as each of several has
        for task in tasks:
            yield function(task)
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads half alive
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker) as pool:
        futures = [pool.submit(function, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _train_job(lab: Lab, training: TrainingConfig) -> None:
    train(
        training, lab.domains, lab.out / "runs" / training.address, device=lab.device, progress=not lab.preset.parallel
    )


def _grouped(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs that share a network, so that it is loaded once."""
    groups: dict[TrainingConfig, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.training, []).append(job)
    return list(groups.values())


def _test_jobs(lab: Lab, jobs: list[Job]) -> None:
    model, _ = load_checkpoint(lab.checkpoint(jobs[0].training), lab.device)
    for job in jobs:
        with preserved_statistics(model):  # bn-reestimated changes them
            result = run_test(lab, model, job, compare=True)
        stored = {
            "training": dataclasses.asdict(job.training),
            "test": dataclasses.asdict(job.test),
            "selection_accuracy": result.selection_accuracy,
            "agreement": result.agreement,
            "counts": result.matrix.counts.tolist(),
        }
        with written_whole(lab.score_path(job)) as beside:
            beside.write_text(json.dumps(stored))


def run_test(lab: Lab, model: torch.nn.Module, job: Job, view: View = whole_images, *, compare: bool = False) -> Result:
    """Test a network in one way on the validation images of the job's domains.

    Images that are normalized together need one size. Where the domains' differ (GTA5's and Mapillary's do), TN brings
    a batch to the size of its first image, a bank its images to that of the current one; each is scored at its own.

    Args:
        lab: where they are.
        model: the trained network.
        job: the test.
        view: how the images are seen: whole, or as another way of scoring has them.
        compare: run joint statistics beside cached ones and tell how often both predict the same.
    """
    stream = lab.target_set(job.test.domains, view)
    predictor = build_predictor(
        job.test,
        model,
        target_batches=lambda: image_batches(stream, 16, lab.device, arrival_order(len(stream), ADAPTATION_SEED)),
        source_batches=lambda: source_batches(lab, job.training),
        seed=job.test.test_seed or 0,
        resize=True,
    )
    if not isinstance(predictor, ImageBank):
        batch_size = job.test.batch_size or 1
        seed = job.test.test_seed
        return Result(
            evaluate(predictor, stream, batch_size=batch_size, test_seed=seed, device=lab.device, resize=True)
        )
    return _run_bank(predictor, stream, job.test, lab.device, compare and job.test.statistics == "cached")


def _run_bank(bank: ImageBank, stream: Joined, test: TestConfig, device: str, compare: bool) -> Result:
    joint = ImageBank(bank.model, **{**bank.options, "statistics": "joint"}) if compare else None
    agreements: list[float] = []
    arrived: list[str] = []  # the domain of each image so far, by arrival number
    hits: list[bool] = []

    def predict(image: Tensor) -> Any:
        domain = [stream.domain_of(next(order))]
        output = bank(image, domain=domain)
        if joint is not None:
            same = logits_of(output).argmax(1) == logits_of(joint(image, domain=domain)).argmax(1)
            agreements.append(same.float().mean().item())
        return output

    def look(indices: list[int]) -> None:
        arrived.extend(stream.domain_of(i) for i in indices)
        hits.extend(arrived[number] == arrived[-1] for number in bank.selected)

    order = iter(arrival_order(len(stream), test.test_seed))
    matrix = evaluate(predict, stream, test_seed=test.test_seed, device=device, after_batch=look)
    return Result(
        matrix,
        float(np.mean(hits)) if len(test.domains) > 1 and hits else None,
        float(np.mean(agreements)) if agreements else None,
    )


def source_batches(lab: Lab, training: TrainingConfig) -> Iterator[Tensor]:
    """Images of all the run's source domains together, cropped as in training, from draws of their own.

    Raises:
        InputError: if the data at hand are not those of the training.
    """
    if training.data != lab.identity:
        raise InputError(
            f"the network was trained on '{training.data}', and the data at hand are '{lab.identity}'; to re-estimate "
            "its statistics pass the data of its training as --data, or choose another test method"
        )
    seed = derive_seed("reestimation", training.seed)
    batches = training_batches(training, lab.domains, seed=seed, steps=REESTIMATION_BATCHES)
    for step in range(len(batches)):
        yield batches[step][0].flatten(0, 1).to(lab.device).float() / 255  # (B D) x 3 x H x W


def preset_of(training: TrainingConfig) -> Preset:
    """The preset whose streets a network was trained on; quick for a network trained on other data."""
    return next((preset for preset in PRESETS.values() if preset.streets == training.data), QUICK)


@functools.lru_cache(maxsize=4)
def load_domains(data: str, streets: StreetsSize, in_memory: bool) -> dict[str, Domain]:
    """The domains of a study: the embedded streets in a given size, or a prepared root."""
    if data == "streets":
        return streets_domains(streets.height, streets.width, streets.train_images, streets.val_images)
    return prepared_domains(data, in_memory=in_memory)


@functools.lru_cache(maxsize=4)
def fingerprint(root: str) -> str:
    """What identifies prepared data: every file's path and size, the label mappings, the converter's version.

    Data that were converted otherwise, at another size say, are other data, and their runs other runs.
    """
    parts = [(str(p.relative_to(root)), p.stat().st_size) for p in sorted(Path(root).glob("*/*/*/*")) if p.is_file()]
    for path in sorted(Path(root).glob("*/domain.json")):
        info = json.loads(path.read_text(encoding="utf-8"))
        parts.append((path.parent.name, info.get("letter"), info.get("mapping"), info.get("converter_version")))
    return f"prepared {hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}"


def open_lab(
    preset: str,
    data: str = "streets",
    seed: int = 0,
    device: str = "auto",
    results: str | Path | None = None,
    *,
    use_shipped: bool = True,
) -> Lab:
    """The lab of a lesson or of the command line, everything about it checked before work begins.

    Args:
        preset: a name, see :data:`dglab.presets.PRESETS`.
        data: ``"streets"``, or the path of a prepared root.
        seed: of the trained networks that a lesson shows; one of the preset's training seeds.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        results: folder; None takes ``results/<preset>`` (``results/<preset>-<name>`` for other data) beside the
            notebooks.
        use_shipped: see :class:`Lab`.

    Raises:
        InputError: for an unknown preset, data that cannot be read, a seed that the preset does not train, a device
            that is not there, fewer than three domains.
    """
    chosen = find_preset(preset)
    if seed not in chosen.train_seeds:
        raise InputError(
            f"seed is {seed}; the preset {preset} trains the seeds {', '.join(map(str, chosen.train_seeds))}"
        )
    data = data if data == "streets" else str(Path(data).resolve())
    lab = Lab(chosen, data, Path(), choose_device(device), use_shipped)
    if len(lab.domains) < 3:
        raise InputError(
            f"{data} holds {len(lab.domains)} domains; leaving one out takes three or more, for MLDG needs two sources"
        )
    folder = preset if data == "streets" else f"{preset}-{lab.data_name}"
    out = Path(results) if results else results_root() / folder
    return dataclasses.replace(lab, out=out.resolve())


def project_root() -> Path | None:
    """The nearest folder on the way up that holds the lessons; None outside of a clone of the project."""
    here = Path.cwd()
    return next((f for f in (here, *here.parents) if (f / "notebooks" / "00_start_here.ipynb").exists()), None)


def results_root() -> Path:
    """``results`` beside the lessons, else in the working folder."""
    return (project_root() or Path.cwd()) / "results"


def choose_device(name: str) -> str:
    """``auto`` -> the best at hand; a device by name if it is there.

    Raises:
        InputError: for an unknown device or one that this machine lacks.
    """
    at_hand = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if name == "auto":
        return next(kind for kind, count in at_hand.items() if count)
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in at_hand:
        raise InputError(f"unknown device {name!r}; expected auto, cpu, cuda or mps")
    if (device.index or 0) >= at_hand[device.type]:
        raise InputError(f"the device {name!r} is not available here; use --device cpu, or run dglab doctor to see why")
    return name
