"""What no command line and no file on it may do: be accepted though it means nothing, hang, or end in a traceback."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors import safe_open
from safetensors.torch import save_file

from dglab.experiments.table import COLUMNS
from dglab.training.state import STATE
from dglab.utils.files import locked
from dglab.utils.machine import memory_bytes

TRAIN = ("train", "--preset", "tiny", "--device", "cpu", "--method", "agg", "--task", "G->C")
DIGITS = "9" * 5000  # more than Python turns into a number


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--lr", "1e308"), ["lr is 1e+308", "up to 3.4e+38"]),
        (("--lr", "inf"), ["lr is inf"]),
        (("--crop", "900000x900000"), ["GiB at the least, and this machine has", "smaller"]),
        (("--crop", f"{DIGITS}x9"), ["HxW"]),
        (("--batch-per-domain", "10000000000"), ["10000000000 images of 1 domain", "GiB at the least"]),
        (("--steps", "1" + 30 * "0"), ["steps is 1", "or fewer"]),
        (("--workers", "1000000"), ["--workers"]),
        (("--weights", ""), ["nothing is given after --weights"]),
        (("--weights", "/proc/self"), ["no weights at"]),
        (("--weights", "/proc/kmsg"), ["/proc/kmsg"]),
        (("--data", "/proc"), ["/proc"]),
        (("--data", "/dev/null"), ["no such folder"]),
        (("--data", ""), ["nothing is given after --data"]),
        (("--out=",), ["nothing is given after"]),
        (("--data", os.fsdecode(b"caf\xe9")), ["not UTF-8", r"caf\xe9"]),
    ],
)
def test_train_refuses_what_cannot_be_done(tmp_path, capsys, call, options, words):
    assert call(*TRAIN, "--out", tmp_path / "new", *options) == 2
    stderr = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "Traceback" not in stderr
    assert all(word in stderr for word in words), stderr
    assert not (tmp_path / "new").exists()


def test_mldg_refuses_a_split_of_too_many_digits(tmp_path, refused):
    arguments = [*TRAIN, "--method", "mldg", "--task", "G+S->C", "--split", f"{DIGITS}:1", "--out", tmp_path / "new"]
    refused(arguments, "expected 'half', 'random', or n:m")


def test_the_largest_learning_rate_that_is_a_number_diverges_by_name(tmp_path, refused):
    refused([*TRAIN, "--lr", "3e38", "--out", tmp_path / "new"], "diverged", "learning rate is likely too high")


def test_an_out_that_is_empty_is_not_the_present_folder(tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    refused([*TRAIN, "--out", ""], "nothing is given after --out")
    assert list(tmp_path.iterdir()) == []


def test_a_run_below_proc_is_refused(refused):
    refused([*TRAIN, "--out", "/proc/new"], "cannot write /proc/new")


@pytest.mark.parametrize("command", [TRAIN, ("reproduce", "--preset", "tiny", "--device", "cpu")])
def test_an_out_of_too_long_a_name_is_refused_before_work_starts(tmp_path, monkeypatch, refused, command):
    """Also where it is named relative to a folder that can be written."""
    monkeypatch.chdir(tmp_path)
    for out in ("x" * 300, tmp_path / ("x" * 300) / "below"):
        refused([*command, "--out", out], "cannot write", "too long")


@pytest.mark.parametrize("command", ["evaluate", "predict"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--method", "qib", "--style-layer", "2"), ["--style-layer does not belong to --method qib"]),
        (("--method", "sib", "--neighbors", "9", "--capacity", "8"), ["--neighbors is 9 and --capacity 8"]),
        (("--method", "qib", "--neighbors", "200"), ["--neighbors is 200 and --capacity 128"]),
        (("--method", "sib", "--capacity", "1" + 15 * "0"), ["a bank of 1000000000000000 images", "GiB at the least"]),
        (("--method", "sib", "--style-layer", DIGITS), ["style_layer is '999"]),
        (("--method", "sib", "--style-layer", ""), ["nothing is given after --style-layer"]),
    ],
)
def test_settings_of_a_test_that_mean_nothing(checkpoint, images, tmp_path, refused, command, options, words):
    of_command = {"evaluate": ("--task", "G+S->C"), "predict": ("--images", images, "--out", tmp_path / "new")}
    refused([command, "--checkpoint", checkpoint, "--device", "cpu", *of_command[command], *options], *words)
    assert not (tmp_path / "new").exists()


def test_a_small_bank_takes_as_many_neighbours_as_it_keeps(checkpoint, tmp_path, dglab):
    dglab("evaluate", "--checkpoint", checkpoint, "--task", "G+S->C", "--method", "qib", "--capacity", "2", "--device",
          "cpu", "--json", tmp_path / "a.json")  # fmt: skip
    record = json.loads((tmp_path / "a.json").read_text())
    assert (record["neighbors"], record["capacity"]) == (2, 2)


@pytest.mark.parametrize("size", ["900000x900000", f"{DIGITS}x64"])
def test_bench_refuses_sizes_that_cannot_be(size, refused):
    refused(["bench", "train", "--device", "cpu", "--size", size], "size")


def test_a_machine_short_of_memory_is_no_fault_of_ours(monkeypatch, tmp_path, refused):
    from dglab.training import trainer

    errors = (
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype("u1")),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
    )
    for error in errors:

        def full(*_, error=error, **__):
            raise error

        monkeypatch.setattr(trainer, "begin", full)
        refused([*TRAIN, "--out", tmp_path / "new"], "there is not enough memory", "smaller crop")
    assert memory_bytes() > 1 << 28


# ------------------------------------------------------------------------------------------------- checkpoints


def changed(checkpoint, place, change, metadata=None):
    """A copy of a checkpoint whose tensors have gone through ``change``."""
    with safe_open(checkpoint, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = metadata or file.metadata()
    save_file(change(tensors), place, metadata)
    return place


def first(kind):
    return lambda tensors: next(name for name in tensors if kind in name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (first("weight"), lambda t: t.index_fill(0, torch.tensor([0]), float("nan"))),
        (first("weight"), lambda t: t.index_fill(0, torch.tensor([0]), float("inf"))),
        (first("weight"), lambda t: t * 1e30),
        (first("weight"), lambda t: t.int()),
        (first("weight"), lambda t: t.bool()),
        (first("running_mean"), lambda t: t + float("nan")),
        (first("running_var"), lambda t: -t),
        (first("num_batches_tracked"), lambda t: t.float()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_checkpoint_of_senseless_weights_scores_nothing(checkpoint, images, tmp_path, refused, command, name, value):
    def change(tensors):
        return {**tensors, name(tensors): value(tensors[name(tensors)]).contiguous()}

    path = changed(checkpoint, tmp_path / "bad.safetensors", change)
    of_command = {"evaluate": ("--task", "G+S->C"), "predict": ("--images", images, "--out", tmp_path / "new")}
    arguments = [command, "--checkpoint", path, "--device", "cpu", "--method", "bn", *of_command[command]]
    refused(arguments, path, "holds no weights of a network that has learned")


def test_a_checkpoint_in_half_precision_is_one(checkpoint, images, tmp_path, dglab):
    path = changed(
        checkpoint,
        tmp_path / "half.safetensors",
        lambda tensors: {n: t.bfloat16() if t.is_floating_point() else t for n, t in tensors.items()},
    )
    dglab("predict", "--checkpoint", path, "--images", images, "--method", "bn", "--out", tmp_path / "new", "--device",
          "cpu")  # fmt: skip


@pytest.mark.parametrize(
    "config",
    ["[" * 100_000, '{"a":' * 100_000, "[]", "3", '{"steps": "many"}', '{"backbone": {"a": 1}}', '{"crop": [1e400, 3]}',
     '{"crop": ["a", "b"]}', '{"sources": 5}', '{"data": {"height": 1}}', '{"seed": true}', '{"backbone": ["thin"]}',
     '{"data": {"height": "x", "width": 1, "train_images": 1, "val_images": 1}}', '{"lr": NaN}'],
)  # fmt: skip
def test_a_checkpoint_with_strange_metadata(checkpoint, tmp_path, refused, config):
    path = changed(checkpoint, tmp_path / "bad.safetensors", lambda tensors: tensors, {"config": config})
    arguments = ["evaluate", "--checkpoint", path, "--task", "G+S->C", "--method", "bn", "--device", "cpu"]
    refused(arguments, path, "does not carry the configuration of a dglab run")


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "empty", "/proc/kmsg", "/proc/self/mem", "/dev/zero"])
@pytest.mark.parametrize("option", ["--checkpoint", "--weights"])
def test_what_is_no_file_of_weights(tmp_path, refused, kind, option):
    path = tmp_path / kind if not kind.startswith("/") else kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(path)
    elif kind == "empty":
        path.touch()
    if option == "--weights":
        refused([*TRAIN, "--backbone", "resnet18", "--weights", path, "--out", tmp_path / "new"], path)
    else:
        refused(["evaluate", "--checkpoint", path, "--task", "G->C", "--method", "bn"], path)


@pytest.mark.parametrize("option", ["--checkpoint", "--weights"])
def test_weights_without_the_right_to_read_them(checkpoint, tmp_path, refused, monkeypatch, option):
    """Root may read anything, so the system's answer is played."""
    from dglab.training import checkpoints

    path = tmp_path / "mine.safetensors"
    path.write_bytes(checkpoint.read_bytes())
    path.chmod(0)
    real = open

    def denied(given, *arguments, **options):
        if str(given) == str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return real(given, *arguments, **options)

    monkeypatch.setattr("builtins.open", denied)
    monkeypatch.setattr(checkpoints, "safe_open", denied)
    if option == "--weights":
        refused([*TRAIN, "--backbone", "resnet18", "--weights", path, "--out", tmp_path / "new"], path, "Permission")
    else:
        refused(["evaluate", "--checkpoint", path, "--task", "G->C", "--method", "bn"], path, "Permission denied")


# --------------------------------------------------------------------------------------------- images to predict


def test_photographs_are_predicted_upright(checkpoint, images, tmp_path, call, picture):
    arguments = ("predict", "--checkpoint", checkpoint, "--method", "bn", "--device", "cpu", "--images")
    smooth = np.kron(picture(5, (4, 6)), np.ones((8, 8, 1), np.uint8))
    for orientation in (1, 3, 6):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(smooth).save(images / f"photo{orientation}.png", exif=exif)
    with pytest.warns(UserWarning, match=r"photo6.png: 2 image.s. turned as their EXIF orientation says"):
        assert call(*arguments, images, "--out", tmp_path / "out") == 0
    (tmp_path / "upright").mkdir()
    for orientation in (1, 3, 6):
        with Image.open(images / f"photo{orientation}.png") as photo:
            Image.fromarray(np.asarray(ImageOps.exif_transpose(photo))).save(
                tmp_path / f"upright/photo{orientation}.png"
            )
    assert call(*arguments, tmp_path / "upright", "--out", tmp_path / "expected") == 0
    for kind in ("labels", "overlays"):
        for orientation in (1, 3, 6):
            found, expected = (
                Image.open(tmp_path / of / kind / f"photo{orientation}.png") for of in ("out", "expected")
            )
            assert np.array_equal(np.asarray(found), np.asarray(expected))
    assert Image.open(tmp_path / "out/labels/photo6.png").size == (32, 48)


@pytest.mark.parametrize("kind", ["pipe", "name", "right", "/proc"])
def test_folders_of_images_that_cannot_be_predicted(checkpoint, images, tmp_path, refused, monkeypatch, kind):
    word = "img3.png"
    if kind == "pipe":
        os.mkfifo(images / "img3.png")
    elif kind == "name":
        (images / "img1.png").rename(images / os.fsdecode(b"caf\xe9.png"))
        word = r"caf\xe9.png"
    elif kind == "right":

        def denied(folder):
            raise PermissionError(13, "Permission denied", str(folder))

        monkeypatch.setattr(os, "listdir", denied)
        word = "Permission denied"
    else:
        images = word = "/proc"
    refused(["predict", "--checkpoint", checkpoint, "--images", images, "--method", "bn", "--out", tmp_path / "new"],
            word)  # fmt: skip
    assert not (tmp_path / "new").exists()


def test_predictions_of_names_as_long_as_a_disk_takes_them(checkpoint, images, tmp_path, dglab):
    (images / "img1.png").rename(images / f"{'x' * 251}.png")
    dglab("predict", "--checkpoint", checkpoint, "--images", images, "--method", "bn", "--out", tmp_path / "new",
          "--device", "cpu")  # fmt: skip
    assert (tmp_path / "new/labels" / f"{'x' * 251}.png").exists()


# ------------------------------------------------------------------------------------------- one run, one process


def test_two_processes_in_one_run_folder(tmp_path, refused, capsys):
    script = """
import sys
from dglab.cli import main
from dglab.training import trainer

def waiting(*arguments, **options):
    print("begun", flush=True)
    sys.stdin.readline()
    return original(*arguments, **options)

original, trainer.training_step = trainer.training_step, waiting
sys.argv = ["dglab", *sys.argv[1:]]
main()
"""
    arguments = [*TRAIN, "--out", str(tmp_path / "run"), "--steps", "1"]
    first = subprocess.Popen([sys.executable, "-c", script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True)  # fmt: skip
    assert first.stdout.readline() == "begun\n"
    for resume in ((), ("--resume",)):
        refused([*arguments, *resume], "another process is at work in", tmp_path / "run")
    first.communicate("go on\n", timeout=300)
    assert first.returncode == 0
    assert (tmp_path / "run/last.safetensors").exists() and not list((tmp_path / "run").glob(".*"))


def test_a_folder_that_cannot_be_locked_is_trained_in_and_told_of(tmp_path, call, monkeypatch):
    import fcntl

    def unknown(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with pytest.warns(UserWarning, match="cannot be locked .Operation not supported."):
        assert call(*TRAIN, "--out", tmp_path / "run", "--steps", "1") == 0
    assert (tmp_path / "run/last.safetensors").exists()


@pytest.mark.parametrize("name", [STATE, "log.jsonl"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "bytes", "link"])
def test_what_lies_where_a_run_keeps_its_files(tmp_path, refused, name, kind):
    make = {"pipe": os.mkfifo, "folder": os.mkdir, "bytes": lambda path: path.write_bytes(b"\xff\xfe" * 50),
            "link": lambda path: path.symlink_to("gone")}  # fmt: skip
    make[kind](tmp_path / name)
    refused([*TRAIN, "--out", tmp_path, "--resume"], tmp_path / name)
    with locked(tmp_path):  # which the refused one has given back
        pass


@pytest.mark.parametrize(
    ("table", "record", "message"),
    [
        (b"", "{}", "cannot be read as a table"),
        (b"\x89PNG\xff\x00", "{}", "cannot be read as a table"),
        (b"study,value\nablation,many\n", "{}", "cannot be read as a table"),
        (b"study,value\nablation,1,2,3\nablation,1\n", "{}", "not a table of this version"),
        (None, "{", "is not JSON"),
        (None, "[]", "does not name preset, data, domains"),
        (None, '{"preset": {}}', "does not name preset, data, domains"),
    ],
)
def test_a_damaged_run_is_not_verified(tmp_path, refused, table, record, message):
    (tmp_path / "tables.csv").write_bytes(table if table is not None else ",".join(COLUMNS).encode())
    (tmp_path / "run.json").write_text(record)
    refused(["verify", "--results", tmp_path], tmp_path / ("tables.csv" if table is not None else "run.json"), message)


def test_a_link_to_itself_is_refused_by_name(tmp_path, refused):
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    new = ["--out", tmp_path / "new"]
    reproduce = ["reproduce", "--preset", "tiny", "--device", "cpu"]
    refused([*reproduce, "--data", loop, *new], f"{loop}: no such folder")
    refused([*reproduce, "--out", loop], f"cannot write {loop}")
    refused([*TRAIN, "--data", loop, *new], f"{loop}: no such folder")
    refused(["verify", "--results", loop], "there is no table")
