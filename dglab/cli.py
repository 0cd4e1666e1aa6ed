"""The command line. Exit codes: 0 done, 2 wrong use or bad input (one message, no traceback), 1 our fault."""

import dataclasses
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from dglab.utils.errors import InputError
from dglab.utils.machine import keep_freed_memory

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Domain generalization in semantic segmentation: train, test, reproduce.",
)


def _writable(*, folder: bool) -> Callable[[Path | None], Path | None]:
    """The callback of an option that names an output: what cannot be written is refused before work starts."""

    def check(path: Path | None) -> Path | None:
        from dglab.utils.files import check_writable

        if path is not None:
            check_writable(path, folder=folder)
        return path

    return check


def _height_and_width(text: str) -> tuple[int, int]:
    """``600x600`` -> (600, 600)."""
    from dglab.bench import height_and_width

    return height_and_width(text, least=3)


TaskOption = Annotated[str, typer.Option(help="sources->targets, for example 'G+S+I+M->C'")]
DataOption = Annotated[
    Path | None, typer.Option(help="prepared root; without it, the embedded streets", resolve_path=True)
]  # resolved, so that a folder called streets is not taken for the embedded ones
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]
CheckpointOption = Annotated[Path, typer.Option(help="last.safetensors of a finished run")]
PresetOption = Annotated[str, typer.Option(help="tiny, quick, standard or paper; see dglab presets")]
JsonOption = Annotated[
    Path | None, typer.Option("--json", help="write the record to this file", callback=_writable(folder=False))
]
CropOption = Annotated[
    Any, typer.Option(help="HxW in pixels, of the training crops", parser=_height_and_width, metavar="HxW")
]
BatchSizeOption = Annotated[int | None, typer.Option(help="M of tn: images normalized together")]
NeighborsOption = Annotated[int | None, typer.Option(help="M of qib and sib: images chosen from the bank")]
CapacityOption = Annotated[int | None, typer.Option(help="Q of qib and sib: images that the bank keeps")]
StyleLayerOption = Annotated[str | None, typer.Option(help="stage 1-4 or a module path, of sib")]
StatisticsOption = Annotated[
    str | None, typer.Option(help="of qib and sib: joint (the paper's), or cached (ours: one pass)")
]


class BenchName(StrEnum):
    """What can be timed."""

    train = "train"
    testtime = "testtime"
    data = "data"


def _refuse_foreign(method: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """An option that the method does not read is wrong use, for its user believes that it does something."""
    foreign = [name for name in given if name not in allowed]
    if foreign:
        flags = ", ".join("--" + name.replace("_", "-") for name in foreign)
        raise InputError(f"{flags} does not belong to --method {method}; leave it out, or choose another method")


def _test_config(method: str, **options: Any) -> Any:
    """The test's settings, with the paper's defaults where an option is not given (None)."""
    from dglab.testtime.methods import BANK_POLICIES, TestConfig, bank

    bank_only = ("neighbors", "capacity", "style_layer", "statistics")
    given = {name: value for name, value in options.items() if value is not None}
    allowed = {"tn": ("batch_size",), **dict.fromkeys(BANK_POLICIES, bank_only)}
    TestConfig(method)  # an unknown method is named first
    _refuse_foreign(method, given, (*allowed.get(method, ()), "test_seed"))
    if method not in BANK_POLICIES:
        return TestConfig(method, **given)
    layer = given.pop("style_layer", "1")
    config = dataclasses.replace(bank(method, (), None), style_layer=int(layer) if layer.isdecimal() else layer)
    return dataclasses.replace(config, **given)


@app.command()
def train(
    method: Annotated[str, typer.Option(help="agg, agg2, split, mldg or mldg_mean")],
    task: TaskOption,
    out: Annotated[Path, typer.Option(help="folder of the run", callback=_writable(folder=True))],
    data: DataOption = None,
    preset: PresetOption = "quick",
    backbone: Annotated[str | None, typer.Option(help="of dglab.models.BACKBONES: thin, resnet50, hrnet, ...")] = None,
    weights: Annotated[
        str | None, typer.Option(help="to start from: imagenet, random, or a .pth or .safetensors file")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="training steps")] = None,
    batch_per_domain: Annotated[int | None, typer.Option(help="B: images of each source in a step")] = None,
    crop: CropOption = None,
    seed: Annotated[int, typer.Option(help="of weights, batches and splits")] = 0,
    lr: Annotated[float | None, typer.Option(help="gamma, the learning rate at the start")] = None,
    order: Annotated[int | None, typer.Option(help="of MLDG: 1 or 2")] = None,
    inner_lr: Annotated[float | None, typer.Option(help="of MLDG: eta, the inner step; 0 is a control")] = None,
    alpha: Annotated[float | None, typer.Option(help="of MLDG: weight of L_ds, Eq. 6")] = None,
    split: Annotated[str | None, typer.Option(help="of MLDG and split: half, random, or n:m")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with an interrupted run in --out")] = False,
    device: DeviceOption = "auto",
    precision: Annotated[str | None, typer.Option(help="32 or bf16")] = None,
    micro_batches: Annotated[
        int | None,
        typer.Option(help="parts of a batch that run one by one, to save memory; BatchNorm takes each by itself"),
    ] = None,
    activation_checkpointing: Annotated[
        bool | None,
        typer.Option("--activation-checkpointing", help="compute activations again instead of keeping them"),
    ] = None,
    channels_last: Annotated[
        bool | None, typer.Option("--channels-last", help="lay images out pixel by pixel; faster on many GPUs")
    ] = None,
    compiled: Annotated[bool | None, typer.Option("--compile", help="by torch.compile; not for --order 2")] = None,
    batchnorm: Annotated[
        str | None, typer.Option(help="under torchrun: process or synchronized (CUDA, not for --order 2)")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="processes that load data; default a few beside a GPU, 0 else")
    ] = None,
) -> None:
    """Train one network on the sources of a task; the last checkpoint is the result.

    On several GPUs of one machine: torchrun --nproc-per-node=4 -m dglab train ...
    """
    from importlib.util import find_spec

    from dglab.experiments.lab import Lab, choose_device
    from dglab.models.weights import parse_weights
    from dglab.presets import find_preset
    from dglab.tasks import parse_task
    from dglab.training.distributed import is_writer, processes, world_size
    from dglab.training.guards import check_fits
    from dglab.training.log import LOG
    from dglab.training.methods import OPTIONS
    from dglab.training.state import CHECKPOINT, STATE
    from dglab.training.trainer import train as run

    of_methods = {"order": order, "inner_lr": inner_lr, "alpha": alpha, "split": split}
    recorded, weights_file = (None, None) if weights is None else parse_weights(weights)
    options = {"backbone": backbone, "weights": recorded, "steps": steps, "batch_per_domain": batch_per_domain,
               "crop": crop, "lr": lr, "precision": precision, "micro_batches": micro_batches,
               "activation_checkpointing": activation_checkpointing, "channels_last": channels_last,
               "compile": compiled, "batchnorm": batchnorm, **of_methods}  # fmt: skip
    changes = {name: value for name, value in options.items() if value is not None}
    if method in OPTIONS:  # an unknown one is named below
        _refuse_foreign(method, [name for name in of_methods if name in changes], OPTIONS[method])
    lab = Lab(find_preset(preset), str(data or "streets"), out, choose_device(device))
    sources = parse_task(task, tuple(lab.domains)).sources
    with processes(lab.device) as own_device:
        config = lab.training(sources, seed, method=method, processes=world_size(), **changes)
        check_fits(config, lab.domains)
        if (out / CHECKPOINT).exists():
            raise InputError(f"{out} holds a finished run; choose another --out, or remove it")
        begun = (out / STATE).exists() or ((out / LOG).is_file() and (out / LOG).stat().st_size > 0)
        if begun and not resume:
            raise InputError(f"{out} holds an interrupted run; add --resume to go on with it, or choose another --out")
        try:
            trained = run(config, lab.domains, out, device=own_device, weights_file=weights_file, workers=workers,
                          tensorboard=find_spec("tensorboard") is not None)  # fmt: skip
        except KeyboardInterrupt:
            if is_writer():
                saved = (out / STATE).exists()
                how = f"goes on from the last saved state in {out}" if saved else "begins anew: no state was saved yet"
                typer.echo(f"interrupted; --resume {how}", err=True)
            raise typer.Exit(130) from None  # what a shell reports of a program that Ctrl-C has ended
        if is_writer():
            typer.echo(f"trained: {trained}")


@app.command()
def evaluate(
    checkpoint: CheckpointOption,
    task: TaskOption,
    method: Annotated[str, typer.Option(help="bn, bn-reestimated, tn, adabn, qib or sib")],
    data: DataOption = None,
    batch_size: BatchSizeOption = None,
    neighbors: NeighborsOption = None,
    capacity: CapacityOption = None,
    style_layer: StyleLayerOption = None,
    statistics: StatisticsOption = None,
    seed: Annotated[int, typer.Option(help="of the order in which the images arrive")] = 0,
    scores: Annotated[str, typer.Option(help="ours (whole images) or authors_code (their crops and subsets)")] = "ours",
    json_file: JsonOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Score a checkpoint on the validation images of a task's targets (several targets make one mixed stream)."""
    from dglab.classes import CLASS_NAMES
    from dglab.evaluation import find_view
    from dglab.experiments.lab import Job, Lab, choose_device, preset_of, run_test
    from dglab.tasks import parse_task
    from dglab.training.checkpoints import load_checkpoint
    from dglab.utils.files import written_whole

    device, view = choose_device(device), find_view(scores)
    test = _test_config(method, batch_size=batch_size, neighbors=neighbors, capacity=capacity,
                        style_layer=style_layer, statistics=statistics, test_seed=seed)  # fmt: skip
    model, config = load_checkpoint(checkpoint, device)
    lab = Lab(preset_of(config), str(data or "streets"), checkpoint.parent, device)
    wanted = parse_task(task, (*config.sources, *lab.domains))
    for letter in wanted.targets:
        if letter not in lab.domains:
            raise InputError(f"the target {letter!r} is not at hand; the domains are {', '.join(lab.domains)}")
    if set(config.sources) != set(wanted.sources):
        raise InputError(
            f"{checkpoint} was trained on {'+'.join(config.sources)}, the task {wanted} names other sources; "
            f"write --task '{'+'.join(config.sources)}->{wanted.target}'"
        )
    test = dataclasses.replace(test, domains=wanted.targets)
    result = run_test(lab, model, Job(config, test), view)
    values = zip(CLASS_NAMES, result.matrix.iou().tolist(), strict=True)
    iou = {name: None if math.isnan(value) else value for name, value in values}
    for name, value in iou.items():
        typer.echo(f"{name:14} {'absent' if value is None else f'{100 * value:6.2f}'}")
    typer.echo(
        f"mIoU {100 * result.matrix.miou():.2f} over {19 - result.matrix.num_absent} classes, {wanted}, {method}"
        + ("" if scores == "ours" else f", scored as {scores}")
    )
    if result.selection_accuracy is not None:
        typer.echo(f"selected from the same domain: {100 * result.selection_accuracy:.1f} %")
    if json_file is not None:
        record = {"checkpoint": str(checkpoint), "task": str(wanted), **dataclasses.asdict(test), "scores": scores,
                  "miou": result.matrix.miou(), "absent_classes": result.matrix.num_absent, "iou": iou,
                  "selection_accuracy": result.selection_accuracy,
                  "confusion": result.matrix.counts.tolist()}  # fmt: skip
        with written_whole(json_file) as beside:
            beside.write_text(json.dumps(record, indent=1))


@app.command()
def predict(
    checkpoint: CheckpointOption,
    images: Annotated[Path, typer.Option(help="folder of jpg and png images, taken in natural order of their names")],
    method: Annotated[str, typer.Option(help="bn, tn, adabn, qib or sib")],
    out: Annotated[Path, typer.Option(help="gets labels/ (trainIds) and overlays/", callback=_writable(folder=True))],
    batch_size: BatchSizeOption = None,
    neighbors: NeighborsOption = None,
    capacity: CapacityOption = None,
    style_layer: StyleLayerOption = None,
    statistics: StatisticsOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Predict a folder of images: label PNGs and colour overlays."""
    from dglab.experiments.lab import choose_device
    from dglab.testtime.folder import check_method, predict_folder
    from dglab.training.checkpoints import load_checkpoint

    device = choose_device(device)
    test = _test_config(method, batch_size=batch_size, neighbors=neighbors, capacity=capacity, style_layer=style_layer,
                        statistics=statistics)  # fmt: skip
    check_method(test)
    model, _ = load_checkpoint(checkpoint, device)
    count = predict_folder(model, images, out, test, device)
    typer.echo(f"predicted {count} images into {out / 'labels'} and {out / 'overlays'}")


@app.command()
def reproduce(
    preset: PresetOption = "quick",
    data: DataOption = None,
    only: Annotated[str | None, typer.Option(help="one lesson, for example 04_tn")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="results folder; default results/<preset>[-<name>]", callback=_writable(folder=True)),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Run every study and lesson; leaves notebooks, tables.csv, figures and report.html."""
    from dglab.experiments.lab import choose_device
    from dglab.experiments.reproduce import reproduce as run

    report = run(preset, str(data or "streets"), out, only, choose_device(device))
    typer.echo(f"report: {report}")


@app.command()
def bench(
    name: BenchName,
    model: Annotated[str | None, typer.Option(help="of train and testtime: a backbone; default thin")] = None,
    size: Annotated[
        str | None, typer.Option(help="HxW in pixels; default 192x384, of testtime 96x192, of data 1024x2048")
    ] = None,
    device: DeviceOption = "auto",
    json_file: JsonOption = None,
) -> None:
    """Time training steps, test-time methods or the feeding of data as ratios to the plain case."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler reports its comings and goings, if not told so
    from dglab.bench import run_bench
    from dglab.experiments.lab import choose_device
    from dglab.utils.files import written_whole

    if name is BenchName.data and (model is not None or device not in ("auto", "cpu")):
        raise InputError("bench data feeds no network: --model and --device do not belong to it; leave them out")
    model = None if name is BenchName.data else model or "thin"
    # at 96x192 a training step of the thin network times calls as much as computation
    size = size or {"train": "192x384", "testtime": "96x192", "data": "1024x2048"}[name.value]
    records = run_bench(name.value, model, size, choose_device(device))
    typer.echo(f"{'case':20} {'median s':>10} {'spread':>8} {'ratio':>7} {'peak MiB':>9} {'ratio':>7}")
    for r in records:
        columns = (("seconds", 10, 4), ("spread", 8, 2), ("ratio", 7, 2), ("peak_mib", 9, 0), ("peak_ratio", 7, 2))
        typer.echo(f"{r['case']:20} " + " ".join(_number(r[key], width, digits) for key, width, digits in columns))
    for r in records:
        if "bank_mib" in r:
            typer.echo(f"{r['case']}: the paper {r['paper_ratio']:.2f}; a bank of 128: {r['bank_mib']:.0f} MiB")
        if "images_per_second" in r:
            typer.echo(f"{r['case']}: {r['images_per_second']:.1f} images/s of {r['bits_per_pixel']:.1f} bits/pixel")
        if "codec_share" in r:
            typer.echo(f"{r['case']}: {100 * r['codec_share']:.0f} % of the cores' time decodes and encodes")
    if json_file is not None:
        with written_whole(json_file) as beside:
            beside.write_text(
                json.dumps({"bench": name.value, "model": model, "size": size, "cases": records}, indent=1)
            )


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{digits}f}"


@app.command()
def presets() -> None:
    """Print every preset with all its settings, and where the paper's values stand."""
    from dglab.presets import PRESETS

    for preset in PRESETS.values():

        def line(name: str, value: Any, preset=preset) -> str:
            reason = preset.reason(name, value)
            return f"{name} = {value!r}" + (f"  # {reason}" if reason else "")

        typer.echo(f"{preset.name}: {preset.about}")
        for field in dataclasses.fields(preset):
            value = getattr(preset, field.name)
            if dataclasses.is_dataclass(value):
                typer.echo(f"  {field.name}:")
                for inner in dataclasses.fields(value):
                    typer.echo(f"    {line(inner.name, getattr(value, inner.name))}")
            elif field.name not in ("name", "about", "why"):
                typer.echo(f"  {line(field.name, value)}")
        typer.echo("")


@app.command()
def doctor() -> None:
    """Print versions, device and memory, and what is missing with the remedy."""
    from dglab.doctor import examine

    lines, problems = examine()
    typer.echo("\n".join(lines))
    for problem in problems:
        typer.echo(f"PROBLEM: {problem}", err=True)
    if problems:
        raise typer.Exit(2)
    typer.echo("all is well")


def main() -> None:
    """Run the command line."""
    keep_freed_memory()
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"  # without the line of code it is from
    try:
        app()
    except InputError as error:
        process = os.environ.get("RANK", "0")  # under torchrun
        typer.echo(f"error{'' if process == '0' else f' in process {process}'}: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
