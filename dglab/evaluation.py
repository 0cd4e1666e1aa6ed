"""Scores: one confusion matrix per data set, over full images; absent classes are left out of the mean, and counted.

:class:`AuthorsView` scores as the authors' code does, only for comparison with the numbers that the paper prints.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from dglab.classes import CATEGORIES, CATEGORY_NAMES, IGNORED, NUM_CLASSES
from dglab.data.streams import Batch, arrival_order, arrivals, in_batches
from dglab.models import logits_of
from dglab.testtime import ImageBank
from dglab.utils.errors import InputError
from dglab.utils.sizes import resized


class ConfusionMatrix:
    """Counts of (label, prediction) pairs over a data set; the IoU of a class is TP / (TP + FP + FN).

    Source: Everingham et al., IJCV 2010, Eq. 4; Cityscapes' ``evalPixelLevelSemanticLabeling.py``.

    Args:
        num_classes: the number of classes K.
        ignore_index: the label of pixels that do not count.

    Attributes:
        counts: K x K int64; row = label, column = prediction.
    """

    def __init__(self, num_classes: int = NUM_CLASSES, ignore_index: int = IGNORED) -> None:
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def update(self, prediction: Tensor | np.ndarray, label: Tensor | np.ndarray) -> None:
        """Count predictions (integers, 0 to K-1) against labels of the same shape.

        Raises:
            InputError: for shapes that differ or values out of range; nothing is counted then.
        """
        prediction, label = (torch.as_tensor(x).detach().cpu() for x in (prediction, label))
        if prediction.shape != label.shape:
            raise InputError(
                f"prediction has shape {tuple(prediction.shape)}, label {tuple(label.shape)}; "
                "score whole images at the label's size"
            )
        counted = label != self.ignore_index
        label, prediction = label[counted].long(), prediction[counted].long()
        for what, values in (("label", label), ("prediction", prediction)):
            if values.numel() and not (0 <= values.min() and values.max() < self.num_classes):
                wrong = values[(values < 0) | (values >= self.num_classes)][0].item()
                raise InputError(
                    f"a {what} has the value {wrong}; expected 0 to {self.num_classes - 1}"
                    + (f", or {self.ignore_index} where it does not count" if what == "label" else "")
                )
        pairs = torch.bincount(self.num_classes * label + prediction, minlength=self.num_classes**2)
        self.counts += pairs.reshape(self.num_classes, self.num_classes).numpy()  # label x prediction

    @classmethod
    def of(cls, prediction: Tensor | np.ndarray, label: Tensor | np.ndarray) -> "ConfusionMatrix":
        """The matrix of these pixels alone; arguments as of :meth:`update`."""
        matrix = cls()
        matrix.update(prediction, label)
        return matrix

    def merge(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        """Add the counts of another matrix over the same classes, in place; returns itself."""
        if other.num_classes != self.num_classes:
            raise InputError(f"cannot merge a matrix of {other.num_classes} classes into one of {self.num_classes}")
        self.counts += other.counts
        return self

    def iou(self) -> np.ndarray:
        """Per-class IoU in [0, 1], K floats; nan for a class absent from labels and predictions."""
        hits = np.diag(self.counts).astype(float)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        return np.divide(hits, union, out=np.full(self.num_classes, np.nan), where=union > 0)

    def miou(self) -> float:
        """Mean IoU over the classes that occur, in [0, 1]; nan if none does."""
        iou = self.iou()
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")

    def of_categories(self) -> "ConfusionMatrix":
        """The matrix of the seven categories of Cityscapes, in which a car taken for a truck is correct.

        Source: Cityscapes' ``evalPixelLevelSemanticLabeling.py``, the scores of categories.
        """
        matrix = ConfusionMatrix(len(CATEGORY_NAMES), self.ignore_index)
        np.add.at(matrix.counts, np.ix_(CATEGORIES, CATEGORIES), self.counts)
        return matrix

    @property
    def num_absent(self) -> int:
        """The number of classes that the mean leaves out, absent from labels and predictions alike."""
        return int(np.isnan(self.iou()).sum())


class Predicted(NamedTuple):
    """A test batch and its prediction, which :func:`evaluate` passes to ``after_batch``."""

    batch: Batch
    logits: Tensor  # M x 19 x H x W


def evaluate(
    predictor: Callable[[Tensor], Any],
    dataset: Dataset,
    *,
    batch_size: int = 1,
    test_seed: int | None = None,
    device: torch.device | str = "cpu",
    resize: bool = False,
    after_batch: Callable[[Predicted], None] | None = None,
    images: list[np.ndarray] | None = None,
) -> ConfusionMatrix:
    """Score a predictor over full images, in one confusion matrix.

    Args:
        predictor: images M x 3 x H x W in [0, 1] -> logits (or what :func:`dglab.models.logits_of` reads). A bank also
            gets the domain of each image, which only its control ``oracle`` uses.
        dataset: of (image 3 x H x W, uint8 or float in [0, 1]; label uint8 H x W).
        batch_size: M, how many images the predictor sees at a time.
        test_seed: of the order of arrival; None takes the data set's own order.
        device: where the images go.
        resize: resize the images of a batch to the size of the first one, and their logits back: every label is scored
            at its own size.
        after_batch: called with each batch after its prediction.
        images: a list that receives the counts of each image, K x K, in the order of the data set; see
            :func:`image_interval`.

    Returns:
        The confusion matrix of all images.

    Raises:
        InputError: for an empty data set, one without a labelled pixel, a label or logits of another size than the
            image, a batch size below 1, or, without ``resize``, a batch of unlike sizes.
    """
    if batch_size < 1:
        raise InputError(f"the batch size is {batch_size}; expected 1 or more")
    if len(dataset) == 0:
        raise InputError("the data set has no image; nothing can be scored")
    matrix = ConfusionMatrix()
    order = arrival_order(len(dataset), test_seed)
    stream, each = arrivals(dataset, order), []
    for batch in in_batches(stream, batch_size, device, resize=resize):
        logits = _predict(predictor, batch)
        for of_one, label in zip(logits.split(1), batch.labels, strict=True):  # 1 x 19 x H x W, H x W
            alone = ConfusionMatrix()
            alone.update(resized(of_one, label.shape).argmax(1), label[None])
            matrix.merge(alone)
            each.append(alone.counts)
        if after_batch is not None:
            after_batch(Predicted(batch, logits))
    if not matrix.counts.any():
        raise InputError(
            f"none of the {len(dataset)} images has a labelled pixel, so nothing can be scored; labels are trainIds "
            "0-18, and 255 counts as unlabelled"
        )
    if images is not None:
        images[:] = [each[place] for place in np.argsort(order)]
    return matrix


class Interval(NamedTuple):
    """An interval of a value, from low to high."""

    low: float
    high: float


def image_interval(
    images: Sequence[np.ndarray],
    against: Sequence[np.ndarray] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """How much the mIoU of one trained network would vary with other images of the same domain.

    The percentile bootstrap over images: the mIoU of as many images, drawn with replacement, many times. It does not
    cover the variation between trainings. Predictions are not repeated, even for images normalized together.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.

    Args:
        images: counts of each image, K x K, see :func:`evaluate`.
        against: the counts of another test on the same images; the interval is then that of the difference of mIoU,
            the first minus this one.
        level: of the interval, 0 to 1.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        Shares, from 0 to 1 (or -1 to 1).

    Raises:
        InputError: for no image, or another number of images in ``against``.
    """
    if not len(images) or (against is not None and len(against) != len(images)):
        other = "" if against is None else f" and {len(against)}"
        raise InputError(
            f"got the counts of {len(images)}{other} images; expected one or more, and the same ones twice"
        )
    draws = np.random.default_rng(seed).multinomial(len(images), [1 / len(images)] * len(images), size=resamples)
    values = _resampled_miou(images, draws)
    if against is not None:
        values = values - _resampled_miou(against, draws)
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _resampled_miou(images: Sequence[np.ndarray], draws: np.ndarray) -> np.ndarray:
    """The mIoU of each draw; ``draws``, resamples x images, says how often each image is in it."""
    counts = np.stack(images).astype(float)
    hits, labels, predictions = (draws @ part for part in (
        counts.diagonal(axis1=1, axis2=2), counts.sum(2), counts.sum(1)
    ))  # fmt: skip
    union = labels + predictions - hits
    iou = np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)
    return np.nanmean(iou, axis=1)


def _predict(predictor: Callable[..., Any], batch: Batch) -> Tensor:
    """The logits of a batch, M x 19 x H x W."""
    options = {"domain": batch.domains} if isinstance(predictor, ImageBank) else {}
    with torch.no_grad():
        logits = logits_of(predictor(batch.images, **options))
    if logits.shape[-2:] != batch.images.shape[-2:]:
        raise InputError(
            f"the logits are {tuple(logits.shape)} for images of {tuple(batch.images.shape)}; the predictor must "
            "return them at the size of its images: upsample them in it"
        )
    return logits


View = Callable[[Dataset], Dataset]  # a domain's validation set -> the images and labels of it that are scored


def whole_images(dataset: Dataset) -> Dataset:
    """Every image, uncropped: our scores."""
    return dataset


class AuthorsView(Dataset):
    """A validation set as the authors' public code scores it: resized, center-cropped, and only a part of it.

    The short side of each image is resized to a length that depends on its data set, and a square of this side is cut
    from the center: half the pixels of a 2048 x 1024 image of Cityscapes, those at its left and right, are never
    scored. Of GTA5, SYNTHIA and Mapillary only the first 500 images are scored. Labels are resized, too. Otherwise
    their mIoU is ours: one confusion matrix over the set, without absent classes.

    Source: ``dataset/natural_datasets.py`` (``get_transform``, ``crop_size`` and ``__len__`` of each data set),
    ``dataset/transforms.py`` (``FixScale``, ``CenterCrop``) of github.com/koncle/TSMLDG. Not part of the view: their
    checkpoint is the one that is best on the target, and their network upsamples its logits with ``align_corners``.

    Args:
        dataset: of (image uint8 3 x H x W, label uint8 H x W), with a ``letter``, one of the paper's five.

    Raises:
        InputError: for a domain that their code does not know.
    """

    short_side = {"G": 700, "S": 760, "I": 768, "M": 769, "C": 768}  # pixels, and of the square crop
    most = {"G": 500, "S": 500, "M": 500}  # images

    def __init__(self, dataset: Dataset) -> None:
        if dataset.letter not in self.short_side:
            raise InputError(
                f"the authors' code knows {', '.join(self.short_side)} and no {dataset.letter!r}; take our own scores"
            )
        self.dataset, self.letter, self.side = dataset, dataset.letter, self.short_side[dataset.letter]

    def __len__(self) -> int:
        return min(len(self.dataset), self.most.get(self.letter, len(self.dataset)))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.dataset[index]
        image = self._square(image.permute(1, 2, 0).numpy(), Image.Resampling.BILINEAR)
        label = self._square(label.numpy(), Image.Resampling.NEAREST)
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(label)

    def _square(self, pixels: np.ndarray, resampling: Image.Resampling) -> np.ndarray:
        """Resize and crop with Pillow, as their code does: torch's nearest neighbour sometimes differs."""
        picture = Image.fromarray(pixels)
        width, height = (max(self.side, int(side * (self.side / min(picture.size)))) for side in picture.size)
        left, top = (width - self.side) // 2, (height - self.side) // 2
        box = (left, top, left + self.side, top + self.side)
        return np.array(picture.resize((width, height), resampling).crop(box))


VIEWS: dict[str, View] = {"ours": whole_images, "authors_code": AuthorsView}


def find_view(name: str) -> View:
    """A way of scoring by name.

    Raises:
        InputError: for an unknown name.
    """
    if name not in VIEWS:
        raise InputError(f"unknown scores {name!r}; expected {' or '.join(VIEWS)}")
    return VIEWS[name]
