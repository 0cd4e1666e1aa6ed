"""When do target statistics help? Signals that need no labels, and the gain that they should predict."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from dglab.data import Domain
from dglab.data.streams import image_batches
from dglab.evaluation import ConfusionMatrix
from dglab.experiments.methods import M
from dglab.models import logits_of
from dglab.testtime import SourceNormalization, Style, TargetNormalization, styles_of
from dglab.testtime.style_index import StyleIndex
from dglab.testtime.style_layer import find_style_layer

SIGNALS = {
    "style_distance": "style distance to the sources (Eq. 10)",
    "entropy": "entropy of source BN's predictions (nats)",
    "agreement": "pixels on which BN and TN agree (%)",
}
NEAREST = 4  # source images that a style's distance is averaged over
PER_SOURCE = 50  # training images of each source whose styles are known


def image_signals(
    model: nn.Module, domains: Mapping[str, Domain], sources: Sequence[str], device: str = "cpu"
) -> pd.DataFrame:
    """For each validation image of every domain, three signals that need no label, and what TN gains on it.

    Args:
        model: a trained network.
        domains: by letter.
        sources: the letters of those that it was trained on.
        device: where the network is.

    Returns:
        One row an image: ``domain``; ``seen``, whether it is a source; ``gain``, mIoU of TN (M = 1) minus that of
        source BN on this image alone, in points; ``style_distance``, ``entropy``, ``agreement`` (:data:`SIGNALS`).
    """
    layer = find_style_layer(model, 1)
    known = [domains[letter].train for letter in sources]
    index = style_index(model, layer, (batch for images in known for batch in _some_images(images, device)))
    rows = []
    for letter, domain in domains.items():
        for record in _signals_of(model, layer, domain.val, index, device):
            rows.append({"domain": letter, "seen": letter in sources, **record})
    return pd.DataFrame(rows)


def _some_images(dataset: Dataset, device: str) -> Iterable[Tensor]:
    """Up to PER_SOURCE images evenly spread over a data set, in batches of one size each."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(PER_SOURCE, len(dataset))).astype(int))
    return image_batches(dataset, PER_SOURCE, device, chosen.tolist())


def style_index(model: nn.Module, layer: str, batches: Iterable[Tensor]) -> StyleIndex:
    """The styles of images, N x 3 x H x W a batch, ready to be searched."""
    styles = [styles_of(model, batch, layer) for batch in batches]
    together = Style(*(torch.cat(parts) for parts in zip(*styles, strict=True)))  # N x C each
    index = StyleIndex(len(together.mean), together.mean.shape[1], together.mean.device)
    index.put(torch.arange(len(together.mean)), together)
    return index


def _signals_of(
    model: nn.Module, layer: str, dataset: Dataset, index: StyleIndex, device: str
) -> Iterable[dict[str, float]]:
    source, target = SourceNormalization(model), TargetNormalization(model)
    everything = torch.arange(len(index.styles.mean))
    for number, image in enumerate(image_batches(dataset, 1, device)):
        label = dataset[number][1]
        by_source, by_target = logits_of(source(image)), logits_of(target(image))  # 1 x 19 x H x W
        probabilities = by_source.float().softmax(1)
        predictions = by_source.argmax(1).cpu(), by_target.argmax(1).cpu()
        miou = [ConfusionMatrix.of(prediction, label[None]).miou() for prediction in predictions]
        _, distances = index.nearest(styles_of(model, image, layer), everything, NEAREST)[0]
        yield {
            "gain": 100 * (miou[1] - miou[0]),
            "style_distance": float(np.mean(distances)),
            "entropy": float(torch.special.entr(probabilities).sum(1).mean()),
            "agreement": 100 * float((predictions[0] == predictions[1]).float().mean()),
        }


def rank_correlations(frame: pd.DataFrame, signals: Sequence[str] = tuple(SIGNALS), draws: int = 1000) -> pd.DataFrame:
    """Spearman's rank correlation of each signal with the gain, over all images and within domains.

    Over all images a signal may merely tell the domains apart; within domains (ranks taken inside each) that is
    excluded. The 95 % interval resamples images inside each domain: it speaks of these domains, not of others.

    Args:
        frame: as :func:`image_signals` returns it.
        signals: its columns to look at.
        draws: of the bootstrap.

    Returns:
        ``signal``, ``scope`` ("all images", "within domains"), ``rho``, ``low``, ``high``; nan for a constant signal.
    """
    frame = frame[frame["gain"].notna()]  # an image without a labelled pixel has none
    generator = np.random.default_rng(0)
    groups = [np.flatnonzero(frame["domain"] == domain) for domain in frame["domain"].unique()]
    samples = [np.concatenate(groups)]
    samples += [np.concatenate([generator.choice(group, len(group)) for group in groups]) for _ in range(draws)]
    samples = np.stack(samples)  # (1 + draws) x images, those of a domain side by side
    bounds = np.cumsum([0, *map(len, groups)])
    rows = []
    for signal in signals:
        x, y = frame[signal].to_numpy(), frame["gain"].to_numpy()
        for scope, cuts in (("all images", bounds[[0, -1]]), ("within domains", bounds)):
            values = _spearman(x[samples], y[samples], cuts)
            drawn = values[1:][np.isfinite(values[1:])]
            low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
            rows.append({"signal": signal, "scope": scope, "rho": values[0], "low": low, "high": high})
    return pd.DataFrame(rows)


def _spearman(x: np.ndarray, y: np.ndarray, cuts: Sequence[int]) -> np.ndarray:
    """Of each row: the correlation of ranks that are taken, and centred, inside each piece between two cuts."""
    x, y = _centred_ranks(x, cuts), _centred_ranks(y, cuts)
    norm = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.divide((x * y).sum(1), norm, out=np.full(len(norm), np.nan), where=norm > 0)


def _centred_ranks(values: np.ndarray, cuts: Sequence[int]) -> np.ndarray:
    pieces = [pd.DataFrame(values[:, a:b]).rank(axis=1) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
    return np.concatenate([ranks.to_numpy() - (ranks.shape[1] + 1) / 2 for ranks in pieces], axis=1)


def prior_grid(frame: pd.DataFrame) -> pd.DataFrame:
    """mIoU over the share of source statistics, for each unseen target and training.

    Args:
        frame: the tidy table of the study ``prior``.

    Returns:
        ``domain``, ``train_method`` and ``inner_lr`` (which tell the training methods apart), ``batch_size`` (M),
        ``prior``, ``train_seed``, ``miou`` in percent. Source BN is the prior of 1, whatever M. Networks that have not
        been tested with every share are left out, so that a curve rests on the same ones throughout.
    """
    rows = frame[frame["metric"] == "miou"].rename(columns={"domain_evaluated": "domain", "value": "miou"})
    source = rows[rows["test_method"] == "bn"]
    rows = pd.concat([rows[rows["test_method"] == "tn"], *(source.assign(prior=1.0, batch_size=m) for m in (1, M))])
    values = rows.groupby(["domain", "train_method", "inner_lr", "train_seed"], dropna=False)["miou"].transform("size")
    rows = rows[values == values.max()]
    columns = ["domain", "train_method", "inner_lr", "batch_size", "prior", "train_seed", "miou"]
    return rows[columns].sort_values(columns, ignore_index=True)
