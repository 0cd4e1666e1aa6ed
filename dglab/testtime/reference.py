"""The source reference: the moments of single source images in every BatchNorm layer, and their spread."""

import json
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dglab.models.batchnorm import batchnorm_layers
from dglab.testtime.fast_moments import moments_of_each
from dglab.testtime.moments import Moments, check_finite, is_of_one_colour
from dglab.testtime.predictor import Predictor
from dglab.utils.errors import InputError
from dglab.utils.files import check_file, shown, written_whole

FORMAT = "dglab source reference 1"
EPS = 1e-5  # added to variances before the logarithm, so that it is finite for a dead channel
FLOOR = 1e-6  # lower bound of the squared spread, in units of a channel's own variance
SAME = 0.02  # relative difference of running statistics that half precision can make; other networks differ by more


class Ordinary(NamedTuple):
    """The reference of one layer, 2 x C each: row 0 is about means, row 1 about logarithms of variances."""

    center: Tensor  # mean over the source images
    within: Tensor  # variance between the images of one domain
    between: Tensor  # variance between the domains' means


@dataclass(frozen=True)
class SourceReference:
    """What is ordinary for the source, layer by layer.

    Attributes:
        layers: BatchNorm layer's path -> :class:`Ordinary`, in float32.
        running: the layers' running statistics when it was measured, averaged over channels (mean, variance), by which
            the network is recognized.
        images, domains: how many it was measured from.
        home: the share of their own statistics, 0 to 1, at which labelled source images are segmented best; 0, source
            BN, if that was not measured. See :func:`dglab.testtime.of_sources.home_share`.
    """

    layers: dict[str, Ordinary]
    running: dict[str, tuple[float, float]]
    images: int
    domains: int
    home: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.home <= 1:
            raise InputError(f"the share at home is {self.home}; expected 0 (source BN) to 1 (TN)")

    @classmethod
    def measure(
        cls, model: nn.Module, images: Tensor | Iterable[Tensor], domains: Iterable[Hashable] | None = None
    ) -> "SourceReference":
        """Measure a reference from source images, once, in passes under source BN. No label is needed.

        Each image i has moments x_i (of each layer and channel: its mean, and the logarithm of its variance). With
        n images of D domains,

            center = mean of all x_i,
            within = sum_i (x_i - mean of its domain)^2 / (n - D),
            between = variance of the D domain means (divided by D - 1) - within / (n / D), or 0 if that is negative.

        The correction removes the variance that the images leave in their domain's mean (analysis of variance with
        random effects). With one domain, or none known, the two spreads cannot be separated: all of it counts as
        between.

        Args:
            model: any network whose BatchNorm layers have running statistics; it is left unchanged.
            images: N x 3 x H x W, or an iterable of such batches: whole images as the network will see them, some
                dozens of each domain. Those of a single colour, which tell nothing, are left out.
            domains: the domain of each image, N values in order; None where it is not known.

        Raises:
            InputError: for fewer than two images (or none that shares its domain with another), images all alike,
                another number of domains than of images, or a model without source statistics.
        """
        checker, moments = Predictor(model), _MomentsByDomain()
        batches = [images] if isinstance(images, Tensor) else images
        labels = None if domains is None else iter(domains.tolist() if isinstance(domains, Tensor) else domains)
        for batch in batches:
            checker.check(batch)
            of_batch = [None if labels is None else next(labels, _NONE) for _ in batch]
            if _NONE in of_batch:
                raise InputError("there are more images than domains; pass the domain of each image, or None")
            tell = ~is_of_one_colour(batch)
            moments.labels = [label for label, tells in zip(of_batch, tell.tolist(), strict=True) if tells]
            if moments.labels:
                checker.predict(batch[tell], moments)
        if labels is not None and next(labels, _NONE) is not _NONE:
            raise InputError("there are more domains than images; pass the domain of each image, or None")
        return moments.reference(checker.model)

    def check(self, model: nn.Module) -> None:
        """Refuse a network that this was not measured on, judged by its layers, channels and running statistics.

        Raises:
            InputError: naming the first layer that differs.
        """
        layers = {n: m for n, m in batchnorm_layers(model).items() if m.running_mean is not None and n in self.layers}
        wrong = sorted(self.layers.keys() - layers.keys()) or [  # others of the model may not have run, as a head for
            n
            for n, m in layers.items()
            if len(m.running_mean) != self.layers[n].center.shape[1]  # training alone
        ]
        if wrong:
            raise InputError(
                f"the reference was measured on another network: layer {wrong[0]!r} and {len(wrong) - 1} more do not "
                f"fit {type(model).__name__}; measure it on this one with SourceReference.measure"
            )
        for name, now in _running(layers).items():
            then = self.running[name]
            scale = max(abs(then[0]), abs(then[1]), EPS)
            if any(abs(a - b) > SAME * scale for a, b in zip(now, then, strict=True)):
                raise InputError(
                    f"the reference was measured on a network with other weights or running statistics: those of layer "
                    f"{name!r} are not the same; measure it on this one with SourceReference.measure"
                )

    def save(self, path: Path | str) -> None:
        """Write the reference as safetensors, at most 1 MiB for a ResNet-50."""
        tensors = {name: torch.stack(tuple(layer)) for name, layer in self.layers.items()}  # 3 x 2 x C
        about = {"format": FORMAT, "images": str(self.images), "domains": str(self.domains), "home": str(self.home)}
        with written_whole(Path(path)) as beside:
            beside.write_bytes(save(tensors, metadata={**about, "running": json.dumps(self.running)}))

    @classmethod
    def load(cls, path: Path | str) -> "SourceReference":
        """Read a reference.

        Raises:
            InputError: for a file that is missing, no reference, or damaged.
        """
        check_file(path)
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it has no iterator)
            if about.get("format") != FORMAT:
                raise ValueError(f"its format is {about.get('format')!r}, expected {FORMAT!r}")
            running = {name: (float(mean), float(var)) for name, (mean, var) in json.loads(about["running"]).items()}
            if running.keys() != tensors.keys():
                raise ValueError("its layers and their running statistics do not belong together")
            for name, tensor in tensors.items():
                if tensor.dtype != torch.float32 or tensor.ndim != 3 or tensor.shape[:2] != (3, 2):
                    raise ValueError(f"layer {name!r} is {tensor.dtype} of shape {tuple(tensor.shape)}")
                if not torch.isfinite(tensor).all() or (tensor[1:] < 0).any():
                    raise ValueError(f"layer {name!r} holds values that are not finite, or negative spreads")
            layers = {name: Ordinary(*tensor) for name, tensor in tensors.items()}
            return cls(layers, running, int(about["images"]), int(about["domains"]), float(about["home"]))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{shown(path)} is not a source reference ({error}); make one with SourceReference.measure(...).save, "
                "or with dglab train"
            ) from error


_NONE = object()  # no domain is left


class _MomentsByDomain:
    """Collects the mean and the squared deviations of the images' moments, by layer and domain, in float64."""

    def __init__(self) -> None:
        self.labels: list[Hashable] = []  # of the images of the present batch
        self.sums: dict[str, dict[Hashable, tuple[int, Tensor, Tensor]]] = {}  # count, mean and squares, 2 x C
        self.variances: dict[str, Tensor] = {}  # C, summed over images

    def __call__(self, name: str, x: Tensor, source: Moments | None) -> Moments | None:
        if source is not None and len(x) == len(self.labels):  # else its rows are no images (tokens, crops)
            each = moments_of_each(x)
            self.variances[name] = self.variances.get(name, 0) + each[1].double().sum(0)
            for label, moments in zip(self.labels, log_moments(each).double().unbind(), strict=True):  # 2 x C each
                count, mean, squares = self.sums.setdefault(name, {}).get(label, (0, 0 * moments, 0 * moments))
                new = mean + (moments - mean) / (count + 1)
                self.sums[name][label] = count + 1, new, squares + (moments - mean) * (moments - new)  # Welford
        return source

    def reference(self, model: nn.Module) -> SourceReference:
        if not self.sums:
            raise InputError(
                "there is nothing to measure: pass at least two source images, and a network whose BatchNorm layers "
                "have running statistics"
            )
        counts = {label: count for label, (count, *_) in next(iter(self.sums.values())).items()}
        n, d = sum(counts.values()), len(counts)
        if n - d < 1:
            raise InputError(
                f"the reference needs two or more source images of a domain, to know how much they differ; got {n} "
                f"of {d} domain(s)"
            )
        layers = {name: self._ordinary(name) for name in self.sums}
        check_finite(layers)
        if not any((layer.within + layer.between > 2 * FLOOR).any() for layer in layers.values()):
            raise InputError("the source images are all alike, so that nothing tells how much they differ; pass others")
        present = {name: m for name, m in batchnorm_layers(model).items() if name in layers}
        return SourceReference(layers, _running(present), n, d)

    def _ordinary(self, name: str) -> Ordinary:
        """Of one layer, by the number of its own calls: a layer may run more than once for an image, or not for all."""
        by_domain = self.sums[name].values()
        n, d = sum(count for count, *_ in by_domain), len(by_domain)
        if n - d < 1:
            raise InputError(f"BatchNorm layer {name!r} runs for too few of the source images ({n}); pass more of them")
        means = torch.stack([mean for _, mean, _ in by_domain])  # D x 2 x C
        weights = torch.tensor([count / n for count, *_ in by_domain]).to(means)
        within = sum(squares for *_, squares in by_domain) / (n - d)
        between = (means.var(0) - within * d / n).clamp_min(0) if d > 1 else within
        variance = (self.variances[name] / n).clamp_min(EPS)  # of a dead channel it is 0
        floor = FLOOR * torch.stack([variance, torch.ones_like(variance)])
        ordinary = (torch.einsum("d,drc->rc", weights, means), within if d > 1 else 0 * within, between + floor)
        return Ordinary(*(part.float().cpu() for part in ordinary))


def log_moments(each: Moments) -> Tensor:
    """Means and logarithms of variances, N x 2 x C, of moments N x C each."""
    return torch.stack([each[0], (each[1] + EPS).log()], dim=1)


def _running(layers: dict[str, nn.Module]) -> dict[str, tuple[float, float]]:
    return {n: (m.running_mean.double().mean().item(), m.running_var.double().mean().item()) for n, m in layers.items()}
