"""What ships along is written with the table's columns, from what a run has left."""

import dataclasses
import shutil

import pandas as pd

from dglab.experiments import recorded
from dglab.experiments.recorded import recorded_table
from dglab.experiments.runner import Lab
from dglab.experiments.table import write_table
from tools import ship_results


def test_networks_table_and_picture_are_copied(lab, frames, tmp_path, monkeypatch):
    out = tmp_path / "results"
    shutil.copytree(lab.out, out)
    as_recorded = ("queue_size", "prior")  # not in the run's table
    write_table(pd.concat([frames[name] for name in frames if name not in as_recorded]), out / "tables.csv")
    (out / "figures").mkdir()
    (out / "figures" / "figure4_predictions.png").write_bytes(b"a picture")
    own: Lab = dataclasses.replace(lab, out=out, preset=dataclasses.replace(lab.preset, as_recorded=as_recorded))
    shipped = tmp_path / "shipped"
    (shipped / "tiny").mkdir(parents=True)
    (shipped / "tiny" / "of_other_settings.safetensors").write_bytes(b"")
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(ship_results, "open_lab", lambda *_, **__: own)
    monkeypatch.setattr(ship_results, "SHIPPED", shipped)
    monkeypatch.setattr(ship_results, "find_lessons", lambda: [tmp_path / "notebooks" / "00.ipynb"])
    ship_results.main()
    names = {path.name for path in (shipped / "tiny").iterdir()}
    networks = [training.address for training in ship_results.shipped_trainings(own)]
    endings = ("safetensors", "reference.safetensors", "jsonl")
    assert names == {"streets", "networks.csv", *(f"{name}.{ending}" for name in networks for ending in endings)}
    monkeypatch.setattr(recorded, "SHIPPED", shipped)
    frame = recorded_table("tiny")
    assert {path.stem for path in (shipped / "tiny" / "streets").iterdir()} == {*frames, "order"}
    assert set(frame["study"]) == {*frames, "order"} and set(frame["order"].dropna()) == {1, 2}
    assert set(frame["metric"]) == {*ship_results.METRICS} and "iou" in ship_results.METRICS
    made = pd.read_csv(shipped / "tiny" / "networks.csv")
    assert set(networks) < set(made["network"]) and made.notna().all().all()
    assert set(made.columns) == {"network", "train_method", "machine", "instructions", "python", "torch", "dglab",
                                 "seconds_training", "seconds_testing"}  # fmt: skip
    assert (tmp_path / "docs" / "overview.png").read_bytes() == b"a picture"
