"""A saved state of which nothing is believed: crafted ones are refused by name, ours goes on to the same bits."""

import copy
import dataclasses
import math
import os

import pytest
import torch

from dglab.data import open_domains
from dglab.presets import PRESETS
from dglab.training import trainer
from dglab.training.log import LOG, read_log
from dglab.training.state import CHECKPOINT, STATE
from dglab.training.trainer import train
from dglab.utils.errors import InputError

CONFIG = dataclasses.replace(PRESETS["tiny"].training, sources=("G",), steps=4, checkpoint_every=1)


def run(folder):
    return train(CONFIG, open_domains(PRESETS["tiny"].streets), folder, progress=False)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run that was stopped after two of its four steps."""
    folder = tmp_path_factory.mktemp("run")
    original = trainer.training_step

    def stopped(model, batch, config, step):
        if step == 2:
            raise KeyboardInterrupt
        return original(model, batch, config, step)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer, "training_step", stopped)
        run(folder)
    return folder


@pytest.fixture
def interrupted(saved, tmp_path):
    for name in (STATE, LOG):
        (tmp_path / name).write_bytes((saved / name).read_bytes())
    return tmp_path


def test_a_state_of_ours_goes_on_to_the_same_bits(interrupted, tmp_path_factory):
    whole = run(tmp_path_factory.mktemp("whole"))
    assert run(interrupted).read_bytes() == whole.read_bytes()
    assert (interrupted / LOG).read_bytes() == (whole.parent / LOG).read_bytes()


def step(value):
    return lambda state: state.update(step=value)


def rate(value):
    return lambda state: state["optimizer"]["param_groups"][0].update(lr=value)


def momentum(change):
    def changed(state):
        kept = state["optimizer"]["state"][0]
        kept["momentum_buffer"] = change(kept["momentum_buffer"])

    return changed


def weight(change):
    def changed(state):
        name = next(iter(state["model"]))
        state["model"][name] = change(state["model"][name])

    return changed


CRAFTED = {
    "step -1": (step(-1), "its step is -1"),
    "step 0": (step(0), "its step is 0"),
    "the end": (step(4), "its step is 4, expected a whole number from 1 to 3"),
    "beyond the end": (step(10**9), "its step is 1000000000"),
    "step inf": (step(math.inf), "its step is inf"),
    "step nan": (step(math.nan), "its step is nan"),
    "step 2.0": (step(2.0), "its step is 2.0"),
    "step True": (step(True), "its step is True"),
    "step as text": (step("2"), "its step is '2'"),
    "step as a tensor": (step(torch.tensor(2)), "its step is tensor"),
    "no step": (lambda state: state.pop("step"), "step"),
    "a rate of text": (rate("fast"), "learning rate is 'fast'"),
    "a rate without bounds": (rate(1e30), "learning rate is 1e"),
    "no number for a rate": (rate(math.nan), "learning rate is nan"),
    "a negative rate": (rate(-0.1), "learning rate is -0.1"),
    "no rate": (lambda state: state["optimizer"]["param_groups"][0].pop("lr"), "lr"),
    "no groups": (lambda state: state["optimizer"].update(param_groups=[]), ""),
    "momentum of another shape": (momentum(lambda t: t[:1, :1]), "a momentum is"),
    "momentum without end": (momentum(lambda t: t * math.inf), "momentum 0 holds numbers that are not finite"),
    "momentum of text": (momentum(lambda t: "fast"), ""),
    "momentum of nobody": (lambda state: state["optimizer"]["state"].update({999: {"momentum_buffer": None}}), ""),
    "another optimizer": (lambda state: state["optimizer"]["state"].update({0: {"exp_avg": None}}), "exp_avg"),
    "weights of another shape": (weight(lambda t: t[:1]), "size mismatch"),
    "weights that are none": (weight(lambda t: t * math.nan), "not finite"),
    "weights of text": (weight(lambda t: "heavy"), ""),
    "weights missing": (lambda state: state["model"].popitem(), "Missing key"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CRAFTED)
def test_a_crafted_state_is_refused(interrupted, kind):
    change, words = CRAFTED[kind]
    state = torch.load(interrupted / STATE, weights_only=True)
    change(state)
    torch.save(state, interrupted / STATE)
    before = {path.name: path.read_bytes() for path in interrupted.iterdir()}
    with pytest.raises(InputError, match="cannot resume from") as caught:
        run(interrupted)
    assert str(interrupted / STATE) in str(caught.value) and words in str(caught.value)
    assert "remove it to start this run again" in str(caught.value)
    assert {path.name: path.read_bytes() for path in interrupted.iterdir()} == before
    assert not (interrupted / CHECKPOINT).exists()


def test_what_a_state_need_not_be_asked_for_is_derived(interrupted, tmp_path_factory):
    """The schedule's counts and the optimizer's settings are the configuration's, whatever the file says."""
    state = torch.load(interrupted / STATE, weights_only=True)
    state["schedule"] = {**copy.deepcopy(state["schedule"]), "last_epoch": -7, "total_iters": 1, "power": 99.0}
    state["optimizer"]["param_groups"][0].update(momentum=0.0, weight_decay=5.0, nesterov=True)
    torch.save(state, interrupted / STATE)
    assert run(interrupted).read_bytes() == run(tmp_path_factory.mktemp("whole")).read_bytes()


@pytest.mark.parametrize("kind", ["bytes", "folder", "pipe", "link", "words", "nested", "rows"])
def test_a_log_that_is_none_is_refused(interrupted, kind):
    log = interrupted / LOG
    log.unlink()
    if kind == "folder":
        log.mkdir()
    elif kind == "pipe":
        os.mkfifo(log)
    elif kind == "link":
        log.symlink_to("gone")
    else:
        contents = {"bytes": b"\xff\xfe\n" * 9, "words": b"step one\n", "nested": b"[" * 90_000 + b"\n",
                    "rows": b'{"step": "many"}\n{"step": 3}\n'}  # fmt: skip
        log.write_bytes(contents[kind])
    with pytest.raises(InputError, match=LOG):
        read_log(interrupted)
    if kind in ("bytes", "folder", "pipe", "link"):
        with pytest.raises(InputError, match=LOG):
            run(interrupted)
        assert (interrupted / STATE).exists() and not (interrupted / CHECKPOINT).exists()
