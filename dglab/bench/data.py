"""``dglab bench data``: how fast prepared data reaches the network, beside the plain way, and how fast it is prepared.

The bench draws its own photographs: street scenes of the two domains whose PNGs are as hard to decode as those of
the public archives, 9 bits a pixel (Cityscapes: 11 GB for 5,000 images of 2048 x 1024). It converts them with
:mod:`data_prep`, and feeds both kinds of files to one core. A loader with W workers feeds W times as much, as long
as there are W cores.

Of ours, decoding takes three quarters; that is why :mod:`data_prep` writes what decodes fast. An image is decoded
whole all the same: one can enter a JPEG only at restart markers, which files from elsewhere do not have.
"""

import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor

from dglab.bench.measure import measure
from dglab.classes import IGNORED
from dglab.data.augmentation import augment, training_augmentation
from dglab.data.batches import MultiDomainBatches
from dglab.data.prepared import open_root
from dglab.data.streets import STREETS, render
from dglab.training.config import TrainingConfig
from dglab.utils.images import encode_jpeg, encode_label, read_image, read_label
from dglab.utils.machine import usable_cpus

LETTERS = "GS"  # of realistic file sizes; the noise of the other three takes up to 16 bits a pixel
PER_BATCH = 6

# In a process of its own, so that the peak of its memory is the converter's, without torch.
_CONVERT = """
import json, pathlib, sys, time
from data_prep.__main__ import main
start = time.perf_counter()
assert main(["folder", "--source", sys.argv[1], "--out", sys.argv[2]]) == 0
seconds = time.perf_counter() - start
status = pathlib.Path("/proc/self/status")  # of Linux; elsewhere the memory is left out
kib = [int(line.split()[1]) for line in (status.read_text() if status.exists() else "").splitlines() if "VmHWM" in line]
print(json.dumps({"seconds": seconds, "peak_mib": kib[0] / 1024 if kib else None}))
"""


def bench_data(size: tuple[int, int], *, scenes: int = 6, pairs: int = 64, rounds: int = 20) -> list[dict[str, Any]]:
    """Feed augmented crops from files, after converting these files.

    Args:
        size: of the images, H x W pixels.
        scenes: different images to draw.
        pairs: images and labels of train to convert, copies of these.
        rounds: how often each way feeds a batch of 6.

    Returns:
        Four records with the keys of :func:`dglab.bench.measure.measure`, None where not measured. The plain way
        (:func:`plain_draw`) and ours also have ``images_per_second``, and ``bits_per_pixel`` of the files they read.
        Then decoding and encoding alone, on one core, and the converter on all cores: ``codec_share`` is the part of
        the cores' time that goes into decoding and encoding, if nothing else runs meanwhile, and ``peak_mib`` the peak
        of the whole process.
    """
    with tempfile.TemporaryDirectory() as temporary, _one_thread():
        source, out = Path(temporary) / "streets", Path(temporary) / "prepared"
        _draw(source, size, scenes, pairs)
        conversion = _conversion(source, out)
        return _feeding(source, out, rounds) + conversion


def plain_draw(
    image_path: Path, label_path: Path, crop: tuple[int, int], scale: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Scale and crop the plain way: open both files, scale all of them, cut the crop out (or pad to it).

    Args:
        image_path, label_path: of any size, the same for both.
        crop: H x W pixels.
        scale: range of the random factor.

    Returns:
        Image (uint8 3 x H x W) and label (uint8 H x W), as :class:`dglab.data.augmentation.RandomScaleCrop` gives.
    """
    with Image.open(image_path) as image_file, Image.open(label_path) as label_file:
        factor = torch.empty(()).uniform_(*scale).item()
        scaled = [round(side * factor) for side in image_file.size]
        image = image_file.convert("RGB").resize(scaled, Image.Resampling.BILINEAR)
        label = label_file.resize(scaled, Image.Resampling.NEAREST)
    corner = []
    for side, wanted in zip(scaled, reversed(crop), strict=True):
        low, high = sorted((0, wanted - side))  # a large image begins left of the crop, a small one within
        corner.append(int(torch.randint(low, high + 1, ())))
    window, label_window = Image.new("RGB", crop[::-1]), Image.new("L", crop[::-1], IGNORED)
    window.paste(image, tuple(corner))
    label_window.paste(label, tuple(corner))
    return pil_to_tensor(window), pil_to_tensor(label_window)[0]


def _feeding(source: Path, out: Path, rounds: int) -> list[dict[str, Any]]:
    paper = TrainingConfig()
    transform = training_augmentation(paper.crop, paper.scale, paper.blur)
    (domain,) = open_root(out, verify=False).values()
    train = domain.train
    batches = MultiDomainBatches([train], PER_BATCH, sys.maxsize, transform, seed=0)
    steps = itertools.count()

    flip_and_blur = v2.Compose(transform.transforms[1:])  # the same for both
    plain_images = [source / "train/images" / f"{stem}.png" for stem in train.stems]
    plain_labels = [source / "train/labels" / f"{stem}.png" for stem in train.stems]
    turns = itertools.cycle(range(len(train)))

    def plain() -> tuple[Tensor, Tensor]:
        drawn = []
        for index in itertools.islice(turns, PER_BATCH):
            window = plain_draw(plain_images[index], plain_labels[index], paper.crop, paper.scale)
            drawn.append(augment(flip_and_blur, *window))
        images, labels = zip(*drawn, strict=True)
        return torch.stack(images), torch.stack(labels)

    records = measure({"feed PNG, plain": plain, "feed prepared": lambda: batches[next(steps)]}, device="cpu",
                      rounds=rounds)  # fmt: skip
    for record, images in zip(records, (plain_images, train.images), strict=True):
        record |= {
            "peak_mib": None,  # torch's share says nothing: Pillow's memory is its own
            "peak_ratio": None,
            "images_per_second": PER_BATCH / record["seconds"],
            "bits_per_pixel": _bits_per_pixel(images),
        }
    return records


def _conversion(source: Path, out: Path) -> list[dict[str, Any]]:
    pairs = [(source / "train/images" / path.name, path) for path in (source / "train/labels").iterdir()]
    start = time.perf_counter()
    for image, label in pairs:  # what a conversion cannot do without
        encode_jpeg(read_image(image, thorough=True))
        encode_label(read_label(label))
    alone = time.perf_counter() - start
    command = [sys.executable, "-c", _CONVERT, str(source), str(out)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    found, cores = json.loads(printed.splitlines()[-1]), usable_cpus()
    unknown = {"spread": None, "peak_mib": None, "peak_ratio": None}
    return [
        {"case": f"recode {len(pairs)}, 1 core", "seconds": alone, "ratio": 1.0, **unknown},
        {"case": f"convert {len(pairs)}, {cores} cores", "ratio": found["seconds"] / alone, **unknown, **found,
         "codec_share": alone / (cores * found["seconds"])},
    ]  # fmt: skip


def _draw(source: Path, size: tuple[int, int], scenes: int, pairs: int) -> None:
    """A source folder of PNGs as public archives hold them: ``pairs`` of train, and one of val."""
    places = [("train", i) for i in range(pairs)] + [("val", 0)]
    for number, (split, i) in enumerate(places):
        image, label = (source / split / kind / f"{i}.png" for kind in ("images", "labels"))
        for path in (image, label):
            path.parent.mkdir(parents=True, exist_ok=True)
        if number < scenes:
            scene = render(STREETS[LETTERS[i % len(LETTERS)]], "train", i, height=size[0], width=size[1])
            Image.fromarray(scene.image).save(image)
            Image.fromarray(scene.label).save(label)
        else:
            shutil.copyfile(source / "train/images" / f"{number % scenes}.png", image)
            shutil.copyfile(source / "train/labels" / f"{number % scenes}.png", label)


def _bits_per_pixel(images: list[Path]) -> float:
    pixels = 0
    for path in images:
        with Image.open(path) as image:
            pixels += image.width * image.height
    return 8 * sum(path.stat().st_size for path in images) / pixels


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
