"""Options that several commands share, and checks of them."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from dglab.utils.errors import InputError
from dglab.utils.files import check_utf8, shown
from dglab.utils.machine import refuse_what_cannot_fit

_FEWEST_CHANNELS = 8  # that a style layer has


def writable(*, folder: bool) -> Callable[[Path | None], Path | None]:
    """The callback of an option that names an output; it refuses, before work starts, what cannot be written."""

    def check(path: Path | None) -> Path | None:
        from dglab.utils.files import check_writable

        if path is not None:
            check_writable(path, folder=folder)
        return path

    return check


def height_and_width(text: str) -> tuple[int, int]:
    """``600x600`` -> (600, 600)."""
    from dglab.bench import height_and_width as read

    return read(text, least=3)


TaskOption = Annotated[str, typer.Option(help="sources->targets, for example 'G+S+I+M->C'")]
DataOption = Annotated[
    Path | None, typer.Option(help="prepared root; without it, the embedded streets", resolve_path=True)
]  # resolved, so that a folder called streets does not mean the embedded ones
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]
CheckpointOption = Annotated[Path, typer.Option(help="last.safetensors of a finished run")]
PresetOption = Annotated[str, typer.Option(help="tiny, quick, full, real, standard or paper; see dglab presets")]
JsonOption = Annotated[
    Path | None, typer.Option("--json", help="write the record to this file", callback=writable(folder=False))
]
CropOption = Annotated[
    Any, typer.Option(help="size of the training crops in pixels", parser=height_and_width, metavar="HxW")
]
ModalitiesOption = Annotated[
    Any,
    typer.Option(help="of gmp: rgb, depth, normals; default rgb+depth", parser=lambda text: tuple(text.split("+")),
                 metavar="A+B"),
]  # fmt: skip
BatchSizeOption = Annotated[int | None, typer.Option(help="M of tn and guarded: images normalized together")]
NeighborsOption = Annotated[int | None, typer.Option(help="M of qib and sib: images chosen from the bank")]
CapacityOption = Annotated[int | None, typer.Option(help="Q of qib and sib: capacity of the bank")]
ReferenceOption = Annotated[
    Path | None, typer.Option(help="of guarded: the source reference; default the one beside the checkpoint")
]
StyleLayerOption = Annotated[
    str | None, typer.Option(help="of sib: the layer that styles are read off, stage 1-4 or a module path")
]
StatisticsOption = Annotated[
    str | None, typer.Option(help="of qib and sib: joint (the paper's), or cached (ours: one pass)")
]


def refuse_foreign(method: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Refuse options that the method ignores: their user expects an effect.

    Args:
        method: the chosen one.
        given: names of the options that were given.
        allowed: names of those that the method reads.
    """
    foreign = [name for name in given if name not in allowed]
    if foreign:
        flags = ", ".join("--" + name.replace("_", "-") for name in foreign)
        raise InputError(f"{flags} does not belong to --method {method}; leave it out, or choose another method")


def test_config(method: str, **options: Any) -> Any:
    """The settings of a test, with the paper's defaults for options that are not given (None).

    Raises:
        InputError: for an unknown method, or options that do not belong to it or cannot be.
    """
    from dglab.testtime.methods import BANK_POLICIES, TestConfig, bank

    of_banks = ("neighbors", "capacity", "statistics")
    given = {name: value for name, value in options.items() if value is not None}
    allowed = {"tn": ("batch_size",), "guarded": ("batch_size", "reference"), **dict.fromkeys(BANK_POLICIES, of_banks)}
    allowed |= {method: (*of_banks, "style_layer") for method in ("sib", "oracle")}  # the others use no style
    TestConfig(method)  # refuses an unknown method, before its options
    refuse_foreign(method, given, (*allowed.get(method, ()), "test_seed"))
    given.pop("reference", None)  # a file, not a setting
    if method not in BANK_POLICIES:
        return TestConfig(method, **given)
    layer = given.pop("style_layer", "1")
    number = layer.isdecimal() and len(layer) < 9
    config = dataclasses.replace(bank(method, (), None), style_layer=int(layer) if number else layer, **given)
    if "neighbors" not in given:
        config = dataclasses.replace(config, neighbors=min(config.neighbors, max(config.capacity, 1)))
    if config.neighbors > config.capacity >= 1:  # a capacity below 1 is refused by the bank
        raise InputError(
            f"--neighbors is {config.neighbors} and --capacity {config.capacity}: more images to choose "
            "than the bank keeps; give fewer neighbors or more capacity"
        )
    # a lower bound: the style of each image and the buffers of the style search
    refuse_what_cannot_fit(
        24 * _FEWEST_CHANNELS * config.capacity, f"a bank of {config.capacity} images", "give less --capacity"
    )
    return config


def of_images_alone(checkpoint: Path, device: str) -> Any:
    """The network of a checkpoint, for a folder of images.

    Raises:
        InputError: for a network that takes other modalities, which a folder does not hold.
    """
    from dglab.training.checkpoints import load_checkpoint
    from dglab.training.methods import modalities_of

    model, config = load_checkpoint(checkpoint, device)
    if modalities_of(config) not in ((), ("rgb",)):
        raise InputError(
            f"{checkpoint} takes {' and '.join(config.modalities)}, and a folder holds images alone; score it by dglab "
            "evaluate (--without names a modality that is missing), or call the network from Python on {modality: "
            "images}, of which any but one may be missing"
        )
    return model


def check_arguments(arguments: Iterable[str]) -> None:
    """Refuse an empty argument, which as a path would be the current folder, and one that is not UTF-8."""
    before = ""
    for argument in arguments:
        check_utf8(argument, f"the argument {shown(argument)}; rename what it names")
        if not argument or (argument.startswith("--") and argument.endswith("=")):
            raise InputError(
                f"{f'nothing is given after {before}' if before else 'an argument is empty'}; give a value"
            )
        before = argument
