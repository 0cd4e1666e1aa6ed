"""Comparing domains: samples, class shares, colours, and distances of their styles.

Everything here describes; nothing trains. A *sample* is a few (image, label) pairs spread over a data set, so that
a video does not answer with forty neighbours of one frame.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from dglab.classes import CLASS_NAMES, IGNORED, NUM_CLASSES
from dglab.data import Domain
from dglab.data.streams import image_batches
from dglab.data.streets import STREETS, render
from dglab.testtime.style import Style, style_distance, styles_of
from dglab.utils.errors import InputError

Sample = Sequence[tuple[Tensor, Tensor]]  # images uint8 3 x H x W with labels uint8 H x W

CHANNELS = ("red", "green", "blue")
DRAWN_SIZE = {"height": 96, "width": 192}  # of the streets that are drawn to be compared here


def sample(dataset: Dataset, count: int) -> list[tuple[Tensor, Tensor]]:
    """``count`` items evenly spaced from the first to the last; all of them if there are fewer."""
    indices = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)
    return [dataset[int(i)] for i in indices]


def overview(domains: Mapping[str, Domain]) -> pd.DataFrame:
    """One row per domain: its name, the number of its images, the size of its first one."""
    rows = {}
    for letter, domain in domains.items():
        height, width = domain.train[0][1].shape
        rows[letter] = (domain.name, len(domain.train), len(domain.val), f"{height} x {width}")
    columns = ["name", "train", "val", "size of the first image (H x W)"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("letter")


def class_shares(samples: Mapping[str, Sample]) -> pd.DataFrame:
    """Share of the labelled pixels that each class has, by domain.

    Returns:
        Index = class names, columns = the keys of ``samples``, values in percent; each column adds up to 100.
    """
    shares = {}
    for name, pairs in samples.items():
        counts = torch.zeros(NUM_CLASSES, dtype=torch.int64)
        for _, label in pairs:
            counts += torch.bincount(label[label != IGNORED].long(), minlength=NUM_CLASSES)
        shares[name] = 100 * counts.numpy() / max(1, int(counts.sum()))
    return pd.DataFrame(shares, index=pd.Index(CLASS_NAMES, name="class"))


def channel_statistics(samples: Mapping[str, Sample]) -> pd.DataFrame:
    """Mean and standard deviation over the pixels of each image, by colour channel.

    Returns:
        One row for each image and channel: domain, image, channel, mean, deviation; values of pixels in [0, 1].
    """
    rows = []
    for name, pairs in samples.items():
        for number, (image, _) in enumerate(pairs):
            deviation, mean = torch.std_mean(image.float() / 255, dim=(1, 2), correction=0)
            rows += [(name, number, *row) for row in zip(CHANNELS, mean.tolist(), deviation.tolist(), strict=True)]
    return pd.DataFrame(rows, columns=["domain", "image", "channel", "mean", "deviation"])


def sample_styles(model: nn.Module, pairs: Sample, layer: str, device: str = "cpu") -> Style:
    """The style of each image of a sample.

    Returns:
        N x C means and N x C deviations, on the CPU.
    """
    styles = [styles_of(model, batch, layer) for batch in image_batches(pairs, 16, device)]
    return Style(*(torch.cat([style[part] for style in styles]).cpu() for part in range(2)))


def pairwise_distances(a: Style, b: Style) -> Tensor:
    """Eq. 10 between every style of ``a`` (N x C) and every style of ``b`` (K x C): N x K."""
    rows, columns = Style(*(x[:, None] for x in a)), Style(*(x[None] for x in b))  # N x 1 x C, 1 x K x C
    return style_distance(rows, columns)


def _from_each(own: Style, other: Style) -> Tensor:
    """Mean distance of each image of ``own`` to those of ``other``, itself left out: N."""
    distances = pairwise_distances(own, other)
    if own is not other:
        return distances.mean(1)
    if len(distances) < 2:
        raise InputError("a domain with a single image has no distance within; give it two images or more")
    return distances.sum(1) / (len(distances) - 1)  # the distance to itself is 0


def mean_distances(styles: Mapping[str, Style]) -> pd.DataFrame:
    """Mean distance between the images of two domains; on the diagonal, between two images of one domain."""
    return pd.DataFrame({b: {a: float(_from_each(styles[a], styles[b]).mean()) for a in styles} for b in styles})


def own_and_others(styles: Mapping[str, Style]) -> pd.DataFrame:
    """How far each image is from its own domain and from all the others.

    Returns:
        One row an image: domain, image, own (mean distance to the other images of its domain), others (mean distance
        to the images of the other domains, each domain weighing the same).
    """
    frames = []
    for name, style in styles.items():
        others = torch.stack([_from_each(style, styles[other]) for other in styles if other != name]).mean(0)
        own = _from_each(style, style)
        frames.append(pd.DataFrame({"domain": name, "image": range(len(own)), "own": own, "others": others}))
    return pd.concat(frames, ignore_index=True)


def style_plane(styles: Mapping[str, Style]) -> tuple[pd.DataFrame, tuple[float, float]]:
    """The styles of single images in the plane in which they spread most: principal components of [mu, log sigma].

    Returns:
        One row an image: domain, first, second; and the share of the variance that each of the two axes holds.
    """
    vectors = torch.cat([torch.cat([style.mean, style.deviation.log()], dim=1) for style in styles.values()])
    centred = vectors - vectors.mean(0)  # N x 2C
    _, singular, axes = torch.linalg.svd(centred, full_matrices=False)
    places = (centred @ axes[:2].T).numpy()  # N x 2
    share = (singular.square() / singular.square().sum())[:2].tolist()
    names = [name for name, style in styles.items() for _ in range(len(style.mean))]
    return pd.DataFrame({"domain": names, "first": places[:, 0], "second": places[:, 1]}), tuple(share)


# --- the embedded streets, whose settings are known ---------------------------------------------------------------


def street_settings(part: str) -> pd.DataFrame:
    """What the five embedded domains are made of, as numbers and words to print.

    Args:
        part: ``"style"`` (how images look) or ``"content"`` (what scenes contain).

    Returns:
        One row a setting, one column a domain. Palettes and sky colours are left out: they are best looked at.
    """
    values = {letter: _flat(getattr(street, part)) for letter, street in STREETS.items()}
    return pd.DataFrame({letter: {k: _printed(v) for k, v in v.items()} for letter, v in values.items()})


def street_ranges(names: Iterable[str]) -> dict[str, dict[str, tuple[float, float]]]:
    """Settings of style and content by name -> domain -> (low, high)."""
    flat = {letter: _flat(street.style) | _flat(street.content) for letter, street in STREETS.items()}
    return {name: {letter: _range(values[name]) for letter, values in flat.items()} for name in names}


def _flat(settings: object) -> dict[str, object]:
    values = {f.name.replace("_", " "): getattr(settings, f.name) for f in dataclasses.fields(settings)}
    for left_out in ("palette", "sky", "haze tint"):
        values.pop(left_out, None)
    for channel, value in zip(CHANNELS, values.pop("cast", ()), strict=False):
        values[f"cast {channel}"] = value
    return values


def _range(value: object) -> tuple[float, float]:
    return value if isinstance(value, tuple) else (value, value)


def _printed(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple) and isinstance(value[0], str):
        return ", ".join(f"{value.count(v)} x {v}" if value.count(v) > 1 else v for v in dict.fromkeys(value))
    if isinstance(value, tuple):
        return f"{value[0]:g} to {value[1]:g}" if value[0] != value[1] else f"{value[0]:g}"
    return f"{value:g}"


def drawn(content: str, style: str, count: int) -> list[tuple[Tensor, Tensor]]:
    """A sample of streets with the content of one domain, painted in the style of another (or the same).

    Args:
        content, style: letters of embedded domains.
        count: scenes 0 to count - 1 of the training split.
    """
    pairs = []
    for index in range(count):
        scene = render(STREETS[content], "train", index, **DRAWN_SIZE, style=STREETS[style].style)
        pairs.append((torch.from_numpy(scene.image.transpose(2, 0, 1).copy()), torch.from_numpy(scene.label)))
    return pairs


def style_against_content(model: nn.Module, layer: str, reference: str, count: int) -> pd.DataFrame:
    """How far a domain moves when only its style is exchanged, and when only its content is.

    Args:
        model, layer: where the style is read off.
        reference: letter of the embedded domain to start from.
        count: scenes of each kind.

    Returns:
        One row for each other domain X; columns = mean distance (Eq. 10) of the reference's images to images with
        only X's content, with only X's style, and with both. The attribute ``within`` holds the mean distance between
        two images of the reference itself.
    """
    own = sample_styles(model, drawn(reference, reference, count), layer)
    rows = {}
    for other in (letter for letter in STREETS if letter != reference):
        kinds = {"only content": (other, reference), "only style": (reference, other), "both": (other, other)}
        rows[other] = {
            kind: float(pairwise_distances(own, sample_styles(model, drawn(*mix, count), layer)).mean())
            for kind, mix in kinds.items()
        }
    table = pd.DataFrame(rows).T
    table.attrs["within"] = float(_from_each(own, own).mean())
    return table
