"""The step checks: what CUDA computes in another way, against the CPU.

Gradients and predictions are compared in float64, where correct code agrees to nine digits and wrong code does not.
Then come the precisions that a GPU trains in, with their rounding as tolerance. Each check gives one number, the
difference found, and passes if it is within its tolerance. A check that raises has failed; the others still run.
"""

import dataclasses
import datetime
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn

from dglab.bench.measure import random_images
from dglab.data import open_domains
from dglab.experiments.record import describe_machine
from dglab.models import build_model
from dglab.presets import TINY
from dglab.testtime import (
    AdaBN,
    GuardedNormalization,
    ImageBank,
    SourceNormalization,
    SourceReference,
    TargetNormalization,
)
from dglab.testtime.moments import moments_of
from dglab.training import cross_entropy
from dglab.training.config import TrainingConfig
from dglab.training.execution import synchronized
from dglab.training.mean_loss import MeanLoss
from dglab.training.state import CHECKPOINT
from dglab.training.trainer import begin, train, training_step
from tools.gpu.plan import Book
from tools.gpu.tables import add_rows, read_rows

SOURCES = ("G", "S", "I", "M")
SIZE = (32, 64)
CPU = torch.device("cpu")
COLUMNS = ("machine", "torch", "check", "difference", "tolerance", "verdict", "seconds", "note")


@dataclass(frozen=True)
class Check:
    """One comparison.

    Args:
        name: what is compared.
        tolerance: the largest difference that passes.
        difference: of the device's way from the CPU's, or from the plain one on the device.
        needs_cuda: whether there is nothing to compare without it.
        slow: whether it compiles code or starts processes.
    """

    name: str
    tolerance: float
    difference: Callable[[torch.device], float]
    needs_cuda: bool = False
    slow: bool = False


# ------------------------------------------------------------------------------------------------- gradients


def config_of(method: str, **changes: object) -> TrainingConfig:
    """A short training on four sources."""
    return dataclasses.replace(TINY.template(method), sources=SOURCES, batch_per_domain=2, data=TINY.streets, **changes)


def batch_of(config: TrainingConfig, device: torch.device, dtype: torch.dtype) -> tuple:
    """A batch of random images, 2 x 4 x 3 x H x W, and labels of which some are left out; more for several modalities.

    Images that all look alike would hide an average over the wrong ones: they differ in brightness and contrast.
    """
    images, labels = random_images(8, SIZE, "cpu")
    images = images * torch.linspace(0.2, 1, 8)[:, None, None, None]
    labels[:, ::5] = 255
    images, labels = images.to(dtype).view(2, 4, 3, *SIZE).to(device), labels.view(2, 4, *SIZE).to(device)
    if config.method != "gmp":
        return images, labels
    return {"rgb": images, "depth": images[:, :, :1]}, labels, torch.arange(4, device=device).expand(2, 4)


def gradient(
    config: TrainingConfig, device: torch.device, dtype: torch.dtype = torch.float64, *, dropout: float = 0.0
) -> Tensor:
    """The gradient of one step as a vector, in float64 on the CPU."""
    model = begin(config, None, device).model.to(dtype)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout  # a GPU draws other numbers than a CPU
    training_step(model, batch_of(config, device, dtype), config, step=0)
    return torch.cat([p.grad.flatten().double().cpu() for p in model.parameters()])


def relative(found: Tensor, expected: Tensor) -> float:
    """The length of the difference over that of what is expected."""
    return ((found - expected).norm() / expected.norm()).item()


def against_cpu(method: str, *, dtype: torch.dtype = torch.float64, **changes: object) -> Callable[..., float]:
    """The gradient on the device, so executed, against the plain one on the CPU in float64."""

    def difference(device: torch.device) -> float:
        own = {name: changes[name] for name in ("order",) if name in changes}
        parts = {name: changes[name] for name in ("micro_batches",) if name in changes}  # BatchNorm sees them apart
        expected = gradient(config_of(method, **own, **parts), CPU)
        return relative(gradient(config_of(method, **changes), device, dtype), expected)

    return difference


@contextmanager
def exact_float32() -> Iterator[None]:
    """Within the block, convolutions in float32 are that on a GPU, too; by default torch lets them round to TF32."""
    with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
        yield


def float32_without_tf32(device: torch.device) -> float:
    """MLDG's gradient in float32 proper, against the CPU's in float64."""
    with exact_float32():
        return against_cpu("mldg", dtype=torch.float32)(device)


def checkpointed_dropout(device: torch.device) -> float:
    """Activation checkpointing, which runs stages again in the backward pass, keeps the head's dropout as it was."""
    plain = gradient(config_of("mldg", order=2), device, dropout=0.5)
    return relative(gradient(config_of("mldg", order=2, activation_checkpointing=True), device, dropout=0.5), plain)


def replayed_dropout(device: torch.device) -> float:
    """Share of the dropout's numbers that the second run of order 2 in parts draws otherwise than the first."""
    config = config_of("mldg", order=2)
    model, drawn = begin(config, None, device).model.double(), []
    layer = next(m for m in model.modules() if isinstance(m, nn.Dropout))
    layer.register_forward_hook(lambda module, inputs, output: drawn.append((output == 0) & (inputs[0] != 0)))
    images, labels = (part.flatten(0, 1) for part in batch_of(config, device, torch.float64))
    torch.manual_seed(0)
    loss = MeanLoss(model, cross_entropy, [(images, labels)], 2)
    _, grad = loss.value_and_grad(for_hessian=True)
    torch.rand(7, device=device)  # what comes between them draws, too
    loss.hessian_vector_product(grad)
    first, second = torch.cat(drawn[:2]), torch.cat(drawn[2:])
    if not first.any():
        raise AssertionError("the dropout dropped nothing, so that nothing is compared")
    return (first != second).double().mean().item()


# ------------------------------------------------------------------------------------------------ test time


def stream_of(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Eight images of unlike brightness."""
    images = random_images(8, SIZE, "cpu")[0] * torch.linspace(0.2, 1, 8)[:, None, None, None]
    return images.to(dtype).to(device)


def network_under_test(device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A network whose running statistics are not those of its first step."""
    model = build_model("thin", seed=0).double().train()
    with torch.no_grad():
        for _ in range(5):
            model(stream_of(CPU, torch.float64))
    return model.to(device, dtype).eval()


def predictions(device: torch.device, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """What each method predicts of a stream, in float64 on the CPU; and whom SIB selects."""
    model, images = network_under_test(device, dtype), stream_of(device, dtype)
    bank = ImageBank(model, neighbors=2, capacity=4)
    cached = ImageBank(model, neighbors=2, capacity=4, statistics="cached")
    guard = GuardedNormalization(model, SourceReference.measure(model, images[4:]))
    found, selected = {}, []
    for number in range(len(images)):
        image = images[number : number + 1]
        found[f"SIB joint {number}"], found[f"SIB cached {number}"] = bank(image), cached(image)
        selected += [*bank.selected, -1]
        found[f"guarded {number}"] = guard(image)
    found |= {
        "source BN": SourceNormalization(model)(images), "TN": TargetNormalization(model)(images),
        "TN, prior 0.5": TargetNormalization(model, prior=0.5)(images[:1]), "AdaBN": AdaBN(model).fit(images)(images),
    }  # fmt: skip
    return {"selected": torch.tensor(selected).double()} | {name: x.double().cpu() for name, x in found.items()}


def largest(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest difference over the largest logit, over all methods."""
    return max(((found[name] - expected[name]).abs().max() / expected[name].abs().max()).item() for name in expected)


def predicted_as_on_cpu(dtype: torch.dtype) -> Callable[[torch.device], float]:
    """Every method's predictions on the device, in this type, against the CPU's in float64."""

    def difference(device: torch.device) -> float:
        expected, found = predictions(CPU), predictions(device, dtype)
        if dtype in (torch.float16, torch.bfloat16):  # who is nearest in style is decided by what they round away
            expected = {name: x for name, x in expected.items() if name in ("source BN", "TN", "TN, prior 0.5")}
        return largest(found, expected)

    return difference


def moments_in_any_layout(device: torch.device) -> float:
    """The moments of features, by the device's own kernel, against the plain formula in float64."""
    features = stream_of(CPU, torch.float64)
    worst = 0.0
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        for layout in (torch.contiguous_format, torch.channels_last):
            x = features.to(dtype).to(device).contiguous(memory_format=layout)
            variance, mean = torch.var_mean(x.double().cpu(), dim=(0, 2, 3), correction=0)
            for own, expected in zip(moments_of(x), (mean, variance), strict=True):
                worst = max(worst, relative(own.double().cpu(), expected))
    return worst


@contextmanager
def deterministic() -> Iterator[None]:
    """Within the block, torch refuses what is not deterministic; without it two trainings on a GPU differ."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def compiled_at_test_time(device: torch.device) -> float:
    """TN reaches through a network that is compiled, and was run so, which after it runs compiled again."""
    model, images = network_under_test(device, torch.float64), stream_of(device, torch.float64)
    plain = {"TN": TargetNormalization(model)(images), "source BN": model(images).detach()}
    compiled = torch.compile(model)
    with torch.no_grad():
        before = compiled(images)
        found = {"TN": TargetNormalization(compiled)(images), "source BN": compiled(images)}
    return max(largest(found, plain), (before - plain["source BN"]).abs().max().item())


def deterministic_algorithms(device: torch.device) -> float:
    """Where torch is told to refuse what is not deterministic, every method runs, twice to the same bits."""
    with deterministic():
        return largest(predictions(device), predictions(device))


# ------------------------------------------------------------------------------------------------ whole runs


def random_state_left_alone(device: torch.device) -> float:
    """1 if a training changes what its caller draws next, on the CPU or on the device."""

    def draws() -> Tensor:
        return torch.cat([torch.rand(9), torch.rand(9, device=device).cpu()])

    torch.manual_seed(5)
    expected = draws()
    torch.manual_seed(5)
    weights_of(config_of("mldg"), device, workers=0)
    return float(not torch.equal(draws(), expected))


def resumed(device: torch.device) -> float:
    """A training interrupted after two of three steps and resumed, against one that was not interrupted.

    The one loads its batches in this process, the other in two of their own, into pinned memory beside a GPU. There
    two trainings have the same bits by deterministic algorithms alone: without them they differed by 0.01 (H200).
    """
    config = config_of("mldg", steps=3, checkpoint_every=1)
    with deterministic():
        whole = weights_of(config, device, workers=0)
        return relative(weights_of(config, device, workers=2, stop_after=2), whole)


class Stopped(Exception):
    """Raised during a training."""


def weights_of(config: TrainingConfig, device: torch.device, *, workers: int, stop_after: int | None = None) -> Tensor:
    """All weights after a training, as a vector; it is stopped once, and taken up again, if ``stop_after`` says so."""
    domains = open_domains(TINY.streets)

    def stop(line: dict) -> None:
        if line["step"] + 1 == stop_after:
            raise Stopped

    with tempfile.TemporaryDirectory() as folder:
        options = {"device": device, "workers": workers, "progress": False}
        if stop_after is not None:
            try:
                train(config, domains, Path(folder), on_log=stop, **options)
            except Stopped:
                pass
        return vector_of(train(config, domains, Path(folder), **options))


def vector_of(checkpoint: Path) -> Tensor:
    """All floating-point tensors of a checkpoint."""
    tensors = load_file(checkpoint)
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors) if "num_batches" not in name])


def group_of_one(device: torch.device) -> float:
    """``torchrun`` with one process, by nccl on a GPU and with synchronized BatchNorm there, against no group.

    Synchronized BatchNorm adds in another order, and TF32 would make a hundredth of that: it is off in both.
    """
    exact = {**os.environ, "NVIDIA_TF32_OVERRIDE": "0"}
    common = ["-m", "dglab", "train", "--preset", "tiny", "--method", "mldg", "--task", "G+S->C", "--device",
              device.type]  # fmt: skip
    launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1",
                "--nproc-per-node", "1"]  # fmt: skip
    own = ["--batchnorm", "synchronized"] if device.type == "cuda" else []
    with tempfile.TemporaryDirectory() as folder:
        for name, command in (("alone", common), ("group", [*launcher, *common, *own])):
            command = [sys.executable, *command, "--out", f"{folder}/{name}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=150, env=exact)
            if done.returncode:
                raise RuntimeError(f"{name}: {done.stderr.strip()[-500:]}")
        alone, group = (vector_of(Path(folder) / name / CHECKPOINT) for name in ("alone", "group"))
    return relative(group, alone)


def two_processes_synchronized(device: torch.device) -> float:
    """Two processes on the one GPU whose BatchNorm averages over both, against one with all images; by gloo, for nccl
    wants a GPU for each."""
    worst = 0.0
    for method in ("agg", "mldg"):
        expected = gradient(config_of(method), CPU)
        with tempfile.TemporaryDirectory() as folder:
            torch.multiprocessing.spawn(one_of_two, (method, folder), nprocs=2)
            worst = max(worst, relative(torch.load(f"{folder}/gradient.pt"), expected))
    return worst


def one_of_two(rank: int, method: str, folder: str) -> None:
    """The part of one process in :func:`two_processes_synchronized`."""
    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a machine without network may not know its own name
    meeting, patience = f"file://{folder}/meeting", datetime.timedelta(minutes=1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=patience)
    config = config_of(method)
    model = synchronized(begin(config, None, device).model.double())
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    images, labels = batch_of(config, device, torch.float64)
    training_step(model, (images[rank : rank + 1], labels[rank : rank + 1]), config, step=0)
    if rank == 0:
        torch.save(torch.cat([p.grad.flatten().cpu() for p in model.parameters()]), f"{folder}/gradient.pt")
    dist.barrier()
    dist.destroy_process_group()


# ------------------------------------------------------------------------------------------------- all of them

EXACT = 1e-9  # of float64
SINGLE = 1e-3  # of float32, through a network whose BatchNorm amplifies what its input rounds
TF32 = 3e-2  # of eleven bits
BF16 = 4e-1  # of eight bits: a CPU comes to 0.2 for the gradient of such a network in its first step
CHECKS = (
    Check("moments, every layout", 2e-5, moments_in_any_layout),
    *(
        Check(f"float64 gradient: {' '.join([method, *(f'{k} {v}' for k, v in changes.items())])}", EXACT,
              against_cpu(method, **changes))
        for method, changes in (
            ("agg", {}), ("by_domain", {}), ("split", {}), ("projected", {}), ("gmp", {}), ("mldg", {}),
            ("mldg", {"order": 2}), ("mldg", {"order": 2, "micro_batches": 2}),
            ("mldg", {"order": 2, "channels_last": True}), ("mldg", {"order": 2, "activation_checkpointing": True}),
        )
    ),
    Check("float32 gradient, mldg, without TF32", SINGLE, float32_without_tf32),
    Check("float32 gradient, mldg, as torch sets TF32", TF32, against_cpu("mldg", dtype=torch.float32)),
    *(
        Check(f"bf16 gradient: {' '.join([method, *(f'{k} {v}' for k, v in changes.items())])}", BF16,
              against_cpu(method, dtype=torch.float32, precision="bf16", **changes))
        for method, changes in (
            ("agg", {}), ("agg", {"channels_last": True}), ("gmp", {}), ("mldg", {}), ("mldg", {"order": 2}),
            ("mldg", {"order": 2, "micro_batches": 2}), ("mldg", {"activation_checkpointing": True}),
        )
    ),
    Check("dropout beside recomputed stages", EXACT, checkpointed_dropout),
    Check("dropout of order 2 in parts, drawn again", 0.0, replayed_dropout),
    Check("float64 predictions", EXACT, predicted_as_on_cpu(torch.float64)),
    Check("float32 predictions, as torch sets TF32", TF32, predicted_as_on_cpu(torch.float32)),
    Check("bf16 network: predictions", BF16, predicted_as_on_cpu(torch.bfloat16)),
    Check("float16 network: predictions", TF32, predicted_as_on_cpu(torch.float16), needs_cuda=True),
    Check("predictions by deterministic algorithms, twice", 0.0, deterministic_algorithms),
    Check("random state after a training", 0.0, random_state_left_alone),
    Check("training resumed, batches from other processes", 0.0, resumed),
    *(Check(f"float64 gradient: {method} compiled", EXACT, against_cpu(method, compile=True), slow=True)
      for method in ("agg", "mldg")),
    Check("test time of a compiled network", EXACT, compiled_at_test_time, slow=True),
    Check("a group of one process", SINGLE, group_of_one, slow=True),
    Check("BatchNorm synchronized over two processes", EXACT, two_processes_synchronized, needs_cuda=True, slow=True),
)  # fmt: skip


def run_checks(book: Book, checks: Sequence[Check] = CHECKS) -> bool:
    """Run those that have not passed on this machine yet; a row each in ``checks.csv``.

    Returns:
        Whether all were run: False where time ran out before.
    """
    device, path = torch.device(book.device), book.out / "checks.csv"
    machine = {"machine": describe_machine(book.device), "torch": torch.__version__}
    key = ("machine", "torch", "check")
    done = {tuple(row[name] for name in key) for row in read_rows(path) if row["verdict"] != "failed"}
    for check in checks:
        if (*machine.values(), check.name) in done:
            continue
        if book.seconds_left < (90 if check.slow else 20):
            return False
        row = {**machine, "check": check.name, "tolerance": check.tolerance, **outcome(check, device)}
        print(f"{row['verdict']:8} {check.name}: {row['difference']} {row['note']}", flush=True)
        add_rows(path, COLUMNS, [row], key)
    return True


def outcome(check: Check, device: torch.device) -> dict[str, str]:
    """Run one: difference, verdict, seconds, and what went wrong."""
    if check.needs_cuda and device.type != "cuda":
        return {"difference": "", "verdict": "not run", "seconds": "", "note": "needs CUDA"}
    start, note, difference = time.monotonic(), "", float("nan")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            difference = check.difference(device)
    except Exception as error:  # of any kind: the others are to run
        note = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    verdict = "passed" if difference <= check.tolerance else "failed"  # nan does not pass
    seconds = f"{time.monotonic() - start:.1f}"
    return {"difference": f"{difference:.3g}", "verdict": verdict, "seconds": seconds, "note": note}
