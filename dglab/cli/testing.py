"""``dglab evaluate`` and ``dglab predict``."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dglab.cli.options import (
    BatchSizeOption,
    CapacityOption,
    CheckpointOption,
    DataOption,
    DeviceOption,
    JsonOption,
    NeighborsOption,
    ReferenceOption,
    StatisticsOption,
    StyleLayerOption,
    TaskOption,
    of_images_alone,
    test_config,
    writable,
)  # fmt: skip
from dglab.utils.errors import InputError
from dglab.utils.machine import choose_device

if TYPE_CHECKING:
    from dglab.data.streets.size import StreetsSize
    from dglab.tasks import Task
    from dglab.testtime.testing import Result
    from dglab.training.config import TrainingConfig


def evaluate(
    checkpoint: CheckpointOption,
    task: TaskOption,
    method: Annotated[str, typer.Option(help="bn, bn-reestimated, tn, adabn, guarded, qib or sib")],
    data: DataOption = None,
    batch_size: BatchSizeOption = None,
    neighbors: NeighborsOption = None,
    capacity: CapacityOption = None,
    style_layer: StyleLayerOption = None,
    statistics: StatisticsOption = None,
    reference: ReferenceOption = None,
    branch: Annotated[
        str | None, typer.Option(help="of a network by gmp: the modality whose own classifier is scored; default fused")
    ] = None,
    without: Annotated[str | None, typer.Option(help="of a network by gmp: a modality that is missing")] = None,
    seed: Annotated[int, typer.Option(help="of the order in which the images arrive")] = 0,
    scores: Annotated[str, typer.Option(help="ours (whole images) or authors_code (their crops and subsets)")] = "ours",
    json_file: JsonOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Score a checkpoint on the validation images of a task's targets (several targets make one mixed stream)."""
    from dglab.data import Joined, identity, open_domains
    from dglab.evaluation import find_view
    from dglab.tasks import parse_task
    from dglab.testtime.of_sources import reference_beside
    from dglab.testtime.testing import reestimation_batches, run_test
    from dglab.training.checkpoints import load_checkpoint
    from dglab.training.methods import modalities_of

    device, view = choose_device(device), find_view(scores)
    test = test_config(method, batch_size=batch_size, neighbors=neighbors, capacity=capacity,
                       style_layer=style_layer, statistics=statistics, reference=reference, test_seed=seed)  # fmt: skip
    model, config = load_checkpoint(checkpoint, device)
    at_hand = str(data) if data is not None else _own_streets(config, checkpoint)
    modalities = modalities_of(config)
    domains = open_domains(at_hand, modalities=modalities)
    wanted = parse_task(task, tuple(dict.fromkeys((*config.sources, *domains))))
    _check_task(wanted, config, domains, checkpoint)
    test = dataclasses.replace(test, domains=wanted.targets, branch=branch, without=without)
    if modalities:
        view = _stacked(scores)
    result = run_test(
        model,
        Joined([view(domains[letter].val) for letter in wanted.targets]),
        test,
        source_batches=lambda: reestimation_batches(config, domains, identity(at_hand), device),
        reference=lambda: reference_beside(checkpoint, reference),
        device=device,
    )
    record = {"checkpoint": str(checkpoint), "task": str(wanted), **dataclasses.asdict(test), "scores": scores,
              **_scores(result)}  # fmt: skip
    _print_scores(record)
    if json_file is not None:
        from dglab.utils.files import written_whole

        with written_whole(json_file) as beside:
            beside.write_text(json.dumps(record, indent=1))


def _stacked(scores: str) -> Any:
    """The view that stacks several modalities into one image."""
    from dglab.data.multimodal import Stacked

    if scores != "ours":
        raise InputError(f"--scores {scores} is of images alone; several modalities are scored as ours, whole")
    return Stacked


def _own_streets(config: "TrainingConfig", checkpoint: Path) -> "StreetsSize":
    """The embedded streets that a network was trained on, the default data of its test."""
    from dglab.data.streets.size import StreetsSize

    if not isinstance(config.data, StreetsSize):
        raise InputError(
            f"{checkpoint} was not trained on the embedded streets but on '{config.data}'; pass the prepared root to "
            "test it on as --data"
        )
    return config.data


def _check_task(wanted: "Task", config: "TrainingConfig", domains: Mapping[str, Any], checkpoint: Path) -> None:
    for letter in wanted.targets:
        if letter not in domains:
            raise InputError(f"the target {letter!r} is not available; the domains are {', '.join(domains)}")
    if set(config.sources) != set(wanted.sources):
        raise InputError(
            f"{checkpoint} was trained on {'+'.join(config.sources)}, the task {wanted} names other sources; "
            f"write --task '{'+'.join(config.sources)}->{wanted.target}'"
        )


def _scores(result: "Result") -> dict[str, Any]:
    """The entries of the JSON record of a result: shares from 0 to 1; null for an absent class, as JSON has no nan."""
    from dglab.classes import CLASS_NAMES

    values = zip(CLASS_NAMES, result.matrix.iou().tolist(), strict=True)
    return {
        "miou": result.matrix.miou(),
        "miou_interval": result.interval,
        "absent_classes": result.matrix.num_absent,
        "iou": {name: None if math.isnan(value) else value for name, value in values},
        "selection_accuracy": result.selection_accuracy,
        "confusion": result.matrix.counts.tolist(),
    }


def _print_scores(record: dict[str, Any]) -> None:
    for name, value in record["iou"].items():
        typer.echo(f"{name:14} {'absent' if value is None else f'{100 * value:6.2f}'}")
    count = len(record["iou"]) - record["absent_classes"]
    low, high = record["miou_interval"]
    typer.echo(
        f"mIoU {100 * record['miou']:.2f} over {count} classes, {record['task']}, {record['method']}"
        + (f", the {record['branch']} branch" if record["branch"] else "")
        + (f", without {record['without']}" if record["without"] else "")
        + ("" if record["scores"] == "ours" else f", scored as {record['scores']}")
        + f" ({100 * low:.2f} to {100 * high:.2f}: 95 % over images)"
    )
    if record["selection_accuracy"] is not None:
        typer.echo(f"selected from the same domain: {100 * record['selection_accuracy']:.1f} %")


def predict(
    checkpoint: CheckpointOption,
    images: Annotated[Path, typer.Option(help="folder of jpg and png images, taken in natural order of their names")],
    method: Annotated[str, typer.Option(help="bn, tn, adabn, guarded, qib or sib")],
    out: Annotated[Path, typer.Option(help="gets labels/ (trainIds) and overlays/", callback=writable(folder=True))],
    batch_size: BatchSizeOption = None,
    neighbors: NeighborsOption = None,
    capacity: CapacityOption = None,
    style_layer: StyleLayerOption = None,
    statistics: StatisticsOption = None,
    reference: ReferenceOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Predict a folder of images: label PNGs and colour overlays."""
    from dglab.testtime.folder import check_method, predict_folder
    from dglab.testtime.of_sources import reference_beside

    device = choose_device(device)
    test = test_config(method, batch_size=batch_size, neighbors=neighbors, capacity=capacity, style_layer=style_layer,
                        statistics=statistics, reference=reference)  # fmt: skip
    check_method(test)
    model = of_images_alone(checkpoint, device)
    count = predict_folder(model, images, out, test, device, lambda: reference_beside(checkpoint, reference))
    typer.echo(f"predicted {count} images into {out / 'labels'} and {out / 'overlays'}")
