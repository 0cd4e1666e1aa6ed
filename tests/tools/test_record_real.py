"""Results on a prepared root are recorded with its fingerprint, and found again for the same images alone."""

import dataclasses

import pandas as pd
import pytest
from PIL import Image

from dglab.experiments import recorded, runner
from dglab.experiments.runner import Lab, run
from dglab.experiments.runner import recorded as recorded_rows
from dglab.experiments.trials import adabn
from dglab.presets import TINY
from tools import record_full, record_real


@pytest.fixture
def of_root(prepared, tmp_path, monkeypatch):
    """A lab on a root of three domains whose results are recorded, in a folder of the test's."""
    monkeypatch.setattr(record_real, "open_lab", lambda *_, **__: lab)
    monkeypatch.setattr(record_real, "studies_of", lambda lab: {"adabn": adabn})
    for module in (record_real, record_full, recorded):
        monkeypatch.setattr(module, "SHIPPED", tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    lab = Lab(TINY, str(prepared(tmp_path / "root", "GSI")), tmp_path / "own", "cpu", use_shipped=False)
    run(lab, adabn(lab))
    record_real.main("root")
    return lab


def test_a_folder_of_another_name_with_the_same_images_has_the_record(of_root, prepared, tmp_path, monkeypatch):
    same = str(prepared(tmp_path / "elsewhere", "GSI"))
    lab = dataclasses.replace(of_root, data=same, out=tmp_path / "none", reuse_recorded=True)
    monkeypatch.setattr(runner, "train", lambda *_, **__: pytest.fail("trained"))
    found, own = run(lab, adabn(lab)), run(of_root, adabn(of_root))
    assert set(found["data"]) == {"elsewhere"} and set(own["data"]) == {"root"}
    pd.testing.assert_frame_equal(found, own.assign(data="elsewhere"), check_exact=False, atol=0.006)  # two decimals
    assert len(pd.read_csv(tmp_path / "shipped" / "tiny" / "networks.csv")) == 6  # AGG and MLDG on three tasks


def test_other_images_have_none(of_root, prepared, tmp_path):
    root = prepared(tmp_path / "other", "GSI")
    Image.new("RGB", (64, 32)).save(root / "0G" / "val" / "images" / "0.png")
    other = dataclasses.replace(of_root, data=str(root))
    assert other.identity != of_root.identity
    assert recorded_rows(other, adabn(other)) == {} != recorded_rows(of_root, adabn(of_root))
