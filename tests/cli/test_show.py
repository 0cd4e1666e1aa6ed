"""What ``dglab presets`` and ``dglab doctor`` print."""

import torch

from dglab import doctor
from dglab.presets import PRESETS


def test_presets_prints_every_preset_with_its_settings(dglab):
    text = dglab("presets")
    for preset in PRESETS.values():
        assert f"{preset.name}: {preset.about}" in text
        assert f"steps = {preset.training.steps}" in text and f"height = {preset.streets.height}" in text


def test_doctor_is_content_with_this_machine(dglab):
    text = dglab("doctor")
    assert f"torch {torch.__version__}".split("+")[0] in text and "GiB free" in text and "all is well" in text


def test_doctor_names_what_is_missing_and_the_remedy(monkeypatch, capsys, call):
    monkeypatch.setattr(doctor, "NEEDED", ("torch", "no_such_package"))
    assert call("doctor") == 2
    output = capsys.readouterr()
    assert "PROBLEM: no_such_package cannot be imported" in output.err and "pip install" in output.err
    assert "all is well" not in output.out
