"""How a check answers to whatever a student may write, and what becomes of a prediction."""

import json
import sys
import threading
import time

import pytest
import torch

from dglab.teaching.checks import EXERCISES, check, compare, exercise, predict, predictions
from dglab.teaching.checks.calls import NotFinished, call
from dglab.teaching.checks.exercise import Exercise, Mistake, judge
from dglab.utils.errors import InputError

DOUBLE = Exercise(
    name="double",
    returns="a tensor of the size of x",
    inputs=lambda generator: (torch.rand(3, generator=generator, dtype=torch.float64),),
    answer=lambda x: 2 * x,
    mistakes=(Mistake("triples", "That is too much.", lambda x: 3 * x),),
    hint="Try x = 1.",
)


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A busy machine is not a student's loop."""
    monkeypatch.setattr(exercise, "SECONDS", 600.0)


# ------------------------------------------------------------------------------------------------- right and wrong


@pytest.mark.parametrize(
    "right",
    [
        lambda x: x * 2,
        lambda x: (x * 2).float(),  # six digits are enough
        lambda x: (x * 2).numpy(),
        lambda x: (x * 2).tolist(),
        lambda x: tuple(x * 2),
    ],
)
def test_right_in_whatever_form(right):
    assert judge(DOUBLE, right) is None


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda x: 3 * x, "That is too much."),
        (lambda x: 4 * x, "Try x = 1."),
        (lambda x: 2 * x * (1 + 1e-5), "Try x = 1."),
        (lambda x: None, "It returned nothing (is there a return?); expected a tensor of the size of x."),
        (lambda x: "2x", "It returned a str; expected a tensor of the size of x."),
        (lambda x: {"x": x}, "It returned a dict; expected a tensor of the size of x."),
        (lambda x: 2 * x[:2], "It returned a tensor of 2; expected a tensor of the size of x."),
        (lambda x: [2 * x, x], "It returned a list of 2 (a tensor of 3, a tensor of 3); expected"),
        (lambda x: 2 * x / 0, "It returned values that are not finite"),
        (lambda x: x.mul_(2), "The result is right, but the function changes what it was given."),
        (lambda: 1, "It raised TypeError: "),
    ],
)
def test_wrong_in_whatever_way(wrong, hint):
    assert judge(DOUBLE, wrong).startswith(hint)


def test_inputs_follow_the_seed_and_leave_torchs_alone():
    def seen(seed):
        found = []
        judge(DOUBLE, lambda x: found.append(x.tolist()) or 2 * x, seed)
        return found

    state = torch.get_rng_state()
    assert seen(0) == seen(0) != seen(1) and len(seen(0)) == exercise.TRIALS
    assert torch.equal(torch.get_rng_state(), state)


def test_a_constant_does_not_pass():
    """What is right for the first of the random inputs is wrong for the next."""
    first = []
    judge(DOUBLE, lambda x: first.append(2 * x) or 2 * x)
    assert judge(DOUBLE, lambda x: first[0]) == "Try x = 1."


def test_a_network_that_is_left_changed():
    def hooked(layer, x, prior):
        layer.register_forward_hook(lambda *_: None)
        return EXERCISES["04.2"].answer(layer, x, prior)

    assert check("04.2", hooked).hint.startswith("The result is right, but the function changes")


# ----------------------------------------------------------------------------------- what does not come to an answer


def test_what_is_raised_is_named_with_its_line():
    names = {}
    source = "def double(x):\n    y = x + 1\n    return y[17]\n"
    exec(compile(source, "the cell", "exec"), names)
    assert judge(DOUBLE, names["double"]) == (
        "It raised IndexError: index 17 is out of bounds for dimension 0 with size 3 (line 3 of the cell)."
    )


def test_an_error_inside_a_library_is_told_by_the_line_that_called_it():
    def double(x):
        return torch.stack([x, x[:2]])

    hint = judge(DOUBLE, double)
    assert hint.startswith("It raised RuntimeError: ") and hint.endswith(": `return torch.stack([x, x[:2]])`).")


def test_an_empty_cell_is_no_error():
    def double(x):
        # YOUR CODE HERE
        raise NotImplementedError()

    assert judge(DOUBLE, double).startswith("Nothing is written yet")


def test_exit_does_not_leave():
    assert judge(DOUBLE, lambda x: sys.exit()).startswith("It raised SystemExit")


def endless():
    while True:
        pass


@pytest.mark.parametrize("never", [endless, lambda: time.sleep(60)], ids=["loops", "sleeps"])
def test_what_never_comes_back_is_stopped(never):
    with pytest.raises(NotFinished, match=r"did not come back within 0 seconds.*Does a loop never end\?"):
        call(never, 0.05)
    assert threading.active_count() == len(threading.enumerate())
    assert call(lambda: 3, 600) == 3


def test_a_machine_that_is_busy_with_something_else_is_no_endless_loop(monkeypatch):
    monkeypatch.setattr(time, "process_time", lambda: 0.0)  # as if nothing had been worked
    assert call(lambda: time.sleep(0.3) or 3, 0.1) == 3
    with pytest.raises(NotFinished, match="did not come back"):
        call(lambda: time.sleep(60), 0.05)


def test_ctrl_c_stays_ctrl_c():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(interrupted, 600)


def test_in_another_thread_nothing_is_interrupted():
    found = []
    thread = threading.Thread(target=lambda: found.append(call(lambda: 3, 1e-9)))
    thread.start()
    thread.join()
    assert found == [3]


# -------------------------------------------------------------------------------------------------------- the words


def test_a_verdict_is_one_line():
    right, empty = check("02.2", EXERCISES["02.2"].answer), check("02.2", lambda step, steps, lr: lr)
    assert repr(right) == "✓ 02.2: right." and right.right
    assert repr(empty) == "✗ 02.2: not yet. Work out step 0, the middle and the last step by hand and compare."


@pytest.mark.parametrize(
    ("number", "function", "message"),
    [
        ("02.9", abs, r"'02.9' has no check; those with one are 02.2, 02.3, 02.4"),
        ("x", abs, r"'x' has no check; those with one are 00.2, "),
        ("02.3", 3.0, r"got a float; hand over the function itself.*check\('02.3', mean_loss\)"),
    ],
)
def test_wrong_use_is_told(number, function, message):
    with pytest.raises(InputError, match=message):
        check(number, function)


# ----------------------------------------------------------------------------------------------------- predictions


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_prediction_is_kept_and_compared(folder, capsys):
    predict("04.1", best_m=4, order=["TN", "SIB"], sure=True)
    assert capsys.readouterr().out == "04.1: recorded best_m = 4, order = ['TN', 'SIB'], sure = True.\n"
    table = compare("04.1", best_m=8, order=("tn", "sib"), sure=False, gain=1.5)
    assert table.columns.tolist() == ["you", "result", "off by"]
    assert table["off by"].tolist() == ["-4", "as predicted", "otherwise", ""]
    assert table.loc["gain", "you"] == "no prediction"


def test_before_the_result_a_guess_may_change_and_after_it_not(folder, capsys):
    predict("04.1", best_m=4)
    predict("04.1", best_m=2)
    predict("05.1", right=50)
    assert compare("04.1", best_m=8).loc["best_m", "you"] == 2
    predict("04.1", best_m=8)
    assert capsys.readouterr().out.endswith("04.1: you have seen the result; your prediction stays best_m = 2.\n")
    assert compare("04.1", best_m=8)["off by"].tolist() == ["-6"]
    assert json.loads((folder / predictions.FILE).read_text())["05.1"] == {"guess": {"right": 50}, "seen": False}


def test_no_answer_yet(folder, capsys):
    predict("04.1", best_m=..., gain=...)
    assert "write your guess in place of ... before you go on: best_m, gain" in capsys.readouterr().out
    assert not (folder / predictions.FILE).exists()
    assert compare("04.1", best_m=8).loc["best_m"].tolist() == ["no prediction", 8, ""]
    predict("04.1", best_m=..., gain=1.0)  # half of it
    assert compare("04.1", best_m=8, gain=2.5)["off by"].tolist() == ["", "-1.5"]


def test_what_cannot_be_kept_is_told(folder):
    with pytest.raises(InputError, match="04.1, best_m: got a Tensor; predict a number, a word, or a list"):
        predict("04.1", best_m=torch.ones(1))
    (folder / predictions.FILE).write_text("{")
    with pytest.raises(InputError, match=r"predictions.json is not JSON .* delete it to begin anew"):
        compare("04.1", best_m=8)
