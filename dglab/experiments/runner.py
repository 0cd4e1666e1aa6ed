"""The lab: trains and tests once what trials need, keeps what came out, and hands it over as one tidy table."""

import dataclasses
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from dglab.data import Domain, Joined, identity, open_domains
from dglab.data.doses import dosed_domain
from dglab.data.multimodal import Stacked
from dglab.data.streets import SPLITS
from dglab.data.streets.kept import RGB, draw, kept_path
from dglab.data.streets.size import StreetsSize
from dglab.evaluation import ConfusionMatrix, Interval
from dglab.experiments.cluster import on_cluster
from dglab.experiments.jobs import in_parallel
from dglab.experiments.record import note_network
from dglab.experiments.recorded import SHIPPED, recorded_table
from dglab.experiments.table import LABELS, labels_of, tidy
from dglab.experiments.trials import EXTRA_STUDIES, STUDIES, Trial
from dglab.presets import Preset, find_preset
from dglab.tasks import DOMAIN_NAMES, are_the_papers
from dglab.testtime import SourceReference, preserved_statistics
from dglab.testtime.of_sources import REFERENCE, source_reference
from dglab.testtime.testing import Result, reestimation_batches, run_test
from dglab.training.checkpoints import load_checkpoint
from dglab.training.config import TrainingConfig
from dglab.training.guards import check_fits
from dglab.training.log import read_log
from dglab.training.methods import modalities_of
from dglab.training.state import CHECKPOINT
from dglab.training.trainer import train
from dglab.utils.errors import InputError
from dglab.utils.files import written_whole
from dglab.utils.machine import choose_device


@dataclass(frozen=True)
class Lab:
    """Where a study takes place.

    Args:
        preset: its scale.
        data: ``"streets"``, or the path of a prepared root.
        out: the results folder; trained networks lie in ``runs``, scores in ``scores``, drawn streets in ``streets``.
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``.
        use_shipped: take trained networks, and the rows of whole studies, that ship with the package where ``out`` has
            none of its own.
        reuse_recorded: take every single row that ships, and compute the others.
        jobs: processes at a time; None takes one a core where the preset is for a CPU, else this process.
        executor: ``"local"``, or ``"slurm"``: each network a job of the cluster.
    """

    preset: Preset
    data: str
    out: Path
    device: str = "cpu"
    use_shipped: bool = True
    reuse_recorded: bool = False
    jobs: int | None = None
    executor: str = "local"

    @property
    def domains(self) -> dict[str, Domain]:
        """The domains at hand, by letter; the paper's five in its order, whatever their folders are called."""
        found = self.seen_by(())
        return {letter: found[letter] for letter in DOMAIN_NAMES} if are_the_papers(found) else found

    @property
    def of_paper(self) -> bool:
        """Whether the domains are lettered as the paper's five, embedded or real: its tasks are then theirs."""
        return are_the_papers(self.domains)

    def seen_by(self, modalities: tuple[str, ...]) -> dict[str, Domain]:
        """The domains as several modalities see them; plain images for none. Only the embedded streets have any."""
        return open_domains(self._source, self.preset.in_memory, modalities, drawn=self.out / "streets")

    def domains_of(self, training: TrainingConfig) -> dict[str, Domain]:
        """The domains as a run's network sees them, at the size that it was made for: most often the preset's."""
        modalities = modalities_of(training)
        if isinstance(training.data, StreetsSize) and training.data != self.identity:
            return open_domains(training.data, modalities=modalities, drawn=self.out / "streets")
        return self.seen_by(modalities)

    @property
    def names(self) -> dict[str, str]:
        """What the domains' letters stand for, in the words of a figure's axis."""
        if self.data == "streets":
            return {letter: f"{letter} ({DOMAIN_NAMES[letter]}-like)" for letter in self.domains}
        return {letter: f"{letter} ({domain.name})" for letter, domain in self.domains.items()}

    @property
    def data_name(self) -> str:
        """``streets``, or the name of the prepared root's folder."""
        return "streets" if self.data == "streets" else Path(self.data).resolve().name

    @property
    def identity(self) -> str | StreetsSize:
        """What a run on these data records as its data."""
        return identity(self._source)

    @property
    def _source(self) -> str | StreetsSize:
        return self.preset.streets if self.data == "streets" else self.data

    def training(self, sources: Sequence[str], seed: int, **changes: Any) -> TrainingConfig:
        """The settings of a run: the preset's, for these sources and this seed, with ``changes``."""
        template = self.preset.template(changes.get("method", self.preset.training.method))
        settings = {"data": self.identity} | changes
        return dataclasses.replace(template, sources=tuple(sources), seed=seed, **settings)

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

    def reference(self, training: TrainingConfig) -> SourceReference:
        """What is ordinary for a run's sources, for the guarded default; measured now if it is not at hand."""
        shipped = SHIPPED / self.preset.name / f"{training.address}.{REFERENCE}"
        if self.use_shipped and shipped.exists() and not (self.out / "runs" / training.address / CHECKPOINT).exists():
            return SourceReference.load(shipped)
        model = self.trained(training)
        return source_reference(model, self.domains_of(training), training.sources, self.device)

    def training_log(self, training: TrainingConfig) -> pd.DataFrame:
        """The losses of a run, one row a step; trained now if its log is not at hand."""
        folder = self.out / "runs" / training.address
        recorded = SHIPPED / self.preset.name / f"{training.address}.jsonl"
        if self.use_shipped and recorded.exists() and not (folder / CHECKPOINT).exists():
            return read_log(recorded)
        if not (folder / CHECKPOINT).exists():  # a network that ships along may have no log
            self._run(_train_job, [training], "training", [training])
        return read_log(folder)

    def target_set(self, letters: Sequence[str], modalities: tuple[str, ...] = ()) -> Joined:
        """The validation images of one domain, or of several as one stream; those of several modalities stacked."""
        parts = [self.seen_by(modalities)[letter].val for letter in letters]
        return Joined([Stacked(part) for part in parts] if modalities else parts)

    def images_of(self, trial: Trial) -> Joined:
        """The validation images that a trial is tested on, in the order of the data set."""
        test = trial.test
        if test.dose is None:
            return self.target_set(test.domains, modalities_of(trial.training))
        size = self.preset.streets
        return Joined([dosed_domain(letter, trial.task.sources, test.dose, size) for letter in test.domains])

    def train_all(self, trainings: Iterable[TrainingConfig]) -> None:
        """Train what is not trained yet."""
        missing = [training for training in dict.fromkeys(trainings) if self.checkpoint(training) is None]
        self._check(missing)
        self._run(_train_job, missing, "training", missing)

    def results(self, trials: Iterable[Trial]) -> dict[Trial, Result]:
        """What came out of each trial; computed now where it has not been yet.

        A network and all its tests are one job. Of each way of training the first seed comes first, then the second of
        each, so that what a run leaves behind that is stopped is a smaller study.
        """
        trials = list(dict.fromkeys(trials))
        missing = {self.score_path(trial): trial for trial in trials if not self.score_path(trial).exists()}
        groups = sorted(_by_network(missing.values()), key=lambda group: group[0].training.seed)
        trainings = [group[0].training for group in groups]
        self._check(trainings)
        self._run(_network_job, groups, "networks", trainings)
        return {trial: self._read(trial) for trial in trials}

    def _check(self, trainings: Iterable[TrainingConfig]) -> None:
        """All of them, before the first one takes its minutes."""
        for training in trainings:
            check_fits(training, self.domains_of(training))

    def score_path(self, trial: Trial) -> Path:
        """Where the score of a trial lies; studies that hold the same network and test share it."""
        images = self.preset.streets.val_images if self.data == "streets" else None  # for other data: in the identity
        test = dataclasses.asdict(trial.test)
        for name in ("branch", "without", "shift", "dose"):  # other scores lie where they did before there were any
            if test[name] is None:
                del test[name]
        tested = json.dumps({**test, "val_images": images}, sort_keys=True)
        digest = hashlib.sha256(tested.encode()).hexdigest()[:12]
        return self.scores_of(trial.training) / f"{trial.test.method}_{digest}.json"

    def scores_of(self, training: TrainingConfig) -> Path:
        """Where the scores of a network lie."""
        return self.out / "scores" / training.address

    def _read(self, trial: Trial) -> Result:
        stored = json.loads(self.score_path(trial).read_text())
        matrix = ConfusionMatrix()
        matrix.counts += np.array(stored["counts"])
        interval = stored.get("interval")  # earlier scores have none
        return Result(matrix, stored["selection_accuracy"], stored["agreement"], interval and Interval(*interval))

    def _run(
        self,
        function: Callable[["Lab", Any], None],
        tasks: Sequence[Any],
        what: str,
        trainings: Sequence[TrainingConfig],
    ) -> None:
        """Run independent jobs, several at a time where the preset says so, with a bar; ``trainings`` says of which
        networks, for what they see is drawn first."""
        if not tasks:
            return
        on_cpu = torch.device(self.device).type == "cpu"
        parallel = self.preset.parallel and on_cpu
        submitted = self.executor == "slurm"
        if self.data == "streets" and (parallel or submitted or not on_cpu):  # once for all processes
            modalities = dict.fromkeys((RGB, *(name for one in trainings for name in modalities_of(one))))
            parts = [
                (letter, split, modality) for modality in modalities for split in SPLITS for letter in self.domains
                if not kept_path(self.out / "streets", self.preset.streets, letter, split, modality).exists()
            ]  # fmt: skip
            for _ in in_parallel(functools.partial(_draw_job, self), parts, None if submitted else self.jobs):
                pass
        of_lab = functools.partial(function, self)
        if submitted:
            done = on_cluster(of_lab, tasks, self.out / "jobs", self.device, self.jobs)
        else:
            done = in_parallel(of_lab, tasks, self.jobs if parallel else 0)
        with tqdm(total=len(tasks), desc=f"{what} ({self.preset.name}, {self.data_name})", leave=False) as bar:
            for _ in done:
                bar.update()


def _draw_job(lab: Lab, part: tuple[str, str, str]) -> None:
    letter, split, modality = part
    draw(lab.preset.streets, letter, split, lab.out / "streets", modality)


def _train_job(lab: Lab, training: TrainingConfig) -> None:
    clock = _clock(lab.device)
    start = clock()
    folder, domains = lab.out / "runs" / training.address, lab.domains_of(training)
    train(training, domains, folder, device=lab.device, progress=not lab.preset.parallel)
    note_network(lab.scores_of(training), lab.device, training=clock() - start)


def _clock(device: str) -> Callable[[], float]:
    """What a job is timed by: the processor's time, or beside a GPU, which works on its own, the clock on the wall."""
    return time.process_time if torch.device(device).type == "cpu" else time.monotonic


def _by_network(trials: Iterable[Trial]) -> list[list[Trial]]:
    """Trials that share a network, so that it is loaded once."""
    groups: dict[TrainingConfig, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.training, []).append(trial)
    return list(groups.values())


def _network_job(lab: Lab, trials: list[Trial]) -> None:
    """Train a network, if need be, and test it in all these ways."""
    training = trials[0].training
    if lab.checkpoint(training) is None:
        _train_job(lab, training)
    clock = _clock(lab.device)
    start = clock()
    model, _ = load_checkpoint(lab.checkpoint(training), lab.device)
    domains = lab.domains_of(training)
    for trial in trials:
        with preserved_statistics(model):  # bn-reestimated changes them
            result = run_test(
                model,
                lab.images_of(trial),
                trial.test,
                source_batches=lambda: reestimation_batches(training, domains, training.data, lab.device),
                reference=lambda: source_reference(model, domains, training.sources, lab.device),
                device=lab.device,
                compare=True,
            )
        _write_score(lab.score_path(trial), trial, result)
    note_network(lab.scores_of(training), lab.device, testing=clock() - start)


def _write_score(path: Path, trial: Trial, result: Result) -> None:
    stored = {
        "training": dataclasses.asdict(trial.training),
        "test": dataclasses.asdict(trial.test),
        "selection_accuracy": result.selection_accuracy,
        "agreement": result.agreement,
        "interval": result.interval,
        "counts": result.matrix.counts.tolist(),
    }
    with written_whole(path) as beside:
        beside.write_text(json.dumps(stored))


def run(lab: Lab, trials: Sequence[Trial]) -> pd.DataFrame:
    """Run a study and return its rows of the tidy table; what is missing is trained and tested now, the rest is read.

    Where it has not all been computed here and the package ships the rows of these trials, those are returned: a
    lesson then opens in seconds. ``dglab reproduce`` makes your own; so does a lab with ``use_shipped=False``. A lab
    that reuses what is recorded computes the trials without a row.

    Args:
        lab: where to train and test.
        trials: of one study or of several, for example ``batch_size(lab)``.
    """
    trials = list(dict.fromkeys(trials))
    missing = [trial for trial in trials if not lab.score_path(trial).exists()]
    if lab.reuse_recorded:
        return _merged(lab, trials, recorded(lab, missing))
    if lab.use_shipped and missing:
        shipped = recorded(lab, trials)
        if all(trial in shipped for trial in trials):  # a study of one making, where there is one
            return pd.concat(shipped.values(), ignore_index=True)
        if all(trial in shipped for trial in missing):
            return _merged(lab, trials, {trial: shipped[trial] for trial in missing})
    return tidy(lab, lab.results(trials))


def available(lab: Lab, trials: Sequence[Trial]) -> pd.DataFrame:
    """The rows of those trials that have been computed here or ship along; nothing is computed."""
    trials = list(dict.fromkeys(trials))
    here = [trial for trial in trials if lab.score_path(trial).exists()]
    shipped = recorded(lab, [trial for trial in trials if trial not in here]) if lab.use_shipped else {}
    parts = [frame for frame in (tidy(lab, lab.results(here)), *shipped.values()) if len(frame)]
    return pd.concat(parts, ignore_index=True) if parts else tidy(lab, {})


def recorded(lab: Lab, trials: Sequence[Trial]) -> dict[Trial, pd.DataFrame]:
    """The rows that ship with the package, of those trials that have any."""
    table = recorded_table(lab.preset.name) if lab.data == "streets" else None
    studies = {study: make for study, make in (STUDIES | EXTRA_STUDIES).items() if study in {t.study for t in trials}}
    own = {trial for make in studies.values() for trial in make(lab)}
    trials = [trial for trial in trials if trial in own]  # with a setting of the reader's own nobody has recorded it
    if table is None or not trials:
        return {}
    wanted = labels_of(lab, trials)[LABELS].assign(number=range(len(trials)))
    rows = table.merge(wanted, on=LABELS, sort=False)
    return {trials[number]: group.drop(columns="number") for number, group in rows.groupby("number")}


def _merged(lab: Lab, trials: Sequence[Trial], shipped: dict[Trial, pd.DataFrame]) -> pd.DataFrame:
    own = lab.results([trial for trial in trials if trial not in shipped])
    return pd.concat([shipped[t] if t in shipped else tidy(lab, {t: own[t]}) for t in trials], ignore_index=True)


def recorded_real() -> pd.DataFrame:
    """What came out on CamVid with an earlier preset quick (``thin``, 450 steps, and EfficientNet-Lite0, 150), as
    recorded: for lesson 06 where no real data are at hand."""
    return recorded_table("quick", "camvid")


def open_lab(
    preset: str,
    data: str = "streets",
    seed: int | None = None,
    device: str = "auto",
    results: str | Path | None = None,
    *,
    use_shipped: bool = True,
) -> Lab:
    """The lab of a lesson or of the command line, everything about it checked before work begins.

    Args:
        preset: a name, see :data:`dglab.presets.PRESETS`.
        data: ``"streets"``, or the path of a prepared root.
        seed: of the trained networks that a lesson shows; one of the preset's training seeds, or None.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        results: folder; None takes ``results/<preset>`` (``results/<preset>-<name>`` for other data) beside the
            notebooks.
        use_shipped: see :class:`Lab`.

    Raises:
        InputError: for an unknown preset, data that cannot be read, a seed that the preset does not train, a device
            that is not there, fewer than three domains.
    """
    chosen = find_preset(preset)
    if seed is not None and seed not in chosen.train_seeds:
        raise InputError(
            f"seed is {seed}; the preset {preset} trains the seeds {', '.join(map(str, chosen.train_seeds))}"
        )
    # realpath, unlike Path.resolve, leaves a loop of links to the reader, who refuses it by name
    data = data if data == "streets" else os.path.realpath(data)
    lab = Lab(chosen, data, Path(), choose_device(device), use_shipped)
    if len(lab.domains) < 3:
        raise InputError(
            f"{data} holds {len(lab.domains)} domains; leaving one out takes three or more, for MLDG needs two sources"
        )
    folder = preset if data == "streets" else f"{preset}-{lab.data_name}"
    out = Path(results) if results else results_root() / folder
    return dataclasses.replace(lab, out=Path(os.path.realpath(out)))


def project_root() -> Path | None:
    """The nearest folder on the way up that holds the lessons; None outside of a clone of the project."""
    here = Path.cwd()
    return next((f for f in (here, *here.parents) if (f / "notebooks" / "00_start_here.ipynb").exists()), None)


def results_root() -> Path:
    """``results`` beside the lessons, else in the working folder."""
    return (project_root() or Path.cwd()) / "results"
