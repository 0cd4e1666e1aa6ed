"""The lab: trains and tests what trials need, stores the results, and returns them as one tidy table."""

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
from dglab.data.doses import STYLE, dosed_domain
from dglab.data.multimodal import Stacked
from dglab.data.shifts import Shifted, half_shifted
from dglab.data.streets import SPLITS
from dglab.data.streets.kept import RGB, draw, kept_path
from dglab.data.streets.size import StreetsSize
from dglab.evaluation import ConfusionMatrix, Interval
from dglab.experiments.cluster import on_cluster
from dglab.experiments.jobs import in_parallel, on_common_instructions
from dglab.experiments.record import note_network
from dglab.experiments.recorded import SHIPPED, record_of, recorded_table
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
from dglab.training.state import CHECKPOINT, refuse_other
from dglab.training.trainer import train
from dglab.utils.errors import InputError
from dglab.utils.files import read_json, written_whole
from dglab.utils.machine import choose_device


@dataclass(frozen=True)
class Lab:
    """The preset, data, folder and device of a study.

    Args:
        preset: the scale of the study.
        data: ``"streets"``, or the path of a prepared root.
        out: the results folder, with trained networks in ``runs``, scores in ``scores``, drawn streets in ``streets``.
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``.
        use_shipped: use trained networks, and the rows of complete studies, that ship with the package where ``out``
            has none of its own.
        reuse_recorded: use all rows that ship with the package, and compute the others.
        jobs: networks at a time; None takes one per core if the preset is for a CPU, otherwise one in this process.
        executor: ``"local"``, or ``"slurm"``: each network is a job of the cluster.
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
        """The available domains by letter; the paper's five are in its order, whatever their folders are called."""
        found = self.seen_by(())
        return {letter: found[letter] for letter in DOMAIN_NAMES} if are_the_papers(found) else found

    @property
    def of_paper(self) -> bool:
        """Whether the domains have the letters of the paper's five, embedded or real; the paper's tasks then apply."""
        return are_the_papers(self.domains)

    def seen_by(self, modalities: tuple[str, ...]) -> dict[str, Domain]:
        """The domains with these modalities, which only the embedded streets have; with none, plain images."""
        return open_domains(self._source, self.preset.in_memory, modalities, drawn=self.out / "streets")

    def domains_of(self, training: TrainingConfig) -> dict[str, Domain]:
        """The domains of a run, with its modalities and at its image size, which is usually the preset's."""
        modalities = modalities_of(training)
        if isinstance(training.data, StreetsSize) and training.data != self.identity:
            return open_domains(training.data, modalities=modalities, drawn=self.out / "streets")
        return self.seen_by(modalities)

    @property
    def names(self) -> dict[str, str]:
        """The labels of the domains in figures, by letter."""
        if self.data == "streets":
            return {letter: f"{letter} ({DOMAIN_NAMES[letter]}-like)" for letter in self.domains}
        return {letter: f"{letter} ({domain.name})" for letter, domain in self.domains.items()}

    @property
    def data_name(self) -> str:
        """``streets``, or the name of the prepared root's folder."""
        return "streets" if self.data == "streets" else Path(self.data).resolve().name

    @property
    def identity(self) -> str | StreetsSize:
        """The identity of these data in the settings of a run."""
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
        """The checkpoint of a run, if there is one, here or shipped."""
        places = [self.out / "runs" / training.address / CHECKPOINT]
        if self.use_shipped:
            places.append(SHIPPED / self.preset.name / f"{training.address}.safetensors")
        return next((path for path in places if path.exists()), None)

    def trained(self, training: TrainingConfig) -> torch.nn.Module:
        """The trained network of a run, in evaluation mode; it is trained now if it has not been."""
        self.train_all([training])
        return load_checkpoint(self.checkpoint(training), self.device)[0]

    def reference(self, training: TrainingConfig) -> SourceReference:
        """The source reference of a run, for the guarded default; it is measured now unless it is shipped."""
        shipped = SHIPPED / self.preset.name / f"{training.address}.{REFERENCE}"
        if self.use_shipped and shipped.exists() and not (self.out / "runs" / training.address / CHECKPOINT).exists():
            return SourceReference.load(shipped)
        model = self.trained(training)
        return source_reference(model, self.domains_of(training), training.sources, self.device)

    def training_log(self, training: TrainingConfig) -> pd.DataFrame:
        """The losses of a run, one row per step; the run is trained now if there is no log."""
        folder = self.out / "runs" / training.address
        recorded = SHIPPED / self.preset.name / f"{training.address}.jsonl"
        if self.use_shipped and recorded.exists() and not (folder / CHECKPOINT).exists():
            return read_log(recorded)
        if not (folder / CHECKPOINT).exists():  # a shipped network may have no log
            self._run(_train_job, [training], "training", [training])
        return read_log(folder)

    def target_set(self, letters: Sequence[str], modalities: tuple[str, ...] = ()) -> Joined:
        """The validation images of one domain, or of several as one stream; several modalities are stacked."""
        parts = [self.seen_by(modalities)[letter].val for letter in letters]
        return Joined([Stacked(part) for part in parts] if modalities else parts)

    def images_of(self, trial: Trial) -> Joined:
        """The validation images that a trial is tested on, in the order of the data set."""
        test = trial.test
        if test.dose is None:
            return self.target_set(test.domains, modalities_of(trial.training))
        if test.shift == STYLE:
            size = self.preset.streets
            return Joined([dosed_domain(letter, trial.task.sources, test.dose, size) for letter in test.domains])
        images = self.domains[test.domains[0]].val
        if len(test.domains) == 2:  # a domain beside itself, "K+K": every second image under the shift
            return half_shifted(images, test.shift, test.dose)
        return Joined([Shifted(images, test.shift, test.dose)])

    def train_all(self, trainings: Iterable[TrainingConfig]) -> None:
        """Train what is not trained yet."""
        missing = [training for training in dict.fromkeys(trainings) if self.checkpoint(training) is None]
        self._check(missing)
        self._run(_train_job, missing, "training", missing)

    def results(self, trials: Iterable[Trial]) -> dict[Trial, Result]:
        """The result of each trial; missing ones are computed now.

        A network and all its tests are one job. The first seed of every training method comes first, then the second
        of each, and so on: a run that is stopped leaves a complete smaller study behind.
        """
        trials = list(dict.fromkeys(trials))
        missing = {self.score_path(trial): trial for trial in trials if not self.score_path(trial).exists()}
        groups = sorted(_by_network(missing.values()), key=lambda group: group[0].training.seed)
        trainings = [group[0].training for group in groups]
        self._check(trainings)
        self._run(_network_job, groups, "networks", trainings)
        return {trial: self._read(trial) for trial in trials}

    def _check(self, trainings: Iterable[TrainingConfig]) -> None:
        """Check all trainings before the first one starts."""
        for training in trainings:
            check_fits(training, self.domains_of(training))

    def score_path(self, trial: Trial) -> Path:
        """The file of a trial's score; studies with the same network and test share it."""
        images = self.preset.streets.val_images if self.data == "streets" else None  # other data: part of the identity
        test = dataclasses.asdict(trial.test)
        for name in ("branch", "without", "shift", "dose"):  # added later: without them the paths are as before
            if test[name] is None:
                del test[name]
        tested = json.dumps({**test, "val_images": images}, sort_keys=True)
        digest = hashlib.sha256(tested.encode()).hexdigest()[:12]
        return self.scores_of(trial.training) / f"{trial.test.method}_{digest}.json"

    def scores_of(self, training: TrainingConfig) -> Path:
        """The folder of a network's scores."""
        return self.out / "scores" / training.address

    def _read(self, trial: Trial) -> Result:
        path = self.score_path(trial)
        stored, matrix = read_json(path), ConfusionMatrix()
        try:
            matrix.counts += np.array(stored["counts"]).reshape(matrix.counts.shape)
            interval = stored.get("interval")  # earlier scores have none
            return Result(matrix, stored["selection_accuracy"], stored["agreement"], interval and Interval(*interval))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path} is no score of a test ({error}); remove it, and the test is run again") from error

    def _run(
        self,
        function: Callable[["Lab", Any], None],
        tasks: Sequence[Any],
        what: str,
        trainings: Sequence[TrainingConfig],
    ) -> None:
        """Run independent jobs with a progress bar, in parallel if the preset says so.

        Args:
            function: runs one job.
            tasks: the jobs.
            what: they are, for the bar.
            trainings: of the networks in them, whose streets are drawn first.
        """
        if not tasks:
            return
        on_cpu = torch.device(self.device).type == "cpu"
        parallel = self.preset.parallel and on_cpu
        submitted = self.executor == "slurm"
        if self.data == "streets" and (parallel or submitted or not on_cpu):
            self._draw_streets(trainings, None if submitted else self.jobs)
        of_lab = functools.partial(function, self)
        if submitted:
            done = on_cluster(of_lab, tasks, self.out / "jobs", self.device, self.jobs)
        else:
            done = in_parallel(of_lab, tasks, self.jobs if parallel else 0)
        with tqdm(total=len(tasks), desc=f"{what} ({self.preset.name}, {self.data_name})", leave=False) as bar:
            for _ in done:
                bar.update()

    def _draw_streets(self, trainings: Iterable[TrainingConfig], workers: int | None) -> None:
        """Draw the streets that are not drawn yet, once for all processes that will load them."""
        modalities = dict.fromkeys((RGB, *(name for one in trainings for name in modalities_of(one))))
        parts = [
            (letter, split, modality) for modality in modalities for split in SPLITS for letter in self.domains
            if not kept_path(self.out / "streets", self.preset.streets, letter, split, modality).exists()
        ]  # fmt: skip
        for _ in in_parallel(functools.partial(_draw_job, self), parts, workers):
            pass


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
    """The clock that times a job: CPU time, or wall-clock time on a GPU, which works asynchronously."""
    return time.process_time if torch.device(device).type == "cpu" else time.monotonic


def _by_network(trials: Iterable[Trial]) -> list[list[Trial]]:
    """Trials grouped by their network, which is then loaded once."""
    groups: dict[TrainingConfig, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.training, []).append(trial)
    return list(groups.values())


def _network_job(lab: Lab, trials: list[Trial]) -> None:
    """Train a network, if it is not trained yet, and test it in all ways of these trials."""
    training = trials[0].training
    if lab.checkpoint(training) is None:
        _train_job(lab, training)
    clock = _clock(lab.device)
    start = clock()
    path = lab.checkpoint(training)
    model, found = load_checkpoint(path, lab.device)
    refuse_other(path, found, training)  # its folder is named by an address, not by every setting
    domains = lab.domains_of(training)
    for trial in trials:
        with preserved_statistics(model):  # because bn-reestimated changes them
            result = run_test(
                model,
                lab.images_of(trial),
                trial.test,
                source_batches=lambda: reestimation_batches(training, domains, training.data, lab.device),
                reference=lambda: source_reference(model, domains, training.sources, lab.device),
                device=lab.device,
                compare=trial.test.shift is None,  # joint statistics beside cached ones take most of the time
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

    If some of it has not been computed here and the package ships the rows of these trials, those are returned: a
    lesson then opens in seconds. ``dglab reproduce`` computes your own, as does a lab with ``use_shipped=False``. A lab
    with ``reuse_recorded`` computes the trials that have no shipped row.

    Args:
        lab: where to train and test.
        trials: of one study or of several, for example ``batch_size(lab)``.
    """
    trials = list(dict.fromkeys(trials))
    missing = [trial for trial in trials if not lab.score_path(trial).exists()]
    if lab.reuse_recorded:
        return _merged(lab, trials, reusable(lab, trials))
    if lab.use_shipped and missing:
        shipped = recorded(lab, trials)
        if all(trial in shipped for trial in trials):  # rather all rows from one machine than a mixture
            return pd.concat(shipped.values(), ignore_index=True)
        others = reusable(lab, trials)
        if all(trial in others for trial in missing):
            return _merged(lab, trials, others)
    return tidy(lab, lab.results(trials))


def available(lab: Lab, trials: Sequence[Trial]) -> pd.DataFrame:
    """The rows of those trials that have been computed here or ship with the package; nothing is computed."""
    trials = list(dict.fromkeys(trials))
    here = [trial for trial in trials if lab.score_path(trial).exists()]
    shipped = recorded(lab, [trial for trial in trials if trial not in here]) if lab.use_shipped else {}
    parts = [frame for frame in (tidy(lab, lab.results(here)), *shipped.values()) if len(frame)]
    return pd.concat(parts, ignore_index=True) if parts else tidy(lab, {})


def recorded(lab: Lab, trials: Sequence[Trial]) -> dict[Trial, pd.DataFrame]:
    """The shipped rows of those trials that have any."""
    name = record_of(lab.preset.name, lab.identity)
    table = recorded_table(lab.preset.name, name) if name else None
    studies = {study: make for study, make in (STUDIES | EXTRA_STUDIES).items() if study in {t.study for t in trials}}
    own = {trial for make in studies.values() for trial in make(lab)}
    trials = [trial for trial in trials if trial in own]  # a trial with changed settings has no record
    if table is None or not trials:
        return {}
    wanted = labels_of(lab, trials)[LABELS].assign(number=range(len(trials)))
    table = table.assign(data=lab.data_name)  # the same images, whatever the reader's folder is called
    rows = table.merge(wanted, on=LABELS, sort=False)
    return {trials[number]: group.drop(columns="number") for number, group in rows.groupby("number")}


def reusable(lab: Lab, trials: Sequence[Trial]) -> dict[Trial, pd.DataFrame]:
    """The shipped rows that may stand beside computed ones: of those trials that have not been computed here.

    On a CPU with the record's instructions a network trained again is the recorded one. On other instructions (a
    Mac's) and on a GPU it is another, so that a network is taken from the record with all its tests or not at all.
    """
    known = recorded(lab, [trial for trial in trials if not lab.score_path(trial).exists()])
    if torch.device(lab.device).type == "cpu" and on_common_instructions():
        return known
    own = {trial.training for trial in trials if trial not in known}
    return {trial: rows for trial, rows in known.items() if trial.training not in own}


def _merged(lab: Lab, trials: Sequence[Trial], shipped: dict[Trial, pd.DataFrame]) -> pd.DataFrame:
    own = lab.results([trial for trial in trials if trial not in shipped])
    return pd.concat([shipped[t] if t in shipped else tidy(lab, {t: own[t]}) for t in trials], ignore_index=True)


def recorded_real() -> pd.DataFrame:
    """Recorded results on CamVid, for lesson 06 where no real data are available.

    Made with an earlier preset quick: ``thin``, 450 steps, and EfficientNet-Lite0, 150 steps.
    """
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
    """The lab of a lesson or of the command line; its settings are checked before work begins.

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
    # unlike Path.resolve, realpath accepts a loop of links, which the reader then refuses by name
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
    """The nearest parent folder with the lessons in it; None outside of a clone of the project."""
    here = Path.cwd()
    return next((f for f in (here, *here.parents) if (f / "notebooks" / "00_start_here.ipynb").exists()), None)


def results_root() -> Path:
    """``results`` beside the lessons, or else in the working folder."""
    return (project_root() or Path.cwd()) / "results"
