"""Mutated files, fed to all that reads them: the reader of prepared roots, every converter, a run, a prediction.

What may come of it: a refusal, or the labels that the unchanged files give, pixel by pixel. Where the file is text
(JSON, a log), another text may mean other labels, and only the refusal's form is looked at.
"""

import dataclasses
import json
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mutations import mutate
from PIL import Image
from scipy.io import savemat
from watch import Count, quietly, run

from data_prep.__main__ import main as data_prep
from data_prep.mapillary import NAMES
from dglab.classes import PALETTE
from dglab.data import open_domains
from dglab.data.prepared import check_root, open_root
from dglab.presets import PRESETS
from dglab.testtime.folder import predict_folder
from dglab.testtime.methods import TestConfig
from dglab.training import trainer
from dglab.training.checkpoints import load_checkpoint
from dglab.training.log import read_log
from dglab.training.state import CHECKPOINT, STATE
from dglab.utils.images import encode_label, read_label

H, W = 90, 140  # large enough that Pillow reads a label of them in pieces
TEXT = (".json", ".jsonl", ".mat")
TINY = PRESETS["tiny"]


class Files:
    """All kinds of inputs, made once; each case changes a copy of one of them.

    Args:
        folder: for the originals and the copies.
        seed: of the originals.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.originals, self.copies = folder / "originals", folder / "copies"
        self.rng = np.random.default_rng(seed)
        self.converted: dict[str, dict[str, np.ndarray]] = {}  # by source: the labels that the unchanged one gives
        self.cases: dict[str, Callable[[Path, Path, Count, str], None]] = {}
        for name, (make, options) in SOURCES.items():
            make(self, self.originals / name / "source" / "day")
            place = self.originals / name
            arguments = [options[0], "--source", str(place / "source/day"), "--out", str(place / "out"), *options[1:]]
            assert quietly(lambda arguments=arguments: data_prep(arguments)) == 0
            self.converted[name] = labels_in(self.originals / name / "out")
            shutil.rmtree(self.originals / name / "out")
            self.cases[name] = lambda copy, _, count, case, name=name, options=options: self.convert(
                copy, name, options, count, case
            )
        self._prepared()
        self._run()

    def case(self, draw: random.Random, count: Count) -> None:
        """One case: copy, change one file, and let it be read."""
        name = draw.choice(list(self.cases))
        copy = self.copies / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.originals / name, copy)
        paths = sorted(path for path in copy.rglob("*") if path.is_file() and not path.name.startswith("."))
        path = draw.choice(paths)
        how = mutate(path, draw)
        self.cases[name](copy, path, count, f"{name}, {path.relative_to(copy)}: {how}")

    # ------------------------------------------------------------------------------------------ what is checked

    def convert(self, copy: Path, name: str, options: tuple[str, ...], count: Count, case: str) -> None:
        """A converter refuses, or writes the labels of the unchanged source; twice, because it resumes."""
        out = copy / "out"
        arguments = [options[0], "--source", str(copy / "source" / "day"), "--out", str(out), *options[1:]]
        for again in ("", ", again"):
            code, printed = run(lambda: data_prep(arguments), case + again, count, counted=not again)
            if code not in (0, 2, None):
                count.tracebacks.append(f"{case}: exit code {code}\n{printed}")
            self._compare(out, name, count, case + again, text=any(f"{end}:" in case for end in TEXT))
            count.half_written += [f"{case}: {path}" for path in out.rglob(".*")]
            if list(out.glob("*/domain.json")):
                run(lambda: check_root(out) and 0, f"{case}, checked", count, counted=False)

    def read(self, copy: Path, path: Path, count: Count, case: str) -> None:
        """The reader of a prepared root refuses, or gives the labels of the unchanged files."""

        def read() -> int:
            for domain in open_root(copy).values():
                for part in (domain.train, domain.val):
                    for i in range(len(part)):
                        part[i]
            return 0

        code, _ = run(read, case, count)
        if code == 0:
            self._compare(copy, "prepared", count, case, text=path.suffix in TEXT)

    def rerun(self, copy: Path, path: Path, count: Count, case: str) -> None:
        """A converter mends what is damaged."""
        arguments = ["folder", "--source", str(copy / "source" / "day"), "--out", str(copy / "out")]
        code, _ = run(lambda: data_prep(arguments), case, count)
        if code == 0 and run(lambda: check_root(copy / "out") and 0, case, count, counted=False)[0] == 2:
            count.accepted.append(f"{case}: the converter is content and the reader refuses")
        self._compare(copy / "out", "rerun", count, case, text=path.suffix in TEXT)
        count.half_written += [f"{case}: {left}" for left in (copy / "out").rglob(".*")]

    def _compare(self, root: Path, name: str, count: Count, case: str, *, text: bool) -> None:
        """No label of a finished domain differs from what the unchanged files give."""
        for domain in root.glob("*/domain.json"):
            for key, found in labels_in(domain.parent.parent, domain.parent).items():
                expected = self.converted[name].get(key)
                if expected is not None and not text and not np.array_equal(found, expected):
                    count.wrong_labels.append(f"{case}: {key}")

    def resume(self, copy: Path, path: Path, count: Count, case: str) -> None:
        """A run that was stopped resumes, or refuses."""

        def resume() -> int:
            read_log(copy)
            trainer.train(self.config, open_domains(TINY.streets), copy, progress=False)
            return 0

        run(resume, case, count)
        count.half_written += [f"{case}: {left}" for left in copy.glob(".*")]

    def load(self, copy: Path, path: Path, count: Count, case: str) -> None:
        """A checkpoint loads and predicts a folder, or is refused."""

        def load() -> int:
            model, _ = load_checkpoint(copy / CHECKPOINT)
            predict_folder(model, copy / "images", copy / "out", TestConfig("tn", batch_size=2))
            return 0

        run(load, case, count)
        count.half_written += [f"{case}: {left}" for left in (copy / "out").rglob(".*")]

    # ----------------------------------------------------------------------------------------- what is read here

    def image(self, path: Path, **options: object) -> None:
        """Write a random image; options as of Pillow's ``save``."""
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth = np.kron(self.rng.integers(0, 256, (H // 10, W // 10, 3), np.uint8), np.ones((10, 10, 1), np.uint8))
        Image.fromarray(smooth + self.rng.integers(0, 9, smooth.shape, np.uint8)).save(path, **options)

    def label(self, path: Path, values: int = 19, palette: bytes | None = None) -> None:
        """Write a random label of the values 0 to ``values`` - 1, with a palette if one is given."""
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = np.kron(self.rng.integers(0, values, (H // 10, W // 10), np.uint8), np.ones((10, 10), np.uint8))
        picture = Image.fromarray(blocks)
        if palette is not None:
            picture.putpalette(palette)
        picture.save(path)

    def _prepared(self) -> None:
        """A prepared root, twice as likely as the others, and what a converter has written, to be converted again."""
        root = self.originals / "prepared"
        for domain, suffix in (("day", "png"), ("night", "jpg")):
            for split in ("train", "val"):
                for stem in "ab":
                    self.image(root / domain / split / "images" / f"{stem}.{suffix}")
                    self.label(root / domain / split / "labels" / f"{stem}.png")
                    path = root / domain / split / "labels" / f"{stem}.png"
                    if stem == "b":  # as the converters write them
                        path.write_bytes(encode_label(read_label(path)))
            (root / domain / "domain.json").write_text(json.dumps({"name": domain, "num_train": 2, "num_val": 2}))
        self.converted["prepared"] = labels_in(root)
        self.cases["prepared"] = self.cases["prepared again"] = self.read
        shutil.copytree(root, self.originals / "prepared again")
        again = self.originals / "rerun"
        shutil.copytree(self.originals / "trainids" / "source", again / "source")
        arguments = ["folder", "--source", str(again / "source" / "day"), "--out", str(again / "out")]
        assert quietly(lambda: data_prep(arguments)) == 0
        # the record names the source by its path, which is another one in each copy
        conversion = json.loads((again / "out/day/conversion.json").read_text())
        conversion["source"] = str(self.copies / "copy/source/day")
        (again / "out/day/conversion.json").write_text(json.dumps(conversion))
        self.converted["rerun"] = labels_in(again / "out")
        self.cases["rerun"] = self.rerun

    def _run(self) -> None:
        """A run stopped after its first step, and a finished one with images to predict."""
        self.config = dataclasses.replace(TINY.training, sources=("G",), steps=2, checkpoint_every=1)
        folder, original = self.originals / "resume", trainer.training_step

        def stopped(model, batch, config, step):
            if step == 1:
                raise KeyboardInterrupt
            return original(model, batch, config, step)

        trainer.training_step = stopped
        try:
            trainer.train(self.config, open_domains(TINY.streets), folder, progress=False)
        except KeyboardInterrupt:
            assert (folder / STATE).exists()
        finally:
            trainer.training_step = original
        self.cases["resume"] = self.resume
        checkpoint = trainer.train(self.config, open_domains(TINY.streets), self.originals / "load", progress=False)
        assert checkpoint.parent == self.originals / "load"
        for stem, suffix in (("a", "png"), ("b", "jpg")):
            exif = Image.Exif()
            exif[0x0112] = 6
            self.image(self.originals / "load/images" / f"{stem}.{suffix}", exif=exif)
        (self.originals / "load/log.jsonl").unlink()
        self.cases["load"] = self.load


def labels_in(root: Path, *domains: Path) -> dict[str, np.ndarray]:
    """The labels of a root by their path; files that are no labels are left out, because the reader refuses them."""
    found = {}
    for domain in domains or tuple(root.glob("*")):
        for path in domain.glob("*/labels/*.png"):
            try:
                found[str(path.relative_to(root))] = read_label(path)
            except ValueError:
                continue
    return found


# --------------------------------------------------------------------------------------- the public data sets, small


def cityscapes(files: Files, source: Path) -> None:
    for split, city in (("train", "aachen"), ("train", "bochum"), ("val", "ulm")):
        files.image(source / f"leftImg8bit/{split}/{city}/{city}_1_leftImg8bit.png")
        files.label(source / f"gtFine/{split}/{city}/{city}_1_gtFine_labelIds.png", 34)


def gta5(files: Files, source: Path) -> None:
    for number in (1, 2):
        files.image(source / f"images/{number:05d}.png")
        files.label(source / f"labels/{number:05d}.png", 34, files.rng.bytes(768))
    savemat(source / "split.mat", {"trainIds": [[1]], "valIds": [[2]], "testIds": [[3]]})


def synthia(files: Files, source: Path) -> None:
    for number in (2, 3, 4):
        files.image(source / f"RGB/{number:07d}.png")
        (source / "GT/LABELS").mkdir(parents=True, exist_ok=True)
        (source / f"GT/LABELS/{number:07d}.png").write_bytes(png_of_16_bits(files.rng.integers(0, 23, (H, W, 3))))


def png_of_16_bits(pixels: np.ndarray) -> bytes:
    """RGB of 16 bits, which Pillow does not write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def idd(files: Files, source: Path) -> None:
    for split in ("train", "val"):
        files.image(source / f"leftImg8bit/{split}/0/1_leftImg8bit.png")
        path = source / f"gtFine/{split}/0/1_gtFine_polygons.json"
        path.parent.mkdir(parents=True)
        width, height = W // 10 * 10, H // 10 * 10
        corners = [[0, 0], [width, 0], [width, height], [0, height]]
        shapes = [{"label": label, "polygon": corners, "deleted": 0} for label in ("road", "sky", "ground", "cargroup")]
        path.write_text(json.dumps({"imgWidth": width, "imgHeight": height, "objects": shapes}))


def mapillary(files: Files, source: Path) -> None:
    palette = files.rng.integers(0, 256, (256, 3), np.uint8)
    for i, vistas_id in enumerate((13, 15, 17, 6, 3, 45, 48, 50, 30, 29, 27, 19, 20, 55, 61, 54, 58, 57, 52)):
        palette[vistas_id] = PALETTE[i]
    for part in ("training", "validation"):
        for stem in "ab":
            files.image(source / part / "images" / f"{stem}.jpg")
            files.label(source / part / "labels" / f"{stem}.png", 66, palette.tobytes() if stem == "a" else None)
    (source / "config.json").write_text(json.dumps({"labels": [{"readable": name} for name in NAMES]}))


def bdd100k(files: Files, source: Path) -> None:
    for split in ("train", "val"):
        files.image(source / f"images/10k/{split}/a.jpg")
        files.label(source / f"labels/sem_seg/masks/{split}/a.png")


def camvid(files: Files, source: Path) -> None:
    for part, stem in (("train", "0001TP_009270"), ("val", "0001TP_009300"), ("test", "Seq05VD_f03600")):
        files.image(source / part / f"{stem}.png")
        files.label(source / f"{part}annot" / f"{stem}.png", 12)


def own(files: Files, source: Path) -> None:
    for split in ("train", "val"):
        files.image(source / split / "images/a.png")
        files.image(source / split / "images/b.jpg")
        for stem in "ab":
            files.label(source / split / "labels" / f"{stem}{split}.png")
            path = source / split / "labels" / f"{stem}{split}.png"
            path.rename(path.with_name(f"{stem}.png"))


def colours(files: Files, source: Path) -> None:
    own(files, source)
    for path in source.glob("*/labels/*.png"):
        Image.fromarray(np.array(PALETTE, np.uint8)[np.asarray(Image.open(path))]).save(path)


SOURCES: dict[str, tuple[Callable[[Files, Path], None], tuple[str, ...]]] = {
    "cityscapes": (cityscapes, ("cityscapes",)),
    "gta5": (gta5, ("gta5",)),
    "synthia": (synthia, ("synthia",)),
    "idd": (idd, ("idd",)),
    "mapillary": (mapillary, ("mapillary",)),
    "bdd100k": (bdd100k, ("bdd100k",)),
    "camvid": (camvid, ("camvid",)),
    "trainids": (own, ("folder",)),
    "colours": (colours, ("folder", "--mapping", "cityscapes_colors")),
    "small": (own, ("folder", "--max-side", "70")),
}
torch.set_num_threads(1)
