"""Training, interrupted and resumed in every way a run can be; and what a damaged file does to it."""

import contextlib
import copy
import dataclasses
import functools
import gc
import io
import json
import os
import pickle
import random
import re
import resource
import signal
import subprocess
import sys
import time

import pytest
import safetensors.torch
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from dglab.bench.measure import peak_memory
from dglab.data import Domain, streets_domains
from dglab.data.batches import MultiDomainBatches
from dglab.models import build_model
from dglab.models.multimodal import GradientReversal, build_multimodal, set_progress
from dglab.presets import PRESETS
from dglab.training import TrainingConfig, cross_entropy, train, trainer
from dglab.training.checkpoints import load_checkpoint, read_config, save_checkpoint
from dglab.training.execution import prepare
from dglab.training.gmp import gmp_backward
from dglab.training.log import LOG, TENSORBOARD, read_log, show
from dglab.training.methods import METHODS, modalities_of, to_device
from dglab.training.state import CHECKPOINT, STATE
from dglab.utils.errors import InputError
from dglab.utils.files import written_whole
from dglab.utils.seeds import derive_seed

STEPS = 4
CONFIG = dataclasses.replace(PRESETS["tiny"].training, method="mldg", sources=("G", "S", "I"), steps=STEPS)


@functools.cache
def domains(modalities=()):
    return streets_domains(32, 64, train_images=3, val_images=1, modalities=modalities)


def run(folder, config=CONFIG, **options):
    return train(config, domains(modalities_of(config)), folder, progress=False, **options)


def log(folder):
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run(folder)
    return folder


@pytest.fixture
def checkpoint(finished, tmp_path):
    """A copy, to be damaged."""
    path = tmp_path / CHECKPOINT
    path.write_bytes((finished / CHECKPOINT).read_bytes())
    return path


def interrupt_at(monkeypatch, step):
    original = trainer.training_step

    def failing(model, batch, config, number):
        if number == step:
            raise KeyboardInterrupt
        return original(model, batch, config, number)

    monkeypatch.setattr(trainer, "training_step", failing)


def same_run(folder, other):
    assert (folder / CHECKPOINT).read_bytes() == (other / CHECKPOINT).read_bytes()
    assert (folder / LOG).read_bytes() == (other / LOG).read_bytes()


# ------------------------------------------------------------------------------------- the same bits, always


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_repeats_bit_for_bit_in_any_number_of_workers(finished, tmp_path, workers):
    torch.manual_seed(workers + 1)  # whatever the global state, and it stays
    before = torch.get_rng_state()
    path = run(tmp_path, workers=workers)
    assert torch.equal(torch.get_rng_state(), before)
    assert path == tmp_path / CHECKPOINT and names(tmp_path) == names(finished) == [CHECKPOINT, LOG]
    same_run(tmp_path, finished)


def test_training_moves_the_weights_and_another_seed_moves_them_elsewhere(finished, tmp_path):
    trained, _ = load_checkpoint(finished / CHECKPOINT)
    start = build_model("thin", trainer.derive_seed("weights", CONFIG.seed))
    assert not torch.equal(trained.layer1.conv1.weight, start.layer1.conv1.weight)
    other, _ = load_checkpoint(run(tmp_path, dataclasses.replace(CONFIG, seed=1)))
    assert not torch.equal(trained.layer1.conv1.weight, other.layer1.conv1.weight)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("step", range(STEPS))
def test_an_interrupted_run_goes_on_with_the_same_bits(finished, tmp_path, monkeypatch, every, step):
    config = dataclasses.replace(CONFIG, checkpoint_every=every)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, step)
        run(tmp_path, config)
    assert not (tmp_path / CHECKPOINT).exists()
    saved = step - step % every  # at most one interval is lost
    assert (tmp_path / STATE).exists() == (saved > 0)
    trained = []
    original = trainer.training_step
    monkeypatch.setattr(trainer, "training_step", lambda *args: trained.append(args[3]) or original(*args))
    run(tmp_path, config)
    assert trained == list(range(saved, STEPS))
    assert names(tmp_path) == [CHECKPOINT, LOG]
    # The interval is part of the settings, so the metadata differ; weights and log must not.
    for name, tensor in safetensors.torch.load_file(tmp_path / CHECKPOINT).items():
        assert torch.equal(tensor, safetensors.torch.load_file(finished / CHECKPOINT)[name])
    assert (tmp_path / LOG).read_bytes() == (finished / LOG).read_bytes()


def test_two_interruptions_and_a_log_cut_in_the_middle_of_a_line(finished, tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, checkpoint_every=1)
    for step in (1, 3):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            interrupt_at(patch, step)
            run(tmp_path, config)
    with open(tmp_path / LOG, "a") as file:  # as a kill between log and state may leave it
        file.write('{"step": 3, "lr": 0.0')
    run(tmp_path, config)
    assert (tmp_path / LOG).read_bytes() == (finished / LOG).read_bytes()


EVERY_STEP_SAVED = """
import dataclasses, os, signal, time
from dglab.cli import main
from dglab.presets import PRESETS
from dglab.training import trainer

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs tests in the background has it ignored
tiny = PRESETS["tiny"]
PRESETS["tiny"] = dataclasses.replace(tiny, training=dataclasses.replace(tiny.training, checkpoint_every=1))
original = trainer.training_step

def training_step(model, batch, config, step):
    if str(step) == os.environ["WAITS_AT"]:
        time.sleep(600)  # the signal comes before
    return original(model, batch, config, step)

trainer.training_step = training_step
main()
"""


def start(folder, steps, waits_at=None):
    """``dglab train --resume`` as a process that saves its state after every step.

    Before step ``waits_at`` it waits to be stopped: however slow the test is beside it, it does not finish.
    """
    arguments = ["train", "--preset", "tiny", "--method", "mldg", "--task", "G+S->C", "--steps", str(steps),
                 "--device", "cpu", "--out", str(folder), "--resume"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TQDM_DISABLE": "1",
                   "WAITS_AT": str(waits_at)}  # fmt: skip
    return subprocess.Popen([sys.executable, "-c", EVERY_STEP_SAVED, *arguments], env=environment, text=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip


def version(path):
    """Changes whenever the file is written anew; None where there is none."""
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        return found.st_ino, found.st_mtime_ns


def stop(process, path, before, number):
    """Send a signal at a random moment after ``path`` is no more as ``before``; what the process left on stderr."""
    try:
        while version(path) in (None, before) and process.poll() is None:
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.1))
    finally:
        process.send_signal(number)
        _, stderr = process.communicate()
    return stderr


@pytest.mark.long
def test_a_killed_process_loses_nothing(tmp_path, request):
    """SIGKILL at random moments of ``dglab train``, again and again (``--kills 20``): the bytes of a whole run."""
    kills = request.config.getoption("--kills")
    steps, folder = 40 + 30 * kills, tmp_path / "killed"
    whole = start(tmp_path / "whole", steps)  # meanwhile
    for kill in range(1, kills + 1):
        # the log is written anew when a run begins or goes on, the state after every step
        path = folder / random.choice([LOG, STATE])
        before = version(path)
        process = start(folder, steps, waits_at=30 * kill)
        stderr = stop(process, path, before, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, stderr
        assert not (folder / CHECKPOINT).exists()
    for process in (start(folder, steps), whole):
        _, stderr = process.communicate()
        assert process.returncode == 0, stderr
    same_run(folder, tmp_path / "whole")
    whole_files = {CHECKPOINT, LOG, TENSORBOARD, "reference.safetensors"}
    assert len(log(folder)) == steps and set(names(folder)) <= whole_files  # no half-written file


def test_ctrl_c_is_one_line_and_leaves_nothing_half_written(tmp_path):
    folder = tmp_path / "run"
    process = start(folder, steps=1000, waits_at=30)
    stderr = stop(process, folder / STATE, None, signal.SIGINT)
    assert process.returncode == 130, stderr
    *bar, line = stderr.splitlines()
    assert line == f"interrupted; --resume continues from the last saved state in {folder}"
    assert not any("Error" in text or "Interrupt" in text for text in bar)
    assert set(names(folder)) <= {LOG, STATE, TENSORBOARD}
    lines = log(folder)
    assert [line["step"] for line in lines] == list(range(len(lines)))


def test_a_half_written_file_never_bears_the_name(tmp_path):
    path = tmp_path / "sub" / "file"
    with pytest.raises(RuntimeError, match="disk"), written_whole(path) as beside:
        beside.write_text("half")
        raise RuntimeError("disk")
    assert list(path.parent.iterdir()) == []
    path.write_text("old")
    with written_whole(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and names(path.parent) == ["file"]


def test_what_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x", tmp_path):
        with pytest.raises(InputError, match=f"cannot write {path} .*choose another place"), written_whole(path) as f:
            f.write_text("new")
    with pytest.raises(InputError, match="cannot write .*file .*choose another place"):
        run(tmp_path / "file")
    assert names(tmp_path) == ["file"]


@pytest.fixture
def full_disk():
    """No file can grow beyond 100 kB: the system's own refusal, whoever writes."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(("every", "file"), [(1, STATE), (100, CHECKPOINT)])
def test_a_full_disk_is_one_message_and_leaves_no_half_written_file(tmp_path, full_disk, every, file):
    with pytest.raises(InputError, match=f"cannot write {tmp_path / file} .*room"):
        run(tmp_path, dataclasses.replace(CONFIG, checkpoint_every=every))
    assert names(tmp_path) == [LOG]


def test_a_full_disk_leaves_the_last_good_state(interrupted, finished, full_disk):
    config = dataclasses.replace(CONFIG, checkpoint_every=1)
    before = (interrupted / STATE).read_bytes()
    with pytest.raises(InputError, match=f"cannot write {interrupted / STATE} .*room"):
        run(interrupted, config)
    assert (interrupted / STATE).read_bytes() == before and names(interrupted) == [LOG, STATE]
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    run(interrupted, config)  # room was made
    assert (interrupted / LOG).read_bytes() == (finished / LOG).read_bytes()


# --------------------------------------------------------------------------- processes that load data, and fail


class Failing(torch.utils.data.Dataset):
    """Its images cannot be had, in a way of one's choice."""

    letter, stems = "G", ["a"]

    def __init__(self, fail):
        self.fail = fail

    def __len__(self):
        return 1

    def __getitem__(self, index):
        self.fail()


def bad_file():
    raise InputError("G/train/labels/a.png: has the value 77")


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        (functools.partial(os._exit, 1), r"^a data-loading process has died \(DataLoader worker .*fewer such proc"),
        (bad_file, r"^G/train/labels/a.png: has the value 77$"),
    ],
)
def test_what_fails_in_a_process_that_loads_data_is_one_message(tmp_path, fail, message, monkeypatch):
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)  # that torch waits for it in the end
    config = dataclasses.replace(CONFIG, method="agg", sources=("G",))
    failing = Domain("G", "failing", Failing(fail), Failing(fail))
    with pytest.raises(InputError, match=message):
        train(config, {"G": failing}, tmp_path, progress=False, workers=1)
    gc.collect()  # the end, for what torch keeps in cycles
    assert names(tmp_path) == [LOG]


def test_the_processes_that_load_data_are_started_once(tmp_path, monkeypatch):
    started, original = [], DataLoader.__iter__
    monkeypatch.setattr(DataLoader, "__iter__", lambda self: started.append(self) or original(self))
    run(tmp_path)
    assert len(started) == 1


# ------------------------------------------------------------------------------------------------- to watch a run


def test_every_step_can_be_watched(tmp_path, finished):
    seen = []
    run(tmp_path, on_log=seen.append)
    assert seen == log(tmp_path) == log(finished)


def test_the_bar_shows_losses_learning_rate_and_speed():
    bar = tqdm(total=4, file=io.StringIO(), mininterval=0)
    now = bar.start_t = bar.last_print_t = 0.0
    bar._time = lambda: now
    for step in range(3):
        now += 0.5
        bar.update()
        show(bar, {"step": step, "lr": 0.02, "ds": 1.5, "dg": None, "total": 1.5}, images=6)
    bar.refresh()
    text = bar.fp.getvalue()
    assert "3/4" in text and "ds=1.500, lr=2.0e-02, images/s=" in text and "dg" not in text
    assert re.findall(r"images/s=([\d.]+)", text)[-1] == "12.0"  # 6 images in half a second
    bar.close()


def test_the_log_is_on_disk_after_every_step_and_readable_at_any_time(tmp_path):
    found = []

    def look(line):
        with open(tmp_path / LOG, "a") as file:
            file.write('{"step": 9')  # as if caught in the act
        found.append(read_log(tmp_path))
        text = (tmp_path / LOG).read_text()
        (tmp_path / LOG).write_text(text.removesuffix('{"step": 9'))

    run(tmp_path, dataclasses.replace(CONFIG, method="agg"), on_log=look)
    assert [len(frame) for frame in found] == [1, 2, 3, 4]
    assert found[-1]["step"].tolist() == [0, 1, 2, 3] and found[-1]["dg"].isna().all()
    assert found[-1]["total"].tolist() == [line["total"] for line in log(tmp_path)]
    (tmp_path / LOG).write_text("")
    assert read_log(tmp_path).empty


def test_tensorboard_shows_each_step_once_after_a_resumption(tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = dataclasses.replace(CONFIG, checkpoint_every=2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, 3)  # step 2 is recorded, and then trained again
        run(tmp_path, config, tensorboard=True)
    time.sleep(1.1)  # TensorBoard orders its files by the second in their names
    run(tmp_path, config, tensorboard=True)
    events = accumulator.EventAccumulator(str(tmp_path / TENSORBOARD)).Reload()
    assert sorted(events.Tags()["scalars"]) == ["dg", "ds", "lr", "total"]
    for name in ("ds", "lr"):
        scalars = events.Scalars(name)
        assert [scalar.step for scalar in scalars] == list(range(STEPS))
        assert [scalar.value for scalar in scalars] == pytest.approx([line[name] for line in log(tmp_path)])


def test_a_full_disk_is_one_message_with_tensorboard_too(tmp_path, full_disk):
    pytest.importorskip("tensorboard")
    with pytest.raises(InputError, match=f"cannot write {tmp_path / STATE} .*room"):
        run(tmp_path, dataclasses.replace(CONFIG, checkpoint_every=1), tensorboard=True)


def test_losses_are_drawn_while_a_run_trains(finished):
    from dglab.report import figures
    from dglab.teaching import widgets

    log_so_far = read_log(finished)
    left, right = figures.training_curve(log_so_far, window=2, steps=10).axes
    raw, smooth = left.lines[:2]
    assert raw.get_ydata().tolist() == log_so_far["ds"].tolist() and left.get_xlim() == (0, 10)
    assert smooth.get_ydata()[1:].tolist() == pytest.approx(log_so_far["ds"].rolling(2).mean()[1:].tolist())
    assert [text.get_text() for text in left.get_legend().texts] == ["$L_{ds}$", "$L_{dg}$"]
    assert right.lines[0].get_ydata().tolist() == log_so_far["lr"].tolist()

    screen, on_log = widgets.live_losses(STEPS, every=1000)
    pictures = []
    for line in log(finished):
        on_log(line)
        pictures.append(bytes(screen.value))
    assert pictures[0].startswith(b"\x89PNG") and pictures[0] == pictures[1] == pictures[2] != pictures[3]


# ------------------------------------------------------------------------------------------- how a step is executed


def model_and_batch(config):
    """A new network in training mode and the first batch; in float64, where only a mistake makes a difference."""
    images, labels = to_device(trainer.training_batches(config, domains(), seed=0, steps=1)[0], torch.device("cpu"))
    dtype = torch.float64 if config.precision == "32" else torch.float32  # autocast leaves float64 alone
    return build_model("thin", seed=0).to(dtype).train(), (images.to(dtype), labels)


def one_step(method, **change):
    """Losses, gradients and buffers of one step, and the step itself."""
    config = dataclasses.replace(CONFIG, method=method, sources=("G", "S"), batch_per_domain=2, **change)
    model, batch = model_and_batch(config)
    model = prepare(model, config)

    def step():
        torch.manual_seed(3)
        return METHODS[method](model, cross_entropy, batch, config, torch.Generator().manual_seed(1))

    losses = step()
    return losses, [p.grad.clone() for p in model.parameters()], {n: b.clone() for n, b in model.named_buffers()}, step


@pytest.mark.parametrize(
    "change",
    [
        {"method": "agg"}, {"method": "split", "micro_batches": 2}, {"method": "mldg"},
        {"method": "mldg", "order": 2}, {"method": "mldg", "order": 2, "running_stats": "none"},
        {"method": "mldg", "order": 2, "running_stats": "both", "micro_batches": 2},
        {"method": "mldg", "order": 2, "precision": "bf16"},
    ],
    ids=lambda change: " ".join(map(str, change.values())),
)  # fmt: skip
def test_recomputed_activations_change_nothing_but_memory(change):
    plain, again = one_step(**change), one_step(**change, activation_checkpointing=True)
    assert again[0] == pytest.approx(plain[0], nan_ok=True)
    assert all(torch.equal(a, b) for a, b in zip(again[1], plain[1], strict=True))
    assert all(torch.equal(again[2][name], buffer) for name, buffer in plain[2].items())  # moved once
    if change == {"method": "agg"}:
        assert peak_memory(again[3], "cpu") < 0.9 * peak_memory(plain[3], "cpu")


def test_a_run_with_recomputed_activations_ends_with_the_same_weights(finished, tmp_path):
    run(tmp_path, dataclasses.replace(CONFIG, activation_checkpointing=True))
    tensors = [safetensors.torch.load_file(folder / CHECKPOINT) for folder in (tmp_path, finished)]
    assert all(torch.equal(tensors[0][name], tensor) for name, tensor in tensors[1].items())


def test_channels_last_changes_the_layout_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, x: x)  # it draws in the order of the layout
    plain, other = one_step("mldg", order=2), one_step("mldg", order=2, channels_last=True)
    for a, b in zip(other[1], plain[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)
    model = prepare(build_model("thin", seed=0), dataclasses.replace(CONFIG, channels_last=True))
    assert model.layer1(model.stem(torch.rand(2, 3, 32, 32))).is_contiguous(memory_format=torch.channels_last)
    config = dataclasses.replace(CONFIG, channels_last=True, checkpoint_every=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, 2)
        run(tmp_path / "resumed", config)
    run(tmp_path / "resumed", config)
    run(tmp_path / "whole", config)
    same_run(tmp_path / "resumed", tmp_path / "whole")


def test_a_compiled_network_trains_alike(monkeypatch):
    """With torch's tracer and without its code generator, which takes a minute."""
    compiled = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled(self, backend="aot_eager"))
    for change in ({"method": "agg"}, {"method": "mldg", "inner_lr": 0.5}):
        plain, other = one_step(**change), one_step(**change, compile=True)
        assert other[0] == pytest.approx(plain[0], nan_ok=True)
        for a, b in zip(other[1], plain[1], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)
        for name, buffer in plain[2].items():
            torch.testing.assert_close(other[2][name], buffer)


def test_a_network_differentiated_twice_goes_on_uncompiled(monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: pytest.fail("compiled"))
    with pytest.warns(UserWarning, match="cannot be differentiated twice; order 2 trains it uncompiled"):
        one_step("mldg", order=2, compile=True)


def test_the_command_line_sets_how_a_step_is_executed(tmp_path, monkeypatch):
    from dglab import cli

    arguments = [
        "train",
        "--preset",
        "tiny",
        "--method",
        "agg",
        "--task",
        "G+S->C",
        "--device",
        "cpu",
        "--steps",
        "1",
        "--batch-per-domain",
        "2",
        "--micro-batches",
        "2",
        "--activation-checkpointing",
        "--channels-last",
        "--workers",
        "1",
    ]
    monkeypatch.setattr(sys, "argv", ["dglab", *arguments, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 0
    config = read_config(tmp_path / CHECKPOINT)
    assert (config.micro_batches, config.activation_checkpointing, config.channels_last, config.processes) == (
        2,
        True,
        True,
        1,
    )
    assert not config.compile and config.batchnorm == "process"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": 2}, "cannot be differentiated twice, which order 2 does; use 'process'"),
        ({}, "needs CUDA, the device is cpu; use 'process'"),
    ],
)
def test_synchronized_batchnorm_is_refused_with_the_reason(tmp_path, change, message):
    config = dataclasses.replace(CONFIG, batchnorm="synchronized", **change)
    with pytest.raises(InputError, match=message):
        run(tmp_path / "new", config)
    assert not (tmp_path / "new").exists()


# ------------------------------------------------------------------------------ finished and foreign folders


def test_a_finished_run_is_returned_untouched(finished, monkeypatch):
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in finished.iterdir()}
    monkeypatch.setattr(trainer, "training_step", lambda *_: pytest.fail("trained again"))
    assert run(finished) == finished / CHECKPOINT
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in finished.iterdir()} == before


def test_a_finished_run_with_other_settings_is_refused(finished):
    other = dataclasses.replace(CONFIG, lr=0.5, seed=3)
    with pytest.raises(InputError, match=rf"seed \(0 and 3\), lr \({CONFIG.lr} and 0.5\).*another folder"):
        run(finished, other)


def test_an_interrupted_run_with_other_settings_is_refused_and_kept(tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, checkpoint_every=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, 2)
        run(tmp_path, config)
    before = (tmp_path / STATE).read_bytes(), (tmp_path / LOG).read_bytes()
    with pytest.raises(InputError, match=r"method \(mldg and agg\)"):
        run(tmp_path, dataclasses.replace(config, method="agg"))
    assert ((tmp_path / STATE).read_bytes(), (tmp_path / LOG).read_bytes()) == before


def test_settings_survive_the_file_and_name_the_run(finished):
    assert read_config(finished / CHECKPOINT) == CONFIG
    assert TrainingConfig.from_json(CONFIG.to_json()) == CONFIG
    addresses = {CONFIG.address}
    for change in ({"seed": 1}, {"inner_lr": 0.0}, {"sources": ("S", "G", "I")}, {"data": "other"}, {"order": 2}):
        addresses.add(dataclasses.replace(CONFIG, **change).address)
    assert len(addresses) == 6 and CONFIG.address.startswith("mldg_G+S+I_seed0_")
    # Written down once: a setting that is added with a default must not move the runs that people have.
    assert (
        TrainingConfig(method="mldg", sources=("G", "S"), seed=3, lr=0.1, crop=(96, 96)).address
        == "mldg_G+S_seed3_63c5298761"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0; expected 1 or more"),
        ({"batch_per_domain": 0}, "batch_per_domain is 0"),
        ({"checkpoint_every": -1}, "checkpoint_every is -1"),
        ({"lr": -0.1}, "lr is -0.1; expected a finite number of 0 or more"),
        ({"inner_lr": float("nan")}, "inner_lr is nan"),
        ({"alpha": float("inf")}, "alpha is inf"),
        ({"precision": "16"}, "precision is '16'; expected one of 32, bf16"),
        ({"crop": (0, 5)}, "crop is (0, 5); expected height and width, each 3 or more"),
        ({"crop": (5,)}, "crop is (5,)"),
        ({"scale": (2.0, 0.5)}, "scale is (2.0, 0.5); expected the smallest and the largest factor"),
        ({"scale": (0.0, 1.0)}, "scale is (0.0, 1.0)"),
        ({"blur": 7}, "blur is 7; expected a number from 0 to 1"),
        ({"momentum": float("nan")}, "momentum is nan; expected a number from 0 to 1"),
        ({"power": -1.0}, "power is -1.0; expected a finite number of 0 or more"),
        ({"processes": 0}, "processes is 0; expected 1 or more"),
        ({"micro_batches": 0}, "micro_batches is 0; expected 1 or more"),
        ({"micro_batches": 2}, "batch_per_domain is 1; expected a multiple of 2"),
        ({"batchnorm": "global"}, "batchnorm is 'global'; expected one of process, synchronized"),
        (
            {"compile": True, "activation_checkpointing": True},
            "compile is True; expected False together with activation_check",
        ),
        ({"sources": ("G", "G")}, "sources is ('G', 'G'); expected each domain once"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(InputError) as caught:
        dataclasses.replace(CONFIG, **change)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"method": "adam"},
            "unknown training method 'adam'.*agg, agg2, by_domain, by_domain2, split, mldg, mldg_mean",
        ),
        ({"sources": ("G", "X")}, "unknown source domain 'X'.*G, S, I, M, C"),
        ({"sources": ()}, "no source domain"),
        ({"sources": ("G",)}, "need two or more, got 1"),
        ({"sources": ("G",), "method": "mldg_mean"}, "need two or more, got 1"),
        ({"sources": ("G",), "method": "split"}, "need two or more, got 1"),
        ({"split": "2:2"}, "the split is '2:2'.*3 source domains"),
        ({"order": 3}, "order is 3; expected 1"),
        ({"running_stats": "all"}, "running_stats is 'all'; expected one of meta_train, both, none"),
        ({"backbone": "vgg"}, "unknown backbone 'vgg'; the backbones are thin"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        run(tmp_path / "new", dataclasses.replace(CONFIG, **change))
    assert not (tmp_path / "new").exists()


# --------------------------------------------------------------------------------------------- damaged files


class Code:
    """Unpickled, it would write a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, 2)
        run(tmp_path, dataclasses.replace(CONFIG, checkpoint_every=1))
    return tmp_path


def refuses_to_resume(folder):
    with pytest.raises(InputError, match=f"cannot resume from .*{STATE} .*remove it to start this run again"):
        run(folder, dataclasses.replace(CONFIG, checkpoint_every=1))
    assert not (folder / CHECKPOINT).exists()


def test_a_truncated_state_is_refused_and_its_remedy_works(interrupted, finished):
    whole = (interrupted / STATE).read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        (interrupted / STATE).write_bytes(whole[:size])
        refuses_to_resume(interrupted)
    (interrupted / STATE).unlink()
    run(interrupted, dataclasses.replace(CONFIG, checkpoint_every=1))
    assert (interrupted / LOG).read_bytes() == (finished / LOG).read_bytes()


def test_a_log_that_lost_lines_is_told_of_and_the_training_goes_on(interrupted, finished):
    log = interrupted / LOG
    log.write_text("".join(log.read_text().splitlines(keepends=True)[1:]))
    with pytest.warns(UserWarning, match=f"{LOG} has 1 lines of the 2 steps until .*{STATE}; the training continues"):
        run(interrupted, dataclasses.replace(CONFIG, checkpoint_every=1))
    assert [line["step"] for line in map(json.loads, log.read_text().splitlines())] == [1, 2, 3]
    weights = [safetensors.torch.load_file(folder / CHECKPOINT) for folder in (interrupted, finished)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_a_state_with_code_in_it_is_refused_and_the_code_does_not_run(interrupted):
    trace = interrupted / "executed"
    torch.save({"config": "", "step": Code(trace)}, interrupted / STATE)
    with pytest.raises(InputError, match="Python objects other than tensors and numbers"):
        run(interrupted, dataclasses.replace(CONFIG, checkpoint_every=1))
    refuses_to_resume(interrupted)
    (interrupted / STATE).write_bytes(pickle.dumps(Code(trace), protocol=2))
    refuses_to_resume(interrupted)
    assert not trace.exists()
    pickle.loads((interrupted / STATE).read_bytes())  # it would have
    assert trace.exists()


RESUMED = dataclasses.replace(CONFIG, checkpoint_every=1).to_json()


@pytest.mark.parametrize(
    "state",
    [
        {"step": 3}, [1, 2], {"config": "no json"}, {"config": '{"colour": 1}'}, {"config": "[1]"},
        {"config": RESUMED}, {"config": RESUMED, "step": 1, "model": {}, "optimizer": {}, "schedule": {}},
        {"config": RESUMED, "step": 1, "model": 3, "optimizer": 3, "schedule": 3},
    ],
)  # fmt: skip
def test_a_foreign_state_is_refused(interrupted, state):
    torch.save(state, interrupted / STATE)
    refuses_to_resume(interrupted)


def test_a_truncated_checkpoint_is_refused(checkpoint):
    whole = checkpoint.read_bytes()
    for size in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        checkpoint.write_bytes(whole[:size])
        with pytest.raises(InputError, match="not a readable safetensors file"):
            load_checkpoint(checkpoint)


def test_a_pickle_called_safetensors_is_refused_and_does_not_run(tmp_path):
    path, trace = tmp_path / CHECKPOINT, tmp_path / "executed"
    buffer = io.BytesIO()
    torch.save(Code(trace), buffer)
    for content in (pickle.dumps(Code(trace)), buffer.getvalue(), b"text", bytes(100)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="last.safetensors"):
            load_checkpoint(path)
    assert not trace.exists()


def test_the_weights_of_another_model_are_refused(finished, tmp_path):
    path = tmp_path / CHECKPOINT
    config = CONFIG.to_json()
    tensors = safetensors.torch.load_file(finished / CHECKPOINT)

    def refused(tensors, metadata, message):
        safetensors.torch.save_file(tensors, path, metadata=metadata)
        with pytest.raises(InputError, match=message):
            load_checkpoint(path)

    other_shape = {**tensors, "stem.0.weight": torch.zeros(8, 3, 3, 3)}
    fewer = {name: tensor for name, tensor in tensors.items() if not name.startswith("head")}
    refused(other_shape, {"config": config}, "weights of another model than 'thin': stem.0.weight")
    refused(fewer, {"config": config}, "weights of another model than 'thin'")
    refused({**tensors, "extra": torch.ones(1)}, {"config": config}, "weights of another model than 'thin': extra")
    refused(tensors, {"config": config.replace('"thin"', '"resnet18"')}, "weights of another model than 'resnet18'")
    refused(tensors, {"config": config.replace('"thin"', '"vgg"')}, "unknown backbone 'vgg'")
    refused(tensors, {"config": '{"colour": 1}'}, "does not carry the configuration")
    refused(tensors, {"config": "{"}, "does not carry the configuration")
    refused(tensors, {"config": "[1]"}, "does not carry the configuration")
    refused(tensors, None, "does not carry the configuration")


def test_a_missing_checkpoint_is_named(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(InputError, match=f"no checkpoint at {path}"):
            load_checkpoint(path)


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    model = build_model("thin", seed=3).train()
    model(torch.rand(2, 3, 32, 32))  # moves the running statistics
    save_checkpoint(tmp_path / CHECKPOINT, model, CONFIG)
    loaded, config = load_checkpoint(str(tmp_path / CHECKPOINT))
    assert config == CONFIG and not any(module.training for module in loaded.modules())
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


# --------------------------------------------------------------------------------------- divergence, schedule


def test_a_learning_rate_that_explodes_stops_with_the_step_named(tmp_path):
    config = dataclasses.replace(CONFIG, method="agg", lr=1e30)
    with pytest.raises(InputError, match=r"loss is (nan|inf) at step [123];.* less than lr = 1e\+30, .*No state was"):
        run(tmp_path, config)
    assert not (tmp_path / CHECKPOINT).exists()
    assert all(line["total"] is not None for line in log(tmp_path))


@pytest.mark.parametrize(("lr", "steps"), [(1e30, 4), (1e38, 1), (3e38, 1)])
def test_weights_that_explode_are_neither_a_state_nor_a_result(tmp_path, lr, steps):
    """The loss of a step is that of the weights before it: it says nothing about what would be saved."""
    config = dataclasses.replace(CONFIG, lr=lr, steps=steps, checkpoint_every=1)
    with pytest.raises(InputError, match="far too large after step 0; .* or inner_lr = 0.02, in another"):
        run(tmp_path, config)
    assert names(tmp_path) == [LOG]


def test_a_step_that_diverges_names_its_images_and_is_not_written(tmp_path, monkeypatch):
    """A gradient can leave all bounds before the loss does."""
    original = trainer.training_step

    def overflowing(model, batch, config, step):
        losses = original(model, batch, config, step)
        if step == 3:
            model.head[0].weight.grad[0, 0] = float("inf")
        return losses

    monkeypatch.setattr(trainer, "training_step", overflowing)
    config = dataclasses.replace(CONFIG, checkpoint_every=2)
    with pytest.raises(InputError) as caught:
        run(tmp_path, config)
    batches = trainer.training_batches(config, domains(), seed=config.seed, steps=STEPS)
    first, *images = str(caught.value).splitlines()
    assert "the gradient is inf at step 3" in first and f"The last saved state is {tmp_path / STATE}" in first
    assert [image.strip() for image in images] == batches.images_of(3) and len(images) == 3
    assert images[1].startswith("  S_train_000")
    assert [line["step"] for line in log(tmp_path)] == [0, 1, 2]
    state = torch.load(tmp_path / STATE, weights_only=True)
    assert state["step"] == 2 and all(torch.isfinite(tensor).all() for tensor in state["model"].values())


def test_images_without_a_label_train_nothing_and_stop_nothing(tmp_path):
    class Unlabelled(torch.utils.data.Dataset):
        letter, stems = "G", ["a", "b"]

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return torch.zeros(3, 40, 80, dtype=torch.uint8), torch.full((40, 80), 255, dtype=torch.uint8)

    blank = Domain("G", "blank", Unlabelled(), Unlabelled())
    for sources, totals in ((("G",), [0, 0]), (("G", "S"), None)):
        config = dataclasses.replace(CONFIG, method="agg", sources=sources, steps=2)
        warns = pytest.warns(UserWarning, match="without a labelled pixel.*labels of G")
        with warns if totals else contextlib.nullcontext():
            train(config, {**domains(), "G": blank}, tmp_path / str(len(sources)), progress=False)
        lines = log(tmp_path / str(len(sources)))
        assert [line["total"] for line in lines] == totals if totals else all(line["total"] > 0 for line in lines)


def test_the_last_saved_state_is_named(tmp_path, monkeypatch):
    original = trainer.training_step
    nan = trainer.Losses(float("nan"), float("nan"), float("nan"))
    monkeypatch.setattr(trainer, "training_step", lambda *args: nan if args[3] == 2 else original(*args))
    with pytest.raises(InputError, match=f"loss is nan at step 2; .*The last saved state is {tmp_path / STATE}"):
        run(tmp_path, dataclasses.replace(CONFIG, checkpoint_every=1))
    assert all(torch.isfinite(t).all() for t in torch.load(tmp_path / STATE, weights_only=True)["model"].values())


def test_the_learning_rate_follows_the_poly_schedule(tmp_path):
    config = dataclasses.replace(CONFIG, method="agg", steps=6, lr=0.3, power=0.7)
    run(tmp_path, config)
    lines = log(tmp_path)
    assert [line["step"] for line in lines] == list(range(6))
    for line in lines:
        assert line["lr"] == pytest.approx(0.3 * (1 - line["step"] / 6) ** 0.7, rel=1e-6)


def test_one_step_by_hand(tmp_path):
    """The first step of AGG: cross-entropy of the first batch, SGD with weight decay, no momentum yet."""
    config = dataclasses.replace(CONFIG, method="agg", steps=1, lr=0.2, weight_decay=0.01)
    trained, _ = load_checkpoint(run(tmp_path, config))
    model = build_model("thin", trainer.derive_seed("weights", config.seed)).train()
    images, labels = trainer.training_batches(config, domains(), seed=config.seed, steps=1)[0]
    torch.manual_seed(trainer.derive_seed("dropout", config.seed, 0))
    logits = model(images.flatten(0, 1).float() / 255)
    loss = torch.nn.functional.cross_entropy(logits, labels.flatten(0, 1).long(), ignore_index=255)
    loss.backward()
    assert log(tmp_path)[0] == {"step": 0, "lr": 0.2, "ds": pytest.approx(loss.item(), rel=1e-5), "dg": None,
                                "total": pytest.approx(loss.item(), rel=1e-5)}  # fmt: skip
    for (name, p), q in zip(model.named_parameters(), trained.parameters(), strict=True):
        expected = p - 0.2 * (p.grad + 0.01 * p)
        torch.testing.assert_close(q, expected, rtol=1e-4, atol=1e-6, msg=name)
    for p, q in zip(model.buffers(), trained.buffers(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


# --------------------------------------------------------------------------------------------------- methods


@pytest.mark.parametrize(
    "change",
    [{"method": name} for name in METHODS]
    + [{"method": "mldg", "inner_lr": 0.0}, {"method": "mldg", "order": 2}, {"method": "mldg", "split": "random"}]
    + [{"method": "gmp", "precision": "bf16", "channels_last": True}, {"method": "gmp", "micro_batches": 2}],
    ids=lambda change: " ".join(map(str, change.values())),
)
def test_every_method_trains(tmp_path, change):
    config = dataclasses.replace(CONFIG, steps=2, batch_per_domain=2, **change)
    model, found = load_checkpoint(run(tmp_path, config))
    assert found == config and all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    two_terms = config.method in ("split", "mldg", "mldg_mean", "projected", "gmp")
    for line in log(tmp_path):
        ds, dg, total = line["ds"], line["dg"], line["total"]
        assert 0 < ds < 20 and (dg is not None) == two_terms
        weight = {"agg2": 2, "by_domain2": 2, "mldg_mean": 0.5}.get(config.method, 1)
        assert total == pytest.approx(weight * (ds + (dg or 0)))


GMP = dataclasses.replace(CONFIG, method="gmp")


def test_gmp_is_refused_domains_of_images(tmp_path):
    with pytest.raises(InputError, match="the domain G has plain images, the run trains on rgb, depth; open the"):
        train(GMP, domains(), tmp_path / "new", progress=False)
    with pytest.raises(InputError, match="the domain G has rgb, depth, the run trains on depth, rgb"):
        config = dataclasses.replace(GMP, modalities=("depth", "rgb"))
        train(config, domains(("rgb", "depth")), tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()


def test_gmp_trains_alike_in_any_number_of_workers(tmp_path):
    paths = [run(tmp_path / str(workers), GMP, workers=workers) for workers in (0, 2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_gradient_reversal_grows_over_the_training(tmp_path, monkeypatch):
    progress = []
    original = METHODS["gmp"]

    def looking(model, *args):
        progress.extend(m.progress for m in model.modules() if isinstance(m, GradientReversal))
        return original(model, *args)

    monkeypatch.setitem(METHODS, "gmp", looking)
    run(tmp_path, GMP)
    assert progress == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]  # two modalities, four steps


def test_a_step_of_gmp_is_that_of_the_method(tmp_path):
    """By hand: the network, the batch, the gradient, SGD."""
    config = dataclasses.replace(GMP, steps=1, alpha_k=0.3, alpha_p=0.8)
    trained, _ = load_checkpoint(run(tmp_path, config))
    model = build_multimodal(("rgb", "depth"), 3, derive_seed("weights", 0)).train()
    set_progress(model, 0.0)
    images, labels, drawn = trainer.training_batches(config, domains(("rgb", "depth")), seed=0, steps=1)[0]
    batch = {m: x.flatten(0, 1) / 255 for m, x in images.items()}, labels.flatten(0, 1).long(), drawn.flatten()
    torch.manual_seed(derive_seed("dropout", 0, 0))
    gmp_backward(model, cross_entropy, batch, alpha_k=0.3, alpha_p=0.8)
    torch.optim.SGD(model.parameters(), config.lr, momentum=0.9, weight_decay=config.weight_decay).step()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], tensor)


def test_gmp_warns_of_batches_without_a_label(tmp_path):
    unlabelled = copy.deepcopy(domains(("rgb", "depth")))
    for domain in unlabelled.values():
        for index in range(len(domain.train)):
            images, label, letter = domain.train[index]
            domain.train._items[index] = images, torch.full_like(label, 255), letter
    with pytest.warns(UserWarning, match="batches without a labelled pixel"):
        train(dataclasses.replace(GMP, steps=1), unlabelled, tmp_path, progress=False)


def test_one_source_is_enough_for_agg(tmp_path):
    assert run(tmp_path, dataclasses.replace(CONFIG, method="agg", sources=("G",), steps=1)).exists()


def test_bf16_trains_close_to_float32(tmp_path):
    losses = []
    for precision in ("32", "bf16"):
        run(tmp_path / precision, dataclasses.replace(CONFIG, method="agg", steps=1, precision=precision))
        losses.append(log(tmp_path / precision)[0]["ds"])
    assert losses[1] == pytest.approx(losses[0], rel=0.05) and losses[0] != losses[1]


def gradients(method, **change):
    """The gradient of the first step, by parameter."""
    config = dataclasses.replace(CONFIG, method=method, **change)
    model, batch = model_and_batch(config)
    torch.manual_seed(0)
    losses = METHODS[method](model, cross_entropy, batch, config, torch.Generator().manual_seed(5))
    return losses, [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize(
    ("method", "factor", "of", "change"),
    [("agg2", 2.0, "agg", {}), ("mldg_mean", 0.5, "mldg", {}), ("mldg_mean", 0.5, "mldg", {"order": 2, "alpha": 0.3})],
)
def test_controls_of_the_step_length(method, factor, of, change):
    losses, controlled = gradients(method, **change)
    plain_losses, plain = gradients(of, **change)
    assert losses.total == pytest.approx(factor * plain_losses.total)
    for one, other in zip(controlled, plain, strict=True):
        torch.testing.assert_close(one, factor * other, rtol=1e-8, atol=1e-12)
    assert max(gradient.abs().max() for gradient in plain) > 1e-3


def test_the_inner_step_makes_mldg_differ_from_its_control():
    _, with_step = gradients("mldg", inner_lr=0.1)
    _, without = gradients("mldg", inner_lr=0.0)
    assert not torch.allclose(with_step[0], without[0], rtol=1e-3)


def test_batches_hold_every_source_in_the_order_of_the_task():
    batches = trainer.training_batches(CONFIG, domains(), seed=0, steps=2)
    assert isinstance(batches, MultiDomainBatches) and [d.letter for d in batches.domains] == ["G", "S", "I"]
    images, labels = batches[0]
    assert images.shape == (CONFIG.batch_per_domain, 3, 3, *CONFIG.crop) and labels.shape == images[:, :, 0].shape
    floats, integers = to_device((images, labels), torch.device("cpu"))
    assert floats.max() <= 1 and floats.dtype == torch.float32 and integers.dtype == torch.int64
