"""The converter that all public data sets share: from their own layout and ids to the prepared layout.

What a data set declares is in :mod:`data_prep.dataset`, what is written in :mod:`dglab.data.prepared`. Everything in
between happens here: mapping, resizing, writing, resuming, counting, reporting errors.

Three rules keep a conversion correct. An id that the mapping does not name is refused, never turned into a class or
into "ignored". An unreadable file, or a label that does not fit its image, is refused and named while the others are
converted, and the command ends with exit code 2 until the source is corrected. The number of pairs is compared with the
published counts, because a partly unpacked archive looks like a smaller data set.

**How images are stored** was decided by measurement, on six drawn scenes of 2048 x 1024 with 9 bits per pixel, as in
Cityscapes and GTA5, on one core (``dglab bench data`` measures the effect)::

    image                  bits/pixel  encode  decode  fidelity
    PNG, level 6, as found       9.06  630 ms   49 ms  exact
    PNG, level 1                10.48  146 ms   50 ms  exact
    JPEG 97, 4:4:4               3.78    9 ms   10 ms  45.9 dB, off by 16 of 255 at most
    JPEG 95, 4:4:4               2.87    8 ms    9 ms  43.3 dB, 28
    JPEG 95, 4:2:0               2.19    5 ms    6 ms  36.8 dB, 153
    JPEG 90, 4:4:4               1.90    7 ms    7 ms  41.0 dB, 59
    label, level 6              0.058   11 ms    6 ms
    label, level 1              0.103    9 ms  3.7 ms
    label, level 3, no filter   0.132    3 ms  1.5 ms

* A JPEG is copied: encoding it again would only lose detail.
* A large PNG of **train** becomes a JPEG of quality 95 with full colour resolution. Decoding PNGs is the bottleneck of
  training; the JPEG takes a fifth of the time and a third of the disk. Networks trained on CamVid's PNGs score the same
  images as such JPEGs within 0.15 points of mIoU, a tenth of the effect of another seed. 4:2:0 is not used: it blurs
  the colour of thin objects, signs and lights. ``lossless`` keeps these PNGs.
* **val** is copied, so that scores are those of the data set's own images; each is read only once.
* A small PNG, of less than half a megapixel, is copied: such sets are kept in memory and decoded once.
* An image that ``max_side`` has resized is encoded anew: in train as a JPEG if it is still large, otherwise as a PNG.

A conversion can be killed at any time and run again. Every file is written to a temporary file and renamed;
``conversion.json`` (the settings) comes first and ``domain.json`` last, and the reader refuses a domain that has only
the former. **A pair is kept if nothing changed**: ``pairs.jsonl`` has the digests of its four files, two in the source
and two here. Time stamps are not used, because tar, rsync and unzip restore old ones. So another run replaces outdated
and damaged files. ``domain.json`` also has the digests of the files here, for ``dglab check``. One process at a time
works in the folder of a domain.
"""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from natsort import natsorted
from PIL import Image
from tqdm import tqdm

from data_prep.dataset import SPLITS, Dataset, Domain, LabelMapping, Pair
from dglab.classes import IGNORED, NUM_CLASSES
from dglab.utils.errors import InputError
from dglab.utils.files import (
    beside,
    digest,
    listed,
    locked,
    parse_json,
    read_bytes,
    read_json,
    read_text,
    shown,
    writing,
)  # fmt: skip
from dglab.utils.images import brief, encode_jpeg, encode_label, image_header, read_image, read_label
from dglab.utils.machine import usable_cpus

_PARTIAL = "partial"  # ends the name of a file being written; a dot begins it, so that no reader takes it for data
_RECORD = "pairs.jsonl"
_LONGEST_STEM = 251  # bytes: most disks take names of 255, and .png is added
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png"}
LARGE = 1024 * 512  # pixels; from here on, an image of train is a JPEG


@dataclass(frozen=True)
class Settings:
    """All settings that affect the output. Recorded in ``conversion.json`` and compared before a run is resumed."""

    dataset: str
    source: str
    mapping: str
    limit: int | None
    max_side: int | None
    lossless: bool
    converter_version: int


class Digests(NamedTuple):
    """The digests of the four files of a pair: image and label in the source, and as written."""

    source_image: str
    source_label: str
    image: str
    label: str


Record = dict[tuple[str, str], Digests]  # by split and stem: the pairs of a domain that are done


@dataclass(frozen=True)
class Outcome:
    """The result for a pair: ``"converted"``, ``"kept"`` from an earlier run, or ``"refused"`` for a reason.

    ``pixels``: 20 counts, of trainIds 0-18 and of ignored pixels; ``size``: (W, H) as written; both None if refused.
    ``digests``: None if nothing was written. ``turned``: whether the image has an EXIF orientation, which is ignored.
    ``skipped``: what was left out of the label, how often by name.
    """

    pair: Pair
    state: str
    pixels: np.ndarray | None = None
    size: tuple[int, int] | None = None
    reason: str = ""
    digests: Digests | None = None
    turned: bool = False
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class DomainReport:
    """The result for one domain: an outcome for every chosen pair, and the number in the source by split."""

    domain: Domain
    outcomes: list[Outcome]
    found: dict[str, int]

    @property
    def refused(self) -> list[Outcome]:
        """The outcomes of the pairs that were not converted."""
        return [outcome for outcome in self.outcomes if outcome.state == "refused"]

    @property
    def pixels(self) -> np.ndarray:
        """Pixels of trainIds 0-18 and of ignored ones, 20 numbers, over train and val."""
        counts = (outcome.pixels for outcome in self.outcomes if outcome.pixels is not None)
        return sum(counts, np.zeros(NUM_CLASSES + 1, np.int64))

    def count(self, split: str, *states: str) -> int:
        """The number of pairs of a split in any of these states."""
        return sum(outcome.pair.split == split and outcome.state in states for outcome in self.outcomes)


@dataclass(frozen=True)
class _Job:
    dataset: Dataset
    mapping: LabelMapping
    settings: Settings
    out: Path
    write: bool
    done: Record = field(default_factory=dict)  # of an earlier run, in the domain at hand


def convert(
    dataset: Dataset,
    source: Path,
    out: Path,
    *,
    mapping: str | None = None,
    limit: int | None = None,
    max_side: int | None = None,
    lossless: bool = False,
    check: bool = False,
) -> list[DomainReport]:
    """Convert a public data set into the prepared layout under ``out``; run again, it resumes where it stopped.

    Args:
        dataset: what to convert.
        source: the data set's own folder.
        out: the prepared root; domains of other data sets may be there already.
        mapping: name of a label mapping; None for the data set's first.
        limit: at most so many pairs per domain and split, spread evenly over their natural order.
        max_side: images with a longer side are reduced until it has this many pixels.
        lossless: large PNGs of train stay PNGs, too (see the module's text).
        check: read and report everything, write nothing.

    Returns:
        One report a domain. The pairs in ``report.refused`` were not converted; the domain is complete without them,
        with the counts in ``domain.json`` that it has, and ``refused.csv`` beside it.

    Raises:
        InputError: if the source is not this data set, ``out`` holds something else or cannot be written to, or another
            process converts into one of the same folders.
    """
    name = next(iter(dataset.mappings)) if mapping is None else mapping
    if name not in dataset.mappings:
        raise InputError(f"{dataset.name} has no mapping {name!r}; expected one of {', '.join(dataset.mappings)}")
    source, out = (Path(os.path.realpath(path)) for path in (source, out))
    if not os.path.isdir(source):
        raise InputError(f"{shown(source)}: no such folder; expected {dataset.layout}")
    if out.is_relative_to(source):
        raise InputError(f"{out}: --out is inside --source, which stays as it is; give a folder elsewhere")
    pairs = dataset.find_pairs(source, name)
    _check_unique(pairs)
    _check_lengths(pairs)
    settings = Settings(dataset.name, str(source), name, limit, max_side, lossless, dataset.version)
    job = _Job(dataset, dataset.mappings[name], settings, out, write=not check)
    by_domain: dict[Domain, list[Pair]] = {}
    for pair in pairs:
        by_domain.setdefault(pair.domain, []).append(pair)
    chosen = {domain: _choose(of_domain, limit) for domain, of_domain in by_domain.items()}
    with ExitStack() as locks:
        if job.write:
            for domain in chosen:  # all of them before the first byte is written
                with writing(out / domain.folder):
                    (out / domain.folder).mkdir(parents=True, exist_ok=True)
                locks.enter_context(locked(out / domain.folder))
                _check_out(out, domain, settings, chosen[domain])
        with tqdm(total=sum(map(len, chosen.values())), desc=dataset.name, unit="pair") as bar:
            return [_convert_domain(job, d, chosen[d], _count_splits(by_domain[d]), bar.update) for d in chosen]


def _count_splits(pairs: list[Pair]) -> dict[str, int]:
    return {split: sum(pair.split == split for pair in pairs) for split in SPLITS}


def _check_unique(pairs: list[Pair]) -> None:
    places = Counter((pair.domain.folder, pair.split, pair.stem) for pair in pairs)
    twice = ["/".join(place) for place, number in places.items() if number > 1]
    if twice:
        raise InputError(f"{len(twice)} name(s) occur more than once in the source: {brief(twice)}; keep one of each")


def _check_lengths(pairs: list[Pair]) -> None:
    long = [pair.stem for pair in pairs if len(os.fsencode(pair.stem)) > _LONGEST_STEM]
    if long:
        raise InputError(
            f"{len(long)} name(s) are longer than a disk takes, {_LONGEST_STEM} bytes without suffix: {brief(long)}; "
            "rename the files, images and labels alike"
        )


def _choose(pairs: list[Pair], limit: int | None) -> list[Pair]:
    """At most ``limit`` pairs per split, evenly spaced: the first ones may all show one street, or one second."""
    chosen = []
    for split in SPLITS:
        of_split = natsorted((pair for pair in pairs if pair.split == split), key=lambda pair: pair.stem)
        keep = len(of_split) if limit is None else min(limit, len(of_split))
        chosen += [of_split[i * len(of_split) // keep] for i in range(keep)]
    return chosen


# ------------------------------------------------------------------------------------------------ one domain


def _convert_domain(
    job: _Job, domain: Domain, pairs: list[Pair], found: dict[str, int], tick: Callable[[], object]
) -> DomainReport:
    folder = job.out / domain.folder
    if job.write:
        job = replace(job, done=_begin(folder, job.settings))
    outcomes = []
    for outcome in _in_threads(lambda pair: _convert_pair(job, pair), pairs):
        outcomes.append(outcome)
        if outcome.state == "converted" and job.write:  # at once, so that a kill loses no converted pair
            with writing(folder / _RECORD), open(folder / _RECORD, "a", encoding="utf-8") as record:
                record.write(_record_line(outcome))
        tick()
    report = DomainReport(domain, outcomes, found)
    if job.write:
        _finish(folder, job, report)
    return report


def _in_threads(function: Callable[[Pair], Outcome], pairs: list[Pair]) -> Iterator[Outcome]:
    """Results in order, on all cores; each thread holds one pair in memory.

    Threads rather than processes: Pillow releases the GIL while it decodes, resizes and encodes.
    """
    pool = ThreadPoolExecutor(usable_cpus())
    try:
        yield from pool.map(function, pairs)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the running pairs, not for all of them


def _check_out(out: Path, domain: Domain, settings: Settings, pairs: list[Pair]) -> None:
    """Refuse a domain's folder whose content comes from other settings or other source files."""
    folder, record = out / domain.folder, out / domain.folder / "conversion.json"
    if not os.path.lexists(record):  # the first file to be written: if killed before that, the folder is empty
        if listed(folder):
            raise InputError(f"{folder}: exists, but was not written by data_prep; give another --out or move it")
        return
    try:
        earlier = read_json(record)
        if not isinstance(earlier, dict):
            raise InputError(f"{record}: holds no settings; correct it")
    except InputError as error:
        raise InputError(f"{error}, or remove {folder}, and run again") from error
    differ = [
        f"{key} was {earlier.get(key)!r} and is now {value!r}"
        for key, value in asdict(settings).items()
        if earlier.get(key) != value
    ]
    if differ:
        raise InputError(
            f"{folder}: was converted with other settings: {'; '.join(differ)}; give the same settings to continue, "
            "another --out, or remove that folder"
        )
    expected = {_place(out, pair, "images", suffix) for pair in pairs for suffix in _SUFFIXES.values()}
    expected |= {_place(out, pair, "labels", ".png") for pair in pairs}
    stray = [path for path in _written(folder) if path not in expected]
    if stray:
        raise InputError(
            f"{brief(stray)}: {len(stray)} file(s) that --source does not have (any more); remove them or {folder}"
        )


def _written(folder: Path) -> list[Path]:
    return [path for path in natsorted(folder.glob("*/*/*"), key=str) if not path.name.startswith(".")]


def _begin(folder: Path, settings: Settings) -> Record:
    """Make the folders, and remove what a killed run has left; returns the pairs that are done."""
    if not (folder / "conversion.json").exists():
        _write(folder / "conversion.json", _json(asdict(settings)))
    done = _read_record(folder / _RECORD)
    with writing(folder):
        for split in SPLITS:
            for kind in ("images", "labels"):
                (folder / split / kind).mkdir(parents=True, exist_ok=True)
    _unlink(folder / "domain.json")  # until the end, this domain is unfinished (again)
    for path in folder.glob(f"**/.*.{_PARTIAL}"):
        _unlink(path)
    # without a last line that a kill has truncated, because the next one would be appended to it
    _write(folder / _RECORD, b"".join(_line(split, stem, done[split, stem]).encode() for split, stem in done))
    return done


def _read_record(path: Path) -> Record:
    """The record of an earlier run; invalid lines are left out, and their pairs are converted again."""
    done: Record = {}
    if not os.path.lexists(path):
        return done
    for line in read_text(path, empty=True).splitlines():
        try:
            split, stem, *digests = parse_json(line)
            done[str(split), str(stem)] = Digests(*map(str, digests))
        except (ValueError, TypeError):
            continue
    return done


def _record_line(outcome: Outcome) -> str:
    return _line(outcome.pair.split, outcome.pair.stem, outcome.digests)


def _line(split: str, stem: str, digests: Digests) -> str:
    return json.dumps([split, stem, *digests]) + "\n"


def _finish(folder: Path, job: _Job, report: DomainReport) -> None:
    if report.refused:
        _write(folder / "refused.csv", _refused_csv(report.refused))
    else:
        _unlink(folder / "refused.csv")
    written = [outcome for outcome in report.outcomes if outcome.digests is not None]
    _write(folder / _RECORD, "".join(map(_record_line, written)).encode())
    *pixels, ignored = report.pixels.tolist()
    info = {
        "name": report.domain.name,
        "letter": report.domain.letter,
        "num_train": report.count("train", "converted", "kept"),
        "num_val": report.count("val", "converted", "kept"),
        "num_refused": len(report.refused),
        "source": job.dataset.title,
        "mapping": f"{job.dataset.name}:{job.settings.mapping}",
        "converter_version": job.settings.converter_version,
        "classes_present": [i for i, number in enumerate(pixels) if number],  # trainIds, over train and val
        "pixels_per_class": pixels,  # 19 numbers by trainId
        "pixels_ignored": ignored,
        "digests": {  # of image and label
            split: {o.pair.stem: f"{o.digests.image} {o.digests.label}" for o in written if o.pair.split == split}
            for split in SPLITS
        },
    }
    _write(folder / "domain.json", _json(info))


def _refused_csv(refused: list[Outcome]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["split", "stem", "image", "label", "reason"])
    for outcome in refused:
        pair = outcome.pair
        writer.writerow([pair.split, pair.stem, pair.image, pair.label, outcome.reason])
    return text.getvalue().encode()


def _json(content: dict) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


# -------------------------------------------------------------------------------------------------- one pair


def _convert_pair(job: _Job, pair: Pair) -> Outcome:
    if job.write and (kept := _kept(job, pair)):
        return kept
    try:
        source = [digest(read_bytes(path)) for path in (pair.image, pair.label)]  # before they are decoded: if they
        image, label = _read_pair(job, pair)  # change in between, the next run notices
        turned, skipped = _remarks(job, pair)
    except InputError as error:
        if job.write:
            _remove(job.out, pair)  # the output of an earlier run is no longer valid
        return Outcome(pair, "refused", reason=str(error))
    here = label.shape[::-1]
    size = _target_size(here, job.settings.max_side)
    if size != here:
        # LANCZOS is antialiased when reducing; NEAREST because a mean of ids is another id. Both sample at pixel
        # centres, so that image and label stay aligned.
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
        label = np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
    digests = Digests(*source, *_write_pair(job, pair, image, label, resized=size != here)) if job.write else None
    return Outcome(pair, "converted", _count_pixels(label), size, "", digests, turned, skipped)


def _remarks(job: _Job, pair: Pair) -> tuple[bool, Counter[str]]:
    """Whether an EXIF orientation is ignored, and what is left out of the label."""
    skipped = Counter() if job.dataset.skipped is None else job.dataset.skipped(pair.label)
    return image_header(pair.image).orientation != 1, skipped


def _read_pair(job: _Job, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """The decoded image, and the label as trainIds."""
    image = read_image(pair.image, thorough=True)
    ids = (job.mapping.read_label or job.dataset.read_label)(pair.label)
    if ids.shape != image.shape[:2]:
        raise InputError(
            f"{pair.image}: is {image.shape[1]} x {image.shape[0]}, but its label {pair.label} is "
            f"{ids.shape[1]} x {ids.shape[0]}; expected equal sizes"
        )
    return image, job.mapping.apply(ids, pair.label)


def _count_pixels(label: np.ndarray) -> np.ndarray:
    counts = np.array(Image.fromarray(label).histogram())  # three times as fast as numpy's bincount
    return counts[[*range(NUM_CLASSES), IGNORED]]


def _target_size(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    scale = min(1.0, max_side / max(size)) if max_side else 1.0
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _kept(job: _Job, pair: Pair) -> Outcome | None:
    """The outcome of an earlier run, if its four files are what they were then, byte by byte."""
    done = job.done.get((pair.split, pair.stem))
    image, label = _written_image(job.out, pair), _place(job.out, pair, "labels", ".png")
    if done is None or image is None:
        return None
    try:
        if done != tuple(digest(read_bytes(path)) for path in (pair.image, pair.label, image, label)):
            return None
        ids = read_label(label)
        turned, skipped = _remarks(job, pair)
    except InputError:
        return None  # it is converted again from the source, or refused
    return Outcome(pair, "kept", _count_pixels(ids), ids.shape[::-1], "", done, turned, skipped)


def _place(out: Path, pair: Pair, kind: str, suffix: str) -> Path:
    return out / pair.domain.folder / pair.split / kind / (pair.stem + suffix)


def _written_image(out: Path, pair: Pair) -> Path | None:
    """The prepared image, if there is exactly one of this stem."""
    places = [_place(out, pair, "images", suffix) for suffix in _SUFFIXES.values()]
    there = [place for place in places if os.path.lexists(place)]
    return there[0] if len(there) == 1 else None


def _remove(out: Path, pair: Pair) -> None:
    for suffix in _SUFFIXES.values():
        _unlink(_place(out, pair, "images", suffix))
    _unlink(_place(out, pair, "labels", ".png"))


def _unlink(path: Path) -> None:
    with writing(path):
        path.unlink(missing_ok=True)


def _write_pair(job: _Job, pair: Pair, image: np.ndarray, label: np.ndarray, *, resized: bool) -> tuple[str, str]:
    """The digests of image and label."""
    suffix, content = _encoded(job, pair, image, resized=resized)
    ids = encode_label(label)
    _remove(job.out, pair)  # the source may have changed from PNG to JPEG
    _write(_place(job.out, pair, "labels", ".png"), ids)
    _write(_place(job.out, pair, "images", suffix), content)
    return digest(content), digest(ids)


def _encoded(job: _Job, pair: Pair, image: np.ndarray, *, resized: bool) -> tuple[str, bytes]:
    """An image's suffix and bytes; see the module's docstring for why."""
    source = image_header(pair.image).format  # by content: suffixes may be wrong
    lossy = pair.split == "train" and image.shape[0] * image.shape[1] >= LARGE and not job.settings.lossless
    if lossy and (resized or source == "PNG"):
        return ".jpg", encode_jpeg(image)
    if resized:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", compress_level=1)
        return ".png", buffer.getvalue()
    return _SUFFIXES[source], read_bytes(pair.image)


def _write(path: Path, content: bytes) -> None:
    """Write to a temporary file, then rename: a file under its final name is complete."""
    partial = beside(path, _PARTIAL)
    with writing(path):
        partial.write_bytes(content)
        os.replace(partial, path)
