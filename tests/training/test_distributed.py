"""N processes train as one does with N micro-batches: real processes, gloo, on the CPU."""

import dataclasses
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from dglab.bench.measure import peak_memory
from dglab.data import InMemory, streets_domains
from dglab.data.augmentation import training_augmentation
from dglab.data.batches import MultiDomainBatches
from dglab.data.prepared import PreparedDataset
from dglab.models.multimodal import build_multimodal
from dglab.presets import PRESETS
from dglab.training import (
    agg_backward,
    by_domain_backward,
    cross_entropy,
    distributed,
    log,
    mldg_backward,
    split_backward,
    state,
    train,
)
from dglab.training.distributed import messages, processes, sum_over_processes
from dglab.training.gmp import gmp_backward
from dglab.training.methods import split_images
from dglab.utils.errors import InputError

pytestmark = pytest.mark.numerical

WORLD, ROWS = 3, 2  # processes, and images of each


class Net(nn.Module):
    """With BatchNorm, and a parameter that no loss depends on. Dropout would differ between processes."""

    def __init__(self):
        super().__init__()
        self.a, self.bn, self.b = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.Conv2d(5, 19, 1)
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.b(torch.tanh(self.bn(self.a(x))))


METHODS = {
    "agg": lambda net, ds, dg, m: agg_backward(net, cross_entropy, ds, micro_batches=m),
    "agg2": lambda net, ds, dg, m: agg_backward(net, cross_entropy, dg, weight=2.0, micro_batches=m),
    "by domain": lambda net, ds, dg, m: by_domain_backward(net, cross_entropy, [ds, dg], micro_batches=m),
    "split": lambda net, ds, dg, m: split_backward(net, cross_entropy, ds, dg, micro_batches=m),
    "mldg 1": lambda net, ds, dg, m: mldg_backward(net, cross_entropy, ds, dg, 0.3, 0.7, 1, micro_batches=m),
    "mldg 2": lambda net, ds, dg, m: mldg_backward(net, cross_entropy, ds, dg, 0.3, 0.7, 2, micro_batches=m),
}
ONE_LOSS = ("agg", "agg2", "by domain")
UNLABELLED = {  # per case, the rows of (meta-train, meta-test) without labels; others have unequal numbers of them
    "unequal": ([], []),
    "one process without": ([2, 3], [4, 5]),
    "no label in meta-train": (range(6), []),
    "no label in meta-test": ([], range(6)),
    "none anywhere": (range(6), range(6)),
}
CASES = [(method, case) for method in METHODS for case in UNLABELLED]


def batches(case):
    """Meta-train and meta-test of all processes together."""
    parts = []
    for seed, rows in enumerate(UNLABELLED[case]):
        generator = torch.Generator().manual_seed(seed)
        images = torch.rand(WORLD * ROWS, 3, 6, 8, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, 19, (WORLD * ROWS, 6, 8), generator=generator)
        for row in range(len(labels)):
            labels[row, : row % 5] = 255
        labels[list(rows)] = 255
        parts.append((images, labels))
    return parts


def outcome(method, case, part=slice(None), micro_batches=1):
    """Losses, gradients and buffers after one step on some of the rows."""
    torch.manual_seed(0)
    net = Net().double().train()
    ds, dg = ((images[part], labels[part]) for images, labels in batches(case))
    losses = METHODS[method](net, ds, dg, micro_batches)
    return tuple(losses), [p.grad for p in net.parameters()], dict(net.named_buffers())


def multimodal_outcome(part=slice(None), micro_batches=1):
    """Losses and gradients of GMP on some of the rows."""
    model = build_multimodal(("rgb", "depth"), 2, seed=0, width=4).double().train()
    for dropout in (module for module in model.modules() if isinstance(module, nn.Dropout)):
        dropout.p = 0.0
    images, labels = batches("unequal")[0]
    pictures = {"rgb": images[part], "depth": images[part, :1]}
    domains = (torch.arange(WORLD * ROWS) % 2)[part]
    losses = gmp_backward(
        model, cross_entropy, (pictures, labels[part], domains), alpha_k=0.4, alpha_p=0.7, micro_batches=micro_batches
    )
    return tuple(losses), [p.grad for p in model.parameters()]


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    own = slice(ROWS * rank, ROWS * (rank + 1))
    found = {case: outcome(*case, own) for case in CASES}
    found |= {(method, "in parts"): outcome(method, "unequal", own, micro_batches=ROWS) for method in METHODS}
    found["gmp"] = multimodal_outcome(own)
    found["sum"] = sum_over_processes([torch.full((2,), 10.0**rank), torch.tensor(rank), torch.tensor([[1.5]])])
    images = torch.arange(8.0).view(2, 4, 1, 1, 1).expand(2, 4, 3, 1, 1)
    halves = split_images((images, images[:, :, 0].long()), "half", torch.Generator().manual_seed(0))
    found["halves"] = [part[1].flatten().tolist() for part in halves]
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each process found."""
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.set_forkserver_preload(["dglab.training"])  # imported once for all three
    torch.multiprocessing.start_processes(work, (str(folder),), WORLD, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


@pytest.mark.parametrize(("method", "case"), CASES)
def test_processes_equal_micro_batches(found, method, case):
    losses, grads, _ = outcome(method, case, micro_batches=WORLD)
    for of_one in found:  # every process has the losses and the gradient of all
        its_losses, its_grads, _ = of_one[method, case]
        assert its_losses == pytest.approx(losses, rel=1e-12, nan_ok=method in ONE_LOSS)
        assert all(torch.equal(a, b) for a, b in zip(its_grads, found[0][method, case][1], strict=True))
    for a, b in zip(found[0][method, case][1], grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-14)
        assert torch.isfinite(a).all() and (a.any() or a.numel() == 2 or UNLABELLED[case] != ([], []))


@pytest.mark.parametrize("method", METHODS)
def test_processes_with_micro_batches_equal_as_many_micro_batches(found, method):
    losses, grads, _ = outcome(method, "unequal", micro_batches=WORLD * ROWS)
    for of_one in found:
        its_losses, its_grads, _ = of_one[method, "in parts"]
        assert its_losses == pytest.approx(losses, rel=1e-12, nan_ok=method in ONE_LOSS)
        for a, b in zip(its_grads, grads, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-14)


def test_gmp_in_processes_equals_micro_batches(found):
    losses, grads = multimodal_outcome(micro_batches=WORLD)
    for of_one in found:
        its_losses, its_grads = of_one["gmp"]
        assert its_losses == pytest.approx(losses, rel=1e-12)
        for a, b, first in zip(its_grads, grads, found[0]["gmp"][1], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-14)
            assert torch.equal(a, first)


def test_a_group_holds_no_second_gradient(monkeypatch):
    """In a group of one that sends nothing: what gloo still holds of a message depends on the moment."""
    monkeypatch.setattr(distributed, "grouped", lambda: True)
    monkeypatch.setattr(dist, "all_reduce", lambda message: None)
    monkeypatch.setattr(distributed, "MESSAGE_BYTES", 2**18)  # the weights of one layer
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Conv2d(256, 256, 1) for _ in range(100)))  # parameters are most of the memory
    copy_of_parameters = sum(p.nbytes for p in model.parameters())
    ds, dg = ((torch.rand(1, 256, 1, 1), torch.randint(0, 19, (1, 1, 1))) for _ in range(2))
    for method, most in (("agg", 1.1), ("mldg 1", 3.1), ("mldg 2", 4.1)):
        model.zero_grad()
        assert peak_memory(lambda: METHODS[method](model, ds, dg, 1), "cpu") < most * copy_of_parameters  # noqa: B023


def test_messages_are_of_one_type_and_bounded():
    sizes = [3, 2, 7, 1, 1]  # in 5 MiB
    tensors = [torch.empty(size * 5 * 2**20, dtype=torch.uint8) for size in sizes]
    tensors.insert(4, torch.empty(1))
    assert [[t.nbytes // (5 * 2**20) for t in message] for message in messages(tensors)] == [[3, 2], [7], [1], [0], [1]]


def test_the_loss_is_the_mean_over_all_labelled_pixels(found):
    """Not the mean of the processes' means: by hand, with BatchNorm on each process's images."""
    torch.manual_seed(0)
    net = Net().double().train()
    images, labels = batches("unequal")[0]
    logits = torch.cat([net(part) for part in images.split(ROWS)])
    loss = nn.functional.cross_entropy(logits, labels, ignore_index=255)
    assert found[0]["agg", "unequal"][0][0] == pytest.approx(loss.item(), rel=1e-12)
    loss.backward()
    torch.testing.assert_close(found[0]["agg", "unequal"][1][1], net.a.weight.grad)  # the first is unused


def test_nothing_labelled_is_zero_everywhere(found):
    for method in METHODS:
        losses, grads, _ = found[1][method, "none anywhere"]
        assert all(loss == 0 or math.isnan(loss) for loss in losses) and losses[2] == 0
        assert not any(grad.any() for grad in grads)


def test_batchnorm_is_each_processs_own(found):
    for rank, of_one in enumerate(found):
        own = slice(ROWS * rank, ROWS * (rank + 1))
        for name, buffer in outcome("mldg 1", "unequal", own)[2].items():
            torch.testing.assert_close(of_one["mldg 1", "unequal"][2][name], buffer)
            assert torch.equal(of_one["mldg 2", "unequal"][2][name], of_one["mldg 1", "unequal"][2][name])


def test_sums_keep_shapes_and_types(found):
    for of_one in found:
        floats, integer, matrix = of_one["sum"]
        assert floats.tolist() == [111, 111] and integer.item() == 3 and integer.dtype == torch.int64
        assert matrix.tolist() == [[4.5]]


def test_each_process_halves_its_images_in_an_order_of_its_own(found):
    for of_one in found:
        assert sorted(sum(of_one["halves"], [])) == list(range(8))
    assert len({str(of_one["halves"]) for of_one in found}) == WORLD


def test_without_a_group_sums_are_the_tensors_themselves():
    tensors = [torch.ones(2), torch.zeros(3)]
    assert all(a is b for a, b in zip(sum_over_processes(tensors), tensors, strict=True))
    with processes("mps") as device:  # no torchrun: nothing to set up, nothing to refuse
        assert device == "mps" and not dist.is_initialized()


# ------------------------------------------------------------------------------------------- parts of a batch


@pytest.fixture(scope="module")
def domains():
    return streets_domains(32, 64, train_images=3, val_images=1)


def of_parts(domains, count, per_domain=4):
    transform = training_augmentation((24, 40), (0.5, 2.0), 0.5)
    sources = [domains[letter].train for letter in "GSI"]
    return [MultiDomainBatches(sources, per_domain, 3, transform, 0, (part, count)) for part in range(count)]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_parts_are_the_batch(domains, count):
    [whole] = of_parts(domains, 1)
    parts = of_parts(domains, count)
    for step in range(3):
        assert parts[0][step][0].shape[:2] == (4 // count, 3)
        for kind in (0, 1):  # images, labels
            assert torch.equal(torch.cat([part[step][kind] for part in parts]), whole[step][kind])


def test_a_batch_that_cannot_be_shared_is_refused(domains):
    with pytest.raises(InputError, match="per domain is 4; expected a multiple of 3, the number of processes"):
        of_parts(domains, 3)
    config = PRESETS["tiny"].training
    with pytest.raises(InputError, match=r"batch_per_domain is 1; expected a multiple of 2, for 2 process.* 1 micro"):
        dataclasses.replace(config, processes=2)
    with pytest.raises(InputError, match=r"is 6; expected a multiple of 4, for 2 process.* 2 micro"):
        dataclasses.replace(config, batch_per_domain=6, processes=2, micro_batches=2)


def test_a_step_names_the_images_of_all_its_parts(domains, tmp_path):
    first, second = of_parts(domains, 2)
    assert first.images_of(1) == second.images_of(1) and len(first.images_of(1)) == 12
    for kind, shape in (("images", (8, 8, 3)), ("labels", (8, 8))):
        (tmp_path / kind).mkdir()
        for stem in range(3):
            Image.fromarray(np.full(shape, stem, np.uint8)).save(tmp_path / kind / f"{stem}.png")
    files = PreparedDataset("P", "prepared", "train", tmp_path)
    for dataset in (files, InMemory(files)):
        drawn = MultiDomainBatches([dataset, domains["G"].train], 2, 4, v2.CenterCrop((4, 6)), 0)
        for step in range(4):
            stems = drawn[step][0][:, 0, 0, 0, 0]  # an image holds its number
            assert drawn.images_of(step)[::2] == [str(tmp_path / "images" / f"{int(stem)}.png") for stem in stems]
            assert all(name.startswith("G_train_000") for name in drawn.images_of(step)[1::2])


# ------------------------------------------------------------------------------------------ dglab under torchrun


SCRIPT = """
import dataclasses, os, pathlib, signal, time
import torch
from dglab.cli import main
from dglab.presets import PRESETS
from dglab.training import trainer

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs tests in the background has it ignored
torch.nn.Dropout.forward = lambda self, x: x
tiny = PRESETS["tiny"]
training = dataclasses.replace(tiny.training, checkpoint_every=2, batch_per_domain=2)
PRESETS["tiny"] = dataclasses.replace(tiny, training=training)
original = trainer.training_step

def training_step(model, batch, config, step):
    if os.environ["RANK"] == "1" and str(step) == os.environ["DIES_AT"]:
        os.kill(os.getpid(), signal.SIGKILL)
    if str(step) == os.environ["WAITS_AT"]:
        pathlib.Path(os.environ["MARKS"], os.environ["RANK"]).touch()
        time.sleep(600)  # the signal comes before
    return original(model, batch, config, step)

trainer.training_step = training_step
main()
"""
STEPS = 5


def torchrun(folder, script, *options, dies_at="", marks=None):
    """Two processes that train; one dies before step ``dies_at``, or Ctrl-C comes when both have left their marks."""
    arguments = ["train", "--preset", "tiny", "--method", "mldg", "--order", "2", "--task", "G+S->C",
                 "--steps", str(STEPS), "--device", "cpu", "--out", str(folder), *options]  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "DIES_AT": dies_at,
                   "WAITS_AT": "3" if marks else "", "MARKS": str(marks)}  # fmt: skip
    run = subprocess.Popen([*command, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True, start_new_session=True)  # fmt: skip
    try:
        if marks:
            while len(list(marks.iterdir())) < 2 and run.poll() is None:
                time.sleep(0.1)
            os.killpg(run.pid, signal.SIGINT)  # as a terminal sends it: to torchrun and to those it has started
        out, err = run.communicate()
    except BaseException:
        os.killpg(run.pid, signal.SIGKILL)
        raise
    return subprocess.CompletedProcess(run.args, run.returncode, out, err)


@pytest.mark.long
def test_a_worker_dies_and_ctrl_c_comes_and_the_run_goes_on(tmp_path, monkeypatch):
    """Two processes; one is killed, torchrun ends the other; resumed and interrupted, resumed once more.

    The run equals one that nothing disturbs byte by byte, and one process with two micro-batches.
    """
    script, folder, marks = tmp_path / "script.py", tmp_path / "run", tmp_path / "marks"
    script.write_text(SCRIPT)
    marks.mkdir()
    died = torchrun(folder, script, dies_at="3")
    assert died.returncode != 0 and "SIGKILL" in died.stderr
    assert (folder / state.STATE).exists() and not (folder / state.CHECKPOINT).exists()

    alone = dataclasses.replace(
        PRESETS["tiny"].training, method="mldg", order=2, sources=("G", "S"), steps=STEPS, checkpoint_every=2,
        batch_per_domain=2, micro_batches=2, data=PRESETS["tiny"].streets,
    )  # fmt: skip
    streets = streets_domains(32, 64, 4, 4)
    with pytest.raises(InputError, match=r"processes \(2 and 1\), micro_batches \(1 and 2\)"):
        train(alone, streets, folder, progress=False)
    with pytest.raises(InputError, match=r"for 2 process\(es\), and 1 train here; start torchrun with --nproc-per-"):
        train(dataclasses.replace(alone, processes=2, micro_batches=1), streets, folder, progress=False)

    stopped = torchrun(folder, script, "--resume", marks=marks)
    assert stopped.returncode != 0 and len(list(marks.iterdir())) == 2
    assert stopped.stderr.count("interrupted; --resume continues from the last saved state") == 1  # one process speaks
    assert {path.name for path in folder.iterdir()} - {"tensorboard"} == {state.STATE, log.LOG}

    done = torchrun(folder, script, "--resume")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained: ") == 1  # one process speaks
    assert not (folder / state.STATE).exists()

    assert torchrun(tmp_path / "whole", script).returncode == 0
    for name in (state.CHECKPOINT, log.LOG):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: x)
    train(alone, streets, tmp_path / "alone", progress=False)
    logs = [[json.loads(line) for line in (path / log.LOG).read_text().splitlines()]
            for path in (folder, tmp_path / "alone")]  # fmt: skip
    assert [line["step"] for line in logs[0]] == list(range(STEPS))
    for one, other in zip(*logs, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
