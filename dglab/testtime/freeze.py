"""A plain copy of a network with a target's statistics as its running ones, for export or use without adaptation."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dglab.models.batchnorm import batchnorm_layers
from dglab.testtime.fast_moments import moments_of_each
from dglab.testtime.guarded import PRIOR, Guard, warn_of_no_reference
from dglab.testtime.moments import Moments, blend, check_finite, is_of_one_colour, pooled
from dglab.testtime.normalization import BatchStatistics
from dglab.testtime.predictor import Predictor
from dglab.testtime.reference import SourceReference
from dglab.utils.errors import InputError


def freeze(model: nn.Module, images: Tensor | Iterable[Tensor], reference: SourceReference | None = None) -> nn.Module:
    """A copy in evaluation mode whose running statistics are those that the guard uses on these images.

    Args:
        model: any ``nn.Module`` with BatchNorm; it does not change.
        images: some of the target's, N x 3 x H x W, or a list of such batches, which is passed through twice: to look
            at them, and to normalize each by the statistics of all images so far. Those of a single colour, which tell
            nothing about their domain, are left out.
        reference: measured on this model; without one a fixed share of source statistics is used, 0.8, with a warning.

    Returns:
        The copy, without hooks or other state; it exports to ONNX like any network. For a single batch it predicts what
        a fresh ``GuardedNormalization(model, reference)`` does, unless a layer runs more than once in a pass: it has
        one pair of buffers, which get the statistics of all its calls.

    Raises:
        InputError: for no image, images of a single colour alone, or a reference of another network.

    Warns:
        UserWarning: where a layer gets one value per channel, which has no variance; it keeps its source statistics.
    """
    checker, batches = Predictor(model), [images] if isinstance(images, Tensor) else list(images)
    for batch in batches:
        checker.check(batch)
    batches = [batch[tell] for batch in batches if (tell := ~is_of_one_colour(batch)).any()]
    if not batches:
        raise InputError("freeze got no image, or images of a single colour alone; pass some of the target's")
    if reference is None:
        warn_of_no_reference()
        prior = PRIOR
    else:
        guard = Guard(checker.model, reference)
        guard.see(batches)
        prior = 1 - guard.share
    chosen = _Accumulated(prior)
    checker.run(batches, chosen)
    check_finite(chosen.moments)
    with torch.inference_mode(False), torch.no_grad():  # a plain copy, which can be trained further
        frozen = copy.deepcopy(checker.model).eval()
        for name, layer in batchnorm_layers(frozen).items():
            if name in chosen.moments:
                buffers = (layer.running_mean, layer.running_var)
                for buffer, part in zip(buffers, chosen.moments[name], strict=True):
                    buffer.copy_(part)
                check_finite({name: buffers})  # half precision may overflow
    return frozen


class _Accumulated:
    """The statistics of all images so far, blended with the source's.

    Attributes:
        moments: for each layer with source statistics, those that it was last normalized by.
    """

    def __init__(self, prior: float) -> None:
        self.prior = prior
        self._single = BatchStatistics(prior)  # for a layer with one value per channel: warns once
        self.each: dict[str, Moments] = {}  # of all images so far, N x C each
        self.moments: dict[str, Moments] = {}

    def __call__(self, name: str, x: Tensor, source: Moments | None) -> Moments | None:
        if source is None:
            return source
        if x.numel() == x.shape[1]:
            return self._single(name, x, source)
        each = moments_of_each(x)
        if name in self.each:
            each = tuple(torch.cat(pair) for pair in zip(self.each[name], each, strict=True))
        self.each[name] = each
        self.moments[name] = blend(pooled(each), source, self.prior)
        return self.moments[name]
