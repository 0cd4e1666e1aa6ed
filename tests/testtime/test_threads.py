"""Several threads on one model: each predicts as if it were alone."""

import copy
import sys
import threading

import pytest
import torch
from torch import nn

from dglab.testtime import AdaBN, ImageBank, SourceNormalization, TargetNormalization

THREADS, ARRIVALS = 8, 125


def small(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
            nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Dropout(0.5)),
            nn.Conv2d(6, 4, 1),
        )
        for _ in range(5):
            net(images(4, seed=99))
    return net


def images(n, seed=0, side=6):
    generator = torch.Generator().manual_seed(seed)
    contrast, brightness = torch.rand(2, n, 3, 1, 1, generator=generator)
    return torch.randn(n, 3, side, side, generator=generator) * (0.2 + contrast) + brightness


def in_threads(*tasks):
    """What each task returns, all of them running at once."""
    found, failed, start = {}, [], threading.Barrier(len(tasks))

    def run(number, task):
        try:
            start.wait()
            found[number] = task()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return [found[number] for number in range(len(tasks))]


@pytest.fixture(autouse=True)
def fast_switches():
    """Threads take turns as often as Python can, which shows what they do to each other."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def tensors(net):
    return {name: (id(value), value._version, value.clone()) for name, value in net.state_dict(keep_vars=True).items()}


def assert_same(before, after):
    assert before.keys() == after.keys()
    for name, (identity, version, value) in before.items():
        assert after[name][:2] == (identity, version) and torch.equal(after[name][2], value)


@pytest.mark.parametrize("statistics", ["joint", "cached"])
def test_a_thousand_arrivals_in_eight_streams_are_those_of_one_stream_after_the_other(statistics):
    net = small().train()
    before, twin = tensors(net), copy.deepcopy(net)
    streams = [images(ARRIVALS, seed) for seed in range(THREADS)]

    def outputs(bank, stream):
        return [(bank(image), bank.selected, bank.distances) for image in stream.split(1)]

    options = dict(neighbors=2, capacity=8, removal="random", statistics=statistics, style_layer="0")
    expected = [outputs(ImageBank(twin, **options).stream(str(i)), stream) for i, stream in enumerate(streams)]
    bank = ImageBank(net, **options)
    found = in_threads(*(lambda i=i, s=s: outputs(bank.stream(str(i)), s) for i, s in enumerate(streams)))
    for one, other in zip(found, expected, strict=True):
        for (a, *chosen), (b, *others) in zip(one, other, strict=True):
            assert torch.equal(a, b) and chosen == others
    assert_same(before, tensors(net))
    assert all(m.training and not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())


def test_all_predictors_on_one_model_and_on_what_wraps_it_take_turns():
    net = small().eval()
    wrapped = nn.Sequential(net)
    before, twin = tensors(net), copy.deepcopy(net)
    batches = images(60, seed=1).split(3)

    def outputs(predictor):
        return [predictor(batch) for batch in batches]

    def predictors(net, wrapped):
        return (SourceNormalization(net), TargetNormalization(wrapped), TargetNormalization(net, prior=0.5),
                AdaBN(wrapped).fit(batches[0]), ImageBank(wrapped, "0.0"), ImageBank(net, "0"))  # fmt: skip

    expected = [outputs(predictor) for predictor in predictors(twin, nn.Sequential(twin))]
    found = in_threads(*(lambda p=p: outputs(p) for p in predictors(net, wrapped)))
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert_same(before, tensors(net))


def test_the_same_stream_is_made_once():
    bank = ImageBank(small(), "0")
    found = in_threads(*(lambda: [bank.stream(str(i)) for i in range(20)] for _ in range(THREADS)))
    assert all(one is other for streams in found for one, other in zip(streams, found[0], strict=True))


def test_two_models_in_two_threads_leave_torch_compile_as_it_was():
    """Its stance is one for the whole process: the last to leave puts it back, whoever came first."""
    inside, go_on = threading.Barrier(2), threading.Barrier(2)
    calls = []

    @torch.compile(backend=lambda graph, inputs: calls.append(len(inputs)) or graph.forward)
    def compiled(x):
        return x + 1

    class Meeting(nn.Module):
        def __init__(self, first):
            super().__init__()
            self.norm, self.first = nn.BatchNorm2d(3), first

        def forward(self, x):
            if not self.first:
                inside.wait()  # while the first model, which came earlier, is inside
                go_on.wait()  # until it has left
            else:
                inside.wait()
            return self.norm(x)

    def first():
        SourceNormalization(Meeting(True))(images(1))
        go_on.wait()

    in_threads(first, lambda: SourceNormalization(Meeting(False))(images(1)))
    compiled(torch.ones(3))
    assert calls == [1]  # compiled again, by the backend


def test_locks_are_neither_copied_nor_saved(tmp_path):
    net = small()
    ImageBank(net, "0")(images(1))
    torch.save(copy.deepcopy(net), tmp_path / "net.pt")
    again = torch.load(tmp_path / "net.pt", weights_only=False)
    assert torch.equal(TargetNormalization(again)(images(2)), TargetNormalization(net)(images(2)))
