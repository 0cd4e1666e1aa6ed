"""Ctrl-C anywhere: what is overridden is put back, an image has arrived or it has not, theta is theta.

An interrupt is raised wherever Python looks for one, in the project's code and in torch's own. ``--interrupts 10000``
raises so many; the tests a hundredth.
"""

import dis
import functools
import random
import signal
import sys
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from dglab.models.batchnorm import update_running_stats
from dglab.testtime import AdaBN, ImageBank, TargetNormalization, preserved_statistics, reestimate_statistics
from dglab.testtime.sharing import _locks
from dglab.testtime.style import styles_of
from dglab.training.mldg import mldg_backward
from dglab.utils.interrupts import DeferredInterrupts, interrupt_safe_contextmanager


def images(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    contrast, brightness = torch.rand(2, n, 3, 1, 1, generator=generator)
    return torch.randn(n, 3, 6, 6, generator=generator) * (0.2 + contrast) + brightness


@pytest.fixture(autouse=True)
def ctrl_c():
    """As a terminal has it: a shell that runs tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
        net(images(4, seed=99))
        net[4].eval()  # mixed modes
    return net


class Interrupted:
    """Calls something and raises SIGINT at the n-th place where one could come; without n, counts the places.

    Python looks for signals where a function begins, after every call, and where a loop goes back.
    """

    def __init__(self, call, at=None):
        self.count, self.at = 0, at
        sys.settrace(self.begin)
        try:
            call()
        finally:
            sys.settrace(None)

    def begin(self, frame, event, argument):
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        call = None  # where the instruction before this one stands, if it is a call

        def go_on(frame, event, argument):
            nonlocal call
            if event == "exception":
                call = None  # not after one that fails
            elif event == "opcode":
                name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
                # What comes after a call belongs to the call, but is raised here at the instruction behind it. Where
                # another handler is in charge of that one (``return f()`` at the end of a block), it can't be shown.
                after_call = call is not None and handler(frame.f_code, call) == handler(frame.f_code, frame.f_lasti)
                if after_call or name.startswith("JUMP_BACKWARD"):
                    self.here()
                call = frame.f_lasti if name.startswith("CALL") else None
            return go_on

        self.here()
        return go_on

    def here(self):
        self.count += 1
        if self.count == self.at:
            signal.raise_signal(signal.SIGINT)


@functools.cache
def handler(code, offset):
    """Where an exception at this instruction would be handled; None if nowhere in this function."""
    entries = dis.Bytecode(code).exception_entries
    return next((entry.target for entry in entries if entry.start <= offset < entry.end), None)


def state_of(net):
    """All that an interrupt could leave behind, but for the bank."""
    free = []

    def look():
        lock = _locks.of(net)
        free.append(lock.acquire(blocking=False))
        lock.release()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert free == [True]  # from another thread: nobody holds the lock
    values = dict(net.named_parameters()) | dict(net.named_buffers())
    return {
        "tensors": {name: (id(value), value.data_ptr(), value.clone()) for name, value in values.items()},
        "modules": [(m.training, [*vars(m)], len(m._forward_hooks), len(m._forward_pre_hooks)) for m in net.modules()],
        "torch": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_rng_state()),
        "stance": repr(torch._dynamo.eval_frame._stance),
        "handler": signal.getsignal(signal.SIGINT),
    }


def same(a, b):
    leaves = (tree_leaves(a), tree_leaves(b))
    return len(leaves[0]) == len(leaves[1]) and all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor) else x == y
        for x, y in zip(*leaves, strict=True)
    )


def interrupts(request, call, share):
    """Places at which to interrupt, drawn from all that a call passes."""
    wanted = max(1, round(request.config.getoption("--interrupts") * share))
    call()  # what is done once has been done
    return random.Random(f"{request.node.name}").choices(range(1, Interrupted(call).count + 1), k=wanted)


def interrupted(call, at):
    """Whether the interrupt at this place came through as KeyboardInterrupt."""
    try:
        Interrupted(call, at)
    except KeyboardInterrupt:
        return True
    return False


def assert_restored(request, net, call, share):
    """Wherever a call is interrupted, the model is as it was; and interrupts do come through."""
    positions = interrupts(request, call, share)
    state, raised = state_of(net), 0
    for at in positions:
        raised += interrupted(call, at)
        assert same(state_of(net), state), at
    assert raised


@pytest.mark.parametrize("case", ["joint", "cached", "random"])
def test_an_image_has_arrived_or_it_has_not_and_the_model_is_as_it_was(request, net, case):
    options = dict(neighbors=2, capacity=3, style_layer="1")
    options |= dict(policy="random", removal="random") if case == "random" else dict(statistics=case)
    bank, stream, following = ImageBank(net, **options), images(5), images(1, seed=1)
    bank(stream[:4])
    before = bank.state_dict()
    bank(stream[4:])
    after, expected = bank.state_dict(), bank(following)
    assert not same(before, after)

    def call():
        bank(stream[4:])

    bank.load_state_dict(before)
    model, raised, arrived = state_of(net), 0, 0
    for at in interrupts(request, call, 0.2):
        bank.load_state_dict(before)
        raised += interrupted(call, at)
        assert same(state_of(net), model), at
        state = bank.state_dict()
        assert same(state, before) or same(state, after), at
        if same(state, after):
            arrived += 1
            assert torch.equal(bank(following), expected)
    assert raised


@pytest.mark.parametrize("case", ["tn", "styles", "adabn", "observe", "preserved", "reestimated"])
def test_predictors_and_measurements_leave_the_model_as_it_was(request, net, case):
    bank = ImageBank(net, "1", capacity=3)

    def preserved():
        with preserved_statistics(net):
            net(images(2))

    def reestimated():
        with preserved_statistics(net):
            reestimate_statistics(net, [images(3)])

    call = {
        "tn": lambda: TargetNormalization(net)(images(2)),
        "styles": lambda: styles_of(net, images(2), "1"),
        "adabn": lambda: AdaBN(net).fit(images(2)),
        "observe": lambda: bank.observe(images(2)),
        "preserved": preserved,
        "reestimated": reestimated,
    }[case]
    net.eval()
    positions = interrupts(request, call, 0.04)
    model, raised = state_of(net), 0
    for at in positions:
        arrivals = bank.arrivals
        raised += interrupted(call, at)
        assert same(state_of(net), model), at
        assert bank.arrivals - arrivals in (0, 1, 2) and len(bank.stored) == len(bank.memory.kept) <= 3
        bank(images(1))
    assert raised


@pytest.mark.parametrize("order", [1, 2])
def test_a_step_of_mldg_leaves_theta_and_the_statistics_that_it_may_not_move(request, net, order):
    batches = [(images(2, seed), torch.zeros(2, 2, 2, dtype=torch.long)) for seed in (1, 2)]
    net[4] = nn.Identity()  # a dropout would move the random state, as any training does

    def call():
        mldg_backward(net, F.cross_entropy, *batches, inner_lr=0.1, order=order, running_stats="none")

    assert_restored(request, net, call, 0.04)


def test_running_statistics_that_may_not_move_come_back(request, net):
    def call():
        with update_running_stats(net, enabled=False):
            net(images(2))

    net[4].eval()
    assert_restored(request, net, call, 0.08)


# ------------------------------------------------------------------------------------------------- the means


@pytest.mark.parametrize("where", ["entering", "inside", "leaving"])
def test_what_comes_while_entering_or_leaving_waits_and_what_comes_inside_does_not(where):
    steps = []

    def interrupt(here):
        steps.append(here)
        if here == where:
            signal.raise_signal(signal.SIGINT)
            steps.append("went on")

    @interrupt_safe_contextmanager
    def exchanged():
        interrupt("entering")
        try:
            yield
        finally:
            interrupt("leaving")
            steps.append("left")

    with pytest.raises(KeyboardInterrupt):
        with exchanged():
            interrupt("inside")
    assert (
        steps
        == {
            "entering": ["entering", "went on", "leaving", "left"],
            "inside": ["entering", "inside", "leaving", "left"],
            "leaving": ["entering", "inside", "leaving", "went on", "left"],
        }[where]
    )
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("where", ["entering", "leaving"])
def test_what_waits_at_an_inner_block_does_not_wait_for_the_end_of_the_outer_one(where):
    """As in training: the random state is set aside for the whole run, BatchNorm's statistics for a pass."""
    steps = []

    @interrupt_safe_contextmanager
    def outer():
        yield
        steps.append("the outer is left")

    @interrupt_safe_contextmanager
    def inner():
        if where == "entering":
            signal.raise_signal(signal.SIGINT)
        yield
        if where == "leaving":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        with outer():
            with inner():
                steps.append("inside")
            steps.append("after the inner")
    assert steps == (["inside"] if where == "leaving" else [])


def test_a_handler_that_raises_nothing_is_called_once_and_the_block_goes_on():
    calls = []
    before = signal.signal(signal.SIGINT, lambda number, frame: calls.append(number))
    try:

        @interrupt_safe_contextmanager
        def exchanged():
            signal.raise_signal(signal.SIGINT)
            yield "value"

        with exchanged() as value, DeferredInterrupts():
            assert value == "value" and calls == [signal.SIGINT]
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            assert calls == [signal.SIGINT]
        assert calls == [signal.SIGINT] * 2
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_comes_through_while_another_thread_has_the_model(net):
    """The one that waits gives up; the one that predicts goes on."""
    entered, leave, found = threading.Event(), threading.Event(), []

    def wait(module, inputs):
        if threading.current_thread() is not threading.main_thread():
            entered.set()
            leave.wait()

    handle = net[0].register_forward_pre_hook(wait)
    thread = threading.Thread(target=lambda: found.append(TargetNormalization(net)(images(2))))
    thread.start()
    entered.wait()
    timer = threading.Timer(0.05, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        TargetNormalization(net)(images(2))
    leave.set()
    thread.join()
    handle.remove()
    assert torch.equal(found[0], TargetNormalization(net)(images(2)))


def test_elsewhere_than_in_the_main_thread_nothing_is_held_back():
    before, found = signal.getsignal(signal.SIGINT), []

    def other():
        with DeferredInterrupts():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [before]
