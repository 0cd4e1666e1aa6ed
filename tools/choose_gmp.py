"""Choose GMP's learning rate on the validation images of the sources: one row a try in ``docs/tries_gmp.csv``.

``python -m tools.choose_gmp`` runs the tries below that have no row yet, one after the other; a killed run resumes.
They are as long as those of the preset quick, and seed 100 is no study's. The joint training that GMP is compared with
gets the same tries.
"""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dglab.data import open_domains
from dglab.data.domains import Domain
from dglab.data.multimodal import Stacked
from dglab.evaluation import evaluate
from dglab.models.multimodal import MultimodalNetwork
from dglab.presets import QUICK
from dglab.testtime import SourceNormalization
from dglab.training import TrainingConfig, train
from dglab.training.checkpoints import load_checkpoint
from tools.choose import run_missing

SOURCES = ("G", "S", "I", "M")
RATES = (0.01, 0.02, 0.05, 0.1)
STEPS = 400
TRIES = Path(__file__).parents[1] / "docs" / "tries_gmp.csv"
SETTINGS = ("variant", "lr", "steps", "seed")
# dg: the loss of the discriminators, at its largest and over the last 20 steps; twice ln 4 = 2.77 is guessing
# alive: percent of the discriminators' hidden units that fire for any validation image, of the modality with fewer
COLUMNS = (*SETTINGS, *SOURCES, "mean", "dg_largest", "dg_last", "alive")


def tries() -> list[TrainingConfig]:
    """Each rate, with and without balancing."""
    return [
        dataclasses.replace(
            QUICK.template("gmp"), variant=variant, lr=lr, steps=STEPS, seed=100, sources=SOURCES,
            data=QUICK.streets,
        )
        for lr in RATES
        for variant in ("joint", "gmp")
    ]  # fmt: skip


def score(config: TrainingConfig) -> dict[str, str]:
    """Train, and score the fused classifier under source BN on the validation images of each source: a row."""
    torch.set_num_threads(1)
    domains = open_domains(QUICK.streets, modalities=config.modalities)
    told = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = train(config, domains, Path(folder), progress=False, on_log=lambda line: told.append(line["dg"]))
        model, _ = load_checkpoint(checkpoint)
    found = [evaluate(SourceNormalization(model), Stacked(domains[letter].val)).miou() for letter in SOURCES]
    return {
        **{name: str(getattr(config, name)) for name in SETTINGS},
        **{letter: f"{100 * miou:.2f}" for letter, miou in zip(SOURCES, found, strict=True)},
        "mean": f"{100 * np.mean(found):.2f}", "dg_largest": f"{max(told):.2f}",
        "dg_last": f"{np.mean(told[-20:]):.2f}", "alive": f"{min(alive(model, domains).values()):.0f}",
    }  # fmt: skip


@torch.no_grad()
def alive(model: MultimodalNetwork, domains: dict[str, Domain]) -> dict[str, float]:
    """Percent of the hidden units of each discriminator that fire for any validation image of the sources."""
    shares = {}
    for name, discriminator in model.discriminators.items():
        *before, _ = discriminator  # the last layer reads the hidden units
        pictures = (domains[letter].val[i][0][name] for letter in SOURCES for i in range(len(domains[letter].val)))
        hidden = [nn.Sequential(*before)(model.encoders[name](x[None].float() / 255)) for x in pictures]
        shares[name] = 100 * (torch.cat(hidden) > 0).any(0).float().mean().item()
    return shares


def main() -> None:
    """Run what is missing."""
    run_missing(tries(), score, TRIES, COLUMNS, SETTINGS)


if __name__ == "__main__":
    main()
