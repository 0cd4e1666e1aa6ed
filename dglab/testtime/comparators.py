"""Gradient-free test-time methods of others that change BatchNorm statistics: baselines for the guard.

All are predictors: images M x 3 x H x W -> logits. ``passes`` is the cost of a call in forward passes, ``needs`` what a
method needs besides the images; ``reset()`` forgets a stream. Other parts of these papers (training, losses) are left
out.
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dglab.models import logits_of
from dglab.testtime.fast_moments import moments_of, moments_of_each
from dglab.testtime.moments import Moments, blend, merged, pooled
from dglab.testtime.predictor import Predictor, check_prior


class FixedPrior(Predictor):
    """A fixed share of source statistics, with or without the cross term of the pooled variance.

    With: sigma^2 = p sigma_s^2 + (1 - p) sigma_t^2 + p (1 - p) (mu_s - mu_t)^2, the variance of both groups together.

    Source: Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation", NeurIPS
    2020, Eq. 3, p = N / (N + n). With p = 0.8 and one image it is also the step of Klingner et al., "Continual
    BatchNorm adaptation (CBNA) for semantic segmentation", T-ITS 2022.
    """

    passes: ClassVar[int] = 1
    needs: ClassVar[str] = "a share that somebody chooses"

    def __init__(self, model: nn.Module, prior: float = 0.8, cross_term: bool = False) -> None:
        super().__init__(model)
        self.prior, self.cross_term = check_prior(prior), cross_term

    def __call__(self, images: Tensor) -> Any:
        return self.predict(images, self._statistics)

    def _statistics(self, name: str, x: Tensor, source: Moments | None) -> Moments | None:
        if self.cross_term and source is not None:
            return merged(source, moments_of(x), 1 - self.prior)
        return blend(moments_of(x), source, self.prior)


class MovingStatistics(Predictor):
    """Source statistics that move with the stream, by a momentum that decays to a floor: DUA.

    Before each batch m <- omega m, then mu <- mu + (m + zeta) (mu_t - mu), and the same for sigma^2 (unbiased).

    Source: Mirza et al., "The norm must go on: dynamic unsupervised domain adaptation by normalization", CVPR 2022;
    their code's 0.1, omega = 0.94 and zeta = 0.005. They augment each image to a batch, which is left out.
    """

    passes: ClassVar[int] = 1
    needs: ClassVar[str] = "a stream in order"

    def __init__(self, model: nn.Module, momentum: float = 0.1, omega: float = 0.94, zeta: float = 0.005) -> None:
        super().__init__(model)
        self.first, self.omega, self.zeta = momentum, omega, zeta
        self.reset()

    def reset(self) -> None:
        self.momentum: float = self.first
        self.moved: dict[str, Moments] = {}

    def __call__(self, images: Tensor) -> Any:
        self.check(images)
        self.momentum *= self.omega
        return self.predict(images, self._statistics)

    def _statistics(self, name: str, x: Tensor, source: Moments | None) -> Moments | None:
        if source is None:
            return None
        n, (mean, variance) = x.numel() // x.shape[1], moments_of(x)
        target = mean, variance * (n / max(n - 1, 1))
        self.moved[name] = blend(target, self.moved.get(name, source), 1 - self.momentum - self.zeta)
        return self.moved[name]


class InstanceAware(Predictor):
    """Each image's own statistics, shrunk softly towards the source's by k standard errors: IABN.

    mu = mu_s + shrink(mu_t - mu_s, k s), shrink(x, t) = sign(x) max(|x| - t, 0), s = sqrt(sigma_s^2 / L) over L
    positions; for sigma^2, s = sigma_s^2 sqrt(2 / (L - 1)). On maps of 10^4 positions both errors are near 0.

    Source: Gong et al., "NOTE: robust continual test-time adaptation against temporal correlation", NeurIPS 2022,
    Eq. 3-5, k = 4.
    """

    passes: ClassVar[int] = 1
    needs: ClassVar[str] = "nothing (the paper trains with it)"

    def __init__(self, model: nn.Module, k: float = 4.0) -> None:
        super().__init__(model)
        self.k = k

    def __call__(self, images: Tensor) -> Tensor:
        return torch.cat([logits_of(self.predict(image, self._statistics)) for image in images.split(1)])

    def _statistics(self, name: str, x: Tensor, source: Moments | None) -> Moments | None:
        n = x.numel() // x.shape[1]  # L
        if source is None or n < 2:
            return source
        (mean, variance), (s_mean, s_variance) = moments_of(x), source
        s_mean, s_variance = s_mean.to(mean), s_variance.to(mean)
        errors = (s_variance / n).sqrt(), s_variance * math.sqrt(2 / (n - 1))
        shifts = mean - s_mean, variance * (n / (n - 1)) - s_variance
        moved = (
            shift.sign() * (shift.abs() - self.k * e).clamp_min(0) for shift, e in zip(shifts, errors, strict=True)
        )
        new_mean, new_variance = (s + m for s, m in zip((s_mean, s_variance), moved, strict=True))
        return new_mean, new_variance.clamp_min(0)


class EntropyWeighted(Predictor):
    """Predictions at six shares of the target's statistics, averaged by how sure they are: InTEnt.

    The target's statistics come from a pass of TN. The weights are a softmax of the negative entropies, scaled to
    [0, 1] among the six; the entropy is balanced: its mean over the predicted classes of the mean over their pixels.

    Source: Dong et al., "Medical image segmentation with InTEnt: integrated entropy weighting for single image
    test-time adaptation", CVPR workshops 2024, their "balanced" weights (two classes there, all here).
    """

    passes: ClassVar[int] = 7
    needs: ClassVar[str] = "nothing"
    shares: ClassVar[tuple[float, ...]] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

    def __call__(self, images: Tensor) -> Tensor:
        """Images M x 3 x H x W -> logarithms of the averaged probabilities."""
        target: dict[str, Moments] = {}
        self.predict(images, lambda name, x, source: target.setdefault(name, moments_of(x)))
        probabilities = [
            logits_of(
                self.predict(images, lambda name, x, source, p=1 - share: blend(target[name], source, p))
            ).softmax(1)
            for share in self.shares
        ]
        entropies = torch.stack([balanced_entropy(p) for p in probabilities])
        low, high = entropies.min(), entropies.max()
        weights = ((high - entropies) / (high - low).clamp_min(1e-12)).softmax(0)
        return sum(w * p for w, p in zip(weights, probabilities, strict=True)).log()


def balanced_entropy(probabilities: Tensor) -> Tensor:
    """Mean over the classes that are predicted of the mean entropy of their pixels; probabilities N x K x H x W."""
    entropy = -(probabilities * probabilities.clamp_min(1e-12).log()).sum(1).flatten()
    _, index, count = probabilities.argmax(1).flatten().unique(return_inverse=True, return_counts=True)
    return (torch.zeros(len(count)).to(entropy).index_add_(0, index, entropy) / count).mean()


class AdaptiveMix(Predictor):
    """A share of source statistics by layer, from how far batch, source and images lie apart: AdaMixBN.

    With squared distances of means and deviations, averaged over channels, between image and batch (ib), image and
    source (is), and batch and source (bs): lambda = 1 - bs / (bs + is + ib), averaged over images, is the source's
    share. For a single image ib = 0 and bs = is, so that lambda is 1/2 whatever the image.

    Source: Zhang et al., "DomainAdaptor: a novel approach to test-time adaptation", ICCV 2023, by their code; their
    loss and what serves it is left out.
    """

    passes: ClassVar[int] = 1
    needs: ClassVar[str] = "a batch of two images or more"

    def __call__(self, images: Tensor) -> Any:
        return self.predict(images, self._statistics)

    def _statistics(self, name: str, x: Tensor, source: Moments | None) -> Moments | None:
        each = moments_of_each(x)
        batch = pooled(each)
        if source is None:
            return batch
        source = tuple(part.to(batch[0]) for part in source)
        ib, is_, bs = _apart(each, batch), _apart(each, source), _apart(batch, source)
        share = (1 - bs / (bs + is_ + ib).clamp_min(1e-12)).mean()
        return tuple(torch.lerp(t, s, share) for t, s in zip(batch, source, strict=True))


def _apart(a: Moments, b: Moments) -> Tensor:
    """Squared distance of means and of deviations, averaged over channels."""
    return ((a[0] - b[0]).square() + (a[1].sqrt() - b[1].sqrt()).square()).mean(-1)
