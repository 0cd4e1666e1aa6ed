"""Predict a folder of images: label PNGs and colour overlays."""

import csv
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from natsort import natsorted
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from dglab.classes import colorize
from dglab.data.streams import image_batches
from dglab.models import logits_of
from dglab.testtime.guarded import GuardedNormalization
from dglab.testtime.methods import TestConfig, build_predictor
from dglab.testtime.reference import SourceReference
from dglab.testtime.scenes import colours, find_scenes
from dglab.utils.errors import InputError
from dglab.utils.files import listed, written_whole
from dglab.utils.images import brief, read_upright
from dglab.utils.sizes import resized

SUFFIXES = (".jpg", ".jpeg", ".png")
METHODS = ("bn", "tn", "adabn", "guarded", "qib", "sib")  # those that need neither source data nor the images' domains
DRIFT = "drift.csv"
OPACITY = 0.55  # of the classes over the image


@dataclass(frozen=True)
class Folder:
    """The images of a folder in natural order of their names, upright, with the size of each (H, W).

    ``turned``: those that their EXIF orientation has turned or mirrored, as every viewer shows them; ``colours``: the
    histograms that tell where a film cuts.
    """

    paths: list[Path]
    sizes: list[tuple[int, int]]
    turned: list[Path]
    colours: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, None]:
        """An image, uint8 3 x H x W, and no label."""
        return torch.from_numpy(read_upright(self.paths[index])[0]).permute(2, 0, 1), None


def list_images(folder: Path) -> Folder:
    """Find the images and decode each once, so that what cannot be predicted is known before anything is written.

    Raises:
        InputError: for a missing folder, one without images, two of the same stem, or an unreadable file.
    """
    if not os.path.isdir(folder):
        raise InputError(f"there is no folder {folder}; pass a folder with {', '.join(SUFFIXES)} images")
    files = listed(folder)
    paths = natsorted((p for p in files if p.suffix.lower() in SUFFIXES), key=lambda p: p.name)
    left_out = [p for p in files if p not in paths and p.suffix.lower() in Image.registered_extensions()]
    if left_out:
        warnings.warn(
            f"{brief(left_out)}: {len(left_out)} image(s) left out; {', '.join(SUFFIXES)} are read", stacklevel=2
        )
    if not paths:
        raise InputError(f"{folder} holds no image; expected files ending in {', '.join(SUFFIXES)}")
    stems = [path.stem for path in paths]
    twice = next((path for path in paths if stems.count(path.stem) > 1), None)
    if twice is not None:
        raise InputError(f"{folder} holds two images called {twice.stem}; their predictions would overwrite each other")
    sizes, turned, histograms = [], [], []
    for path in paths:
        image, was_turned = read_upright(path, thorough=True)
        sizes.append(image.shape[:2])
        turned += [path] if was_turned else []
        histograms.append(colours(image))
    return Folder(paths, sizes, turned, histograms)


def predict_folder(
    model: nn.Module,
    images: Path,
    out: Path,
    test: TestConfig,
    device: str = "cpu",
    reference: Callable[[], SourceReference | None] | None = None,
) -> int:
    """Predict every image of a folder in natural order of names.

    Args:
        model: the trained network.
        images: folder of jpg and png files.
        out: gets ``labels/<stem>.png`` (single-channel trainIds) and ``overlays/<stem>.png``; of the guard with a
            reference also ``drift.csv``: a column a frame, a row for the number of its scene, D, w, and d of each
            layer, as the last look found it.
        test: the test-time method. TN takes M consecutive images at a time, brought to the size of the first; a bank
            takes them as they come, and brings those it keeps to the size of the current one. Every prediction has the
            size of its image, upright. The guard begins anew where a film cuts, and takes no images of two scenes
            together: see :func:`dglab.testtime.scenes.find_scenes`.
        device: where the model is.
        reference: for ``guarded``, see :func:`dglab.testtime.methods.build_predictor`.

    Returns:
        How many were predicted.

    Raises:
        InputError: before anything is written, for a method that a folder of images does not serve, and for images
            that cannot be read.
    """
    check_method(test)
    _keep_what_is_not_ours(images, out)
    folder = list_images(images)
    if folder.turned:
        warnings.warn(
            f"{brief(folder.turned)}: {len(folder.turned)} image(s) turned as their EXIF orientation says; their "
            "predictions lie as the images are seen",
            stacklevel=2,
        )
    size = test.batch_size or 1
    predictor = build_predictor(
        test,
        model,
        target_batches=lambda: image_batches(folder, 16, device),
        reference=reference,
        resize=True,
    )
    watched = isinstance(predictor, GuardedNormalization) and predictor.guard is not None
    drift: dict[str, dict[str, float]] = {}  # by frame
    with tqdm(total=len(folder), desc=f"predicting ({test.method})", leave=False) as bar:
        for scene, frames in enumerate(find_scenes(folder.colours) if watched else [list(range(len(folder)))]):
            if watched:
                predictor.reset()
            arriving = iter(frames)
            for batch in image_batches(folder, size, device, frames, resize=True):
                with torch.no_grad():
                    logits = logits_of(predictor(batch))  # M x 19 x H x W
                for of_one, number in zip(logits.split(1), arriving, strict=False):
                    label = resized(of_one, folder.sizes[number]).argmax(1)[0]
                    _write(out, folder.paths[number], label.byte().cpu().numpy())
                    if watched:
                        drift[folder.paths[number].stem] = {
                            "scene": scene + 1,
                            **predictor.guard.state,
                            "share": predictor.share,
                        }
                    bar.update()
    if drift:
        write_drift(out / DRIFT, drift)
    else:
        (out / DRIFT).unlink(missing_ok=True)  # of an earlier run into this folder
    return len(folder.paths)


def write_drift(path: Path, drift: Mapping[str, Mapping[str, float]]) -> None:
    """How far out of the ordinary a stream was: a column a frame, a row for each of the guard's numbers."""
    rows = list(dict.fromkeys(name for state in drift.values() for name in state))
    with written_whole(path) as beside, open(beside, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["", *drift])
        for name in rows:
            table.writerow([name, *(f"{state[name]:.4g}" if name in state else "" for state in drift.values())])


def check_method(test: TestConfig) -> None:
    """Refuse what needs more than images: the source data, or the domain of each image."""
    if test.method not in METHODS:
        raise InputError(
            f"predict cannot use {test.method}; its methods are {', '.join(METHODS)}. bn-reestimated needs the source "
            "data, random and oracle are controls for a labelled stream: use dglab evaluate"
        )


def _keep_what_is_not_ours(images: Path, out: Path) -> None:
    """Refuse to write over the images, or over labels that no prediction has written: perhaps the ground truth."""
    labels, overlays = out / "labels", out / "overlays"
    if images.resolve() in (labels.resolve(), overlays.resolve()):
        raise InputError(f"the predictions would be written over the images in {images}; choose another --out")
    if labels.is_dir() and not overlays.is_dir() and any(labels.iterdir()):
        raise InputError(f"{labels} holds files that no prediction has written, perhaps labels; choose another --out")


def _write(out: Path, path: Path, label: np.ndarray) -> None:
    overlay = OPACITY * colorize(label) + (1 - OPACITY) * read_upright(path)[0]
    for name, picture in (("overlays", overlay.round().astype(np.uint8)), ("labels", label)):
        with written_whole(out / name / f"{path.stem}.png") as beside:
            save_png(picture, beside)


def save_png(picture: np.ndarray, path: Any) -> None:
    """Write H x W or H x W x 3 uint8 as PNG, whatever the file's suffix."""
    Image.fromarray(picture).save(path, format="PNG")
