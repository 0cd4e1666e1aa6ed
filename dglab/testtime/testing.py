"""Testing a trained network in one way on a stream."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dglab.data import Domain, Joined
from dglab.data.streams import arrival_order, image_batches
from dglab.data.streets.size import StreetsSize
from dglab.evaluation import ConfusionMatrix, Interval, Predicted, evaluate, image_interval
from dglab.models import logits_of
from dglab.models.multimodal import Branch, Without
from dglab.testtime import ImageBank, SourceReference
from dglab.testtime.methods import TestConfig, build_predictor
from dglab.training.config import TrainingConfig
from dglab.training.trainer import training_batches
from dglab.utils.errors import InputError
from dglab.utils.seeds import derive_seed

REESTIMATION_BATCHES = 50
ADAPTATION_SEED = 0  # AdaBN collects its statistics in a random order: each batch then mixes a stream's domains


class Result(NamedTuple):
    """The result of a test: its confusion matrix and, for a bank, what it selected and how well cached equals joint."""

    matrix: ConfusionMatrix
    selection_accuracy: float | None = None  # on a mixed stream: share of selected images of the right domain, 0 to 1
    agreement: float | None = None  # of cached statistics: share of pixels predicted as with joint ones, 0 to 1
    interval: Interval | None = None  # of the mIoU over images, 95 %, 0 to 1


def run_test(
    model: nn.Module,
    stream: Joined,
    test: TestConfig,
    *,
    source_batches: Callable[[], Iterable[Tensor]] | None = None,
    reference: Callable[[], SourceReference | None] | None = None,
    device: str = "cpu",
    compare: bool = False,
) -> Result:
    """Test a network in one way.

    Images that are normalized together need one size. Where sizes differ (as in GTA5 and Mapillary), TN resizes a batch
    to the size of its first image, a bank resizes its images to the current one's; each is scored at its own size.

    Args:
        model: the trained network. ``bn-reestimated`` changes its running statistics in place.
        stream: the validation images of the test's domains; of several modalities stacked, see
            :class:`dglab.data.multimodal.Stacked`.
        test: the method and its settings.
        source_batches: for ``bn-reestimated``, see :func:`reestimation_batches`.
        reference: for ``guarded``, see :func:`dglab.testtime.methods.build_predictor`.
        device: where the model is.
        compare: also run joint statistics beside cached ones, for ``agreement``.
    """
    order = arrival_order(len(stream), ADAPTATION_SEED)
    predictor = build_predictor(
        test,
        seen_as(model, test),
        target_batches=lambda: image_batches(stream, 16, device, order),
        source_batches=source_batches,
        reference=reference,
        seed=test.test_seed or 0,
        resize=True,
    )
    if isinstance(predictor, ImageBank):
        return _run_bank(predictor, stream, test, device, compare and test.statistics == "cached")
    images: list[np.ndarray] = []
    matrix = evaluate(
        predictor, stream, batch_size=test.batch_size or 1, test_seed=test.test_seed, device=device, resize=True,
        images=images,
    )  # fmt: skip
    return Result(matrix, interval=image_interval(images))


def seen_as(model: nn.Module, test: TestConfig) -> nn.Module:
    """The network that a test is about: itself, one of its branches, or the network without one of its modalities.

    Raises:
        InputError: for a branch that the network does not have.
    """
    if test.branch is not None:
        return Branch(model, test.branch)
    return model if test.without is None else Without(model, [test.without])


def _run_bank(bank: ImageBank, stream: Joined, test: TestConfig, device: str, compare: bool) -> Result:
    joint = ImageBank(bank.model, **{**bank.options, "statistics": "joint"}) if compare else None
    arrived: list[str] = []  # the domain of each image so far, by arrival number
    hits: list[bool] = []
    agreements: list[float] = []

    def look(predicted: Predicted) -> None:
        images, _, domains = predicted.batch
        arrived.extend(domains)
        hits.extend(arrived[number] == arrived[-1] for number in bank.selected)
        if joint is not None:
            same = predicted.logits.argmax(1) == logits_of(joint(images, domain=domains)).argmax(1)
            agreements.append(same.float().mean().item())

    images: list[np.ndarray] = []
    matrix = evaluate(bank, stream, test_seed=test.test_seed, device=device, after_batch=look, images=images)
    return Result(
        matrix,
        float(np.mean(hits)) if len(test.domains) > 1 and hits else None,
        float(np.mean(agreements)) if agreements else None,
        image_interval(images),
    )


def reestimation_batches(
    training: TrainingConfig, domains: Mapping[str, Domain], at_hand: str | StreetsSize, device: str
) -> Iterator[Tensor]:
    """Batches with images of all source domains of a run, cropped as in training, with a seed of their own.

    Args:
        training: the run whose network is tested.
        domains: by letter.
        at_hand: the identity of ``domains``, see :func:`dglab.data.identity`.
        device: where the images go.

    Raises:
        InputError: if the data at hand are not those of the training.
    """
    if training.data != at_hand:
        raise InputError(
            f"the network was trained on '{training.data}', and the data at hand are '{at_hand}'; to re-estimate "
            "its statistics pass the data of its training as --data, or choose another test method"
        )
    seed = derive_seed("reestimation", training.seed)
    batches = training_batches(training, domains, seed=seed, steps=REESTIMATION_BATCHES)
    for step in range(len(batches)):
        images = batches[step][0]
        images = torch.cat(list(images.values()), dim=2) if isinstance(images, dict) else images  # B x D x C x H x W
        yield images.flatten(0, 1).to(device).float() / 255  # (B D) x C x H x W
