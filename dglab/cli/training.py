"""``dglab train``."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from dglab.cli.options import (
    CropOption,
    DataOption,
    DeviceOption,
    ModalitiesOption,
    PresetOption,
    TaskOption,
    refuse_foreign,
    writable,
)
from dglab.utils.errors import InputError
from dglab.utils.machine import choose_device

if TYPE_CHECKING:
    from dglab.training.config import TrainingConfig


class TrainCommand(TyperCommand):
    """Lists the training methods in its help; importing them, and torch, only when the help is shown."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from dglab.training.methods import METHODS

        next(option for option in self.params if option.name == "method").help = ", ".join(METHODS)
        super().format_help(ctx, formatter)


def train(
    method: Annotated[str, typer.Option(help="the training method")],
    task: TaskOption,
    out: Annotated[Path, typer.Option(help="folder of the run", callback=writable(folder=True))],
    data: DataOption = None,
    preset: PresetOption = "quick",
    backbone: Annotated[str | None, typer.Option(help="of dglab.models.BACKBONES: thin, resnet50, hrnet, ...")] = None,
    weights: Annotated[
        str | None, typer.Option(help="to start from: imagenet, random, or a .pth or .safetensors file")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="training steps")] = None,
    batch_per_domain: Annotated[int | None, typer.Option(help="B: images of each source in a step")] = None,
    crop: CropOption = None,
    seed: Annotated[int, typer.Option(help="random seed, of weights, batches and splits")] = 0,
    lr: Annotated[float | None, typer.Option(help="initial learning rate, the paper's gamma")] = None,
    order: Annotated[int | None, typer.Option(help="of MLDG: 1 or 2")] = None,
    inner_lr: Annotated[float | None, typer.Option(help="of MLDG: inner learning rate, eta; 0 is a control")] = None,
    alpha: Annotated[float | None, typer.Option(help="of MLDG: weight of L_ds, Eq. 6")] = None,
    split: Annotated[str | None, typer.Option(help="of MLDG and split: half, random, or n:m")] = None,
    domains_per_pass: Annotated[
        int | None, typer.Option(help="of agg: K, the domains in every BatchNorm batch, which then holds four images")
    ] = None,
    modalities: ModalitiesOption = None,
    variant: Annotated[
        str | None,
        typer.Option(help="of gmp: gmp, joint, igdm, cagp, unified, ogm_ge, fixed_c, fixed_d, torchjd:PCGrad"),
    ] = None,
    alpha_k: Annotated[float | None, typer.Option(help="of gmp: modulation of classification, 0 to 1")] = None,
    alpha_p: Annotated[float | None, typer.Option(help="of gmp: modulation of domain invariance, 0 to 1")] = None,
    augmentation: Annotated[
        str | None, typer.Option(help="paper, or authors: as their code has it, see dglab presets")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="resume an interrupted run in --out")] = False,
    device: DeviceOption = "auto",
    precision: Annotated[str | None, typer.Option(help="32 or bf16")] = None,
    micro_batches: Annotated[
        int | None,
        typer.Option(help="micro-batches a batch is cut into, to save memory; BatchNorm takes each by itself"),
    ] = None,
    activation_checkpointing: Annotated[
        bool | None,
        typer.Option("--activation-checkpointing", help="recompute activations in the backward pass, to save memory"),
    ] = None,
    channels_last: Annotated[
        bool | None, typer.Option("--channels-last", help="channels-last memory format; faster on many GPUs")
    ] = None,
    compiled: Annotated[
        bool | None, typer.Option("--compile", help="compile the network by torch.compile; not for --order 2")
    ] = None,
    batchnorm: Annotated[
        str | None,
        typer.Option(
            help="under torchrun: process (each its own statistics) or synchronized (CUDA, not for --order 2)"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, max=256, help="data-loading worker processes; default a few beside a GPU, 0 else"),
    ] = None,
) -> None:
    """Train one network on the sources of a task; the last checkpoint is the result.

    On several GPUs of one machine: torchrun --nproc-per-node=4 -m dglab train ...
    """
    from dglab.data import identity, open_domains
    from dglab.models.weights import parse_weights
    from dglab.presets import find_preset
    from dglab.tasks import parse_task
    from dglab.testtime.of_sources import REFERENCE
    from dglab.training.distributed import is_writer, processes, world_size
    from dglab.training.guards import check_fits
    from dglab.training.methods import OPTIONS, modalities_of
    from dglab.training.state import CHECKPOINT
    from dglab.utils.files import refuse_inside

    of_methods = {"order": order, "inner_lr": inner_lr, "alpha": alpha, "split": split,
                  "domains_per_pass": domains_per_pass, "modalities": modalities, "variant": variant,
                  "alpha_k": alpha_k, "alpha_p": alpha_p}  # fmt: skip
    recorded, weights_file = (None, None) if weights is None else parse_weights(weights)
    options = {"backbone": backbone, "weights": recorded, "steps": steps, "batch_per_domain": batch_per_domain,
               "crop": crop, "lr": lr, "precision": precision, "micro_batches": micro_batches,
               "activation_checkpointing": activation_checkpointing, "channels_last": channels_last,
               "compile": compiled, "batchnorm": batchnorm, "augmentation": augmentation, **of_methods}  # fmt: skip
    changes = {name: value for name, value in options.items() if value is not None}
    if method in OPTIONS:  # an unknown method is refused below, by check_fits
        refuse_foreign(method, [name for name in of_methods if name in changes], OPTIONS[method])
    chosen = find_preset(preset)
    device = choose_device(device)
    at_hand = chosen.streets if data is None else str(data)
    if data is not None:
        refuse_inside(out, Path(data))
    template = dataclasses.replace(chosen.template(method), **changes)
    domains = open_domains(at_hand, chosen.in_memory, modalities_of(template))
    sources = parse_task(task, tuple(domains)).sources
    with processes(device) as own_device:
        config = dataclasses.replace(
            template, sources=sources, seed=seed, data=identity(at_hand), processes=world_size()
        )  # fmt: skip
        check_fits(config, domains)
        finished = resume and _is_finished(out, config)
        if not finished:
            _refuse_begun(out, resume)
            _train(config, domains, out, device=own_device, weights_file=weights_file, workers=workers)
        elif is_writer():
            typer.echo(f"trained before, with these settings: {out / CHECKPOINT}")
        measured = not modalities_of(config)  # a source reference is of images alone
        if is_writer() and measured and not (finished and (out / REFERENCE).exists()):
            _measure(out, domains, own_device)


def _measure(out: Path, domains: Mapping[str, Any], device: Any) -> None:
    """Write the source reference of a run beside its checkpoint, for the guarded default."""
    from dglab.testtime.of_sources import REFERENCE, source_reference
    from dglab.training.checkpoints import load_checkpoint
    from dglab.training.state import CHECKPOINT

    model, config = load_checkpoint(out / CHECKPOINT, device)
    try:
        source_reference(model, domains, config.sources, device).save(out / REFERENCE)
    except InputError as error:  # for example a source with a single image; the training itself is complete
        typer.echo(f"no {REFERENCE}: {error}", err=True)


def _is_finished(out: Path, config: "TrainingConfig") -> bool:
    """Whether a folder holds the finished run of these settings."""
    from dglab.training.checkpoints import load_checkpoint
    from dglab.training.state import CHECKPOINT

    return (out / CHECKPOINT).exists() and load_checkpoint(out / CHECKPOINT)[1] == config


def _refuse_begun(out: Path, resume: bool) -> None:
    """Refuse a folder with a finished run, and, without ``--resume``, one with an interrupted run."""
    from dglab.training.distributed import is_writer
    from dglab.training.log import LOG
    from dglab.training.state import CHECKPOINT, STATE
    from dglab.utils.files import locked

    if (out / CHECKPOINT).exists():
        raise InputError(f"{out} holds a finished run; choose another --out, or remove it")
    if is_writer() and out.is_dir():
        with locked(out):  # refuses a folder in use by another process, which would look interrupted
            pass
    begun = (out / STATE).exists() or ((out / LOG).is_file() and (out / LOG).stat().st_size > 0)
    if begun and not resume:
        raise InputError(f"{out} holds an interrupted run; add --resume to continue it, or choose another --out")


def _train(config: "TrainingConfig", domains: Mapping[str, Any], out: Path, **options: Any) -> None:
    """Train; Ctrl-C prints one line that says how to resume."""
    from importlib.util import find_spec

    from dglab.training.distributed import is_writer
    from dglab.training.state import STATE
    from dglab.training.trainer import train

    try:
        trained = train(config, domains, out, tensorboard=find_spec("tensorboard") is not None, **options)
    except KeyboardInterrupt:
        if is_writer():
            saved = (out / STATE).exists()
            how = f"continues from the last saved state in {out}" if saved else "starts again: no state was saved yet"
            typer.echo(f"interrupted; --resume {how}", err=True)
        raise typer.Exit(130) from None  # the exit code of a program ended by Ctrl-C
    if is_writer():
        typer.echo(f"trained: {trained}")
