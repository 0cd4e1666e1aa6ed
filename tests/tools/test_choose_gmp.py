"""A try of GMP's learning rate gives its row."""

import dataclasses

import pytest
import torch

from dglab.data import open_domains
from dglab.models.multimodal import build_multimodal
from dglab.presets import QUICK, TINY
from dglab.training.guards import check_multimodal
from tools import choose, choose_gmp


def test_each_try_can_be_run():
    tried = choose_gmp.tries()
    domains = open_domains(TINY.streets, modalities=("rgb", "depth"))
    for config in tried:
        check_multimodal(config, domains)
    assert {(config.variant, config.lr) for config in tried} == {
        (variant, rate) for variant in ("joint", "gmp") for rate in choose_gmp.RATES
    }
    assert QUICK.template("gmp").lr in choose_gmp.RATES and {config.seed for config in tried} == {100}


def test_a_row_has_every_column(monkeypatch):
    monkeypatch.setattr(choose_gmp, "QUICK", TINY)
    row = choose_gmp.score(dataclasses.replace(choose_gmp.tries()[1], steps=1))
    assert set(row) == set(choose_gmp.COLUMNS) and row["variant"] == "gmp"
    scores = [float(row[letter]) for letter in choose_gmp.SOURCES]
    assert float(row["mean"]) == pytest.approx(sum(scores) / 4, abs=0.02) and 0 < float(row["alive"]) <= 100


def test_silent_units_are_counted():
    model = build_multimodal(("rgb", "depth"), 4, seed=0).eval()
    norm = model.discriminators["depth"][4]
    with torch.no_grad():
        norm.weight[:16], norm.bias[:16] = 0, -1  # of 64
    domains = open_domains(TINY.streets, modalities=("rgb", "depth"))
    shares = choose_gmp.alive(model, domains)
    assert shares["depth"] <= 75 and shares["rgb"] > shares["depth"]


def begun(config):
    return {"method": config.method, "seed": str(config.seed), "mean": "1.00"}


def test_a_killed_run_resumes_with_the_tries_that_have_no_row(tmp_path):
    tried = [dataclasses.replace(TINY.training, seed=seed) for seed in (100, 101, 102)]
    path, columns, settings = tmp_path / "tries.csv", ("method", "seed", "mean"), ("method", "seed")
    path.write_text("method,seed,mean\nagg,101,9.99\n")
    for _ in range(2):
        choose.run_missing(tried, begun, path, columns, settings)
        rows = sorted(path.read_text().splitlines()[1:])
        assert rows == ["agg,100,1.00", "agg,101,9.99", "agg,102,1.00"]  # what was there is kept, and none is twice
