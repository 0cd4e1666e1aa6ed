"""``dglab bench``."""

import json
from enum import StrEnum
from typing import Annotated

import typer

from dglab.cli.options import DeviceOption, JsonOption
from dglab.utils.errors import InputError
from dglab.utils.machine import choose_device, describe_machine, versions


class BenchName(StrEnum):
    """What can be timed."""

    train = "train"
    testtime = "testtime"
    data = "data"
    widgets = "widgets"


def bench(
    name: BenchName,
    model: Annotated[str | None, typer.Option(help="of train and testtime: a backbone; default thin")] = None,
    size: Annotated[
        str | None, typer.Option(help="HxW in pixels; default 192x384, of testtime 96x192, of data 1024x2048")
    ] = None,
    device: DeviceOption = "auto",
    json_file: JsonOption = None,
) -> None:
    """Time training steps, test-time methods or the feeding of data as ratios to the plain case, or the explorers."""
    import torch

    from dglab.bench import run_bench
    from dglab.utils.files import written_whole

    if name is BenchName.data and (model is not None or device not in ("auto", "cpu")):
        raise InputError("bench data feeds no network: --model and --device do not belong to it; leave them out")
    if name is BenchName.widgets and (model is not None or size is not None or device not in ("auto", "cpu")):
        raise InputError("bench widgets shows the networks that ship: leave --model, --size and --device out")
    model = None if name in (BenchName.data, BenchName.widgets) else model or "thin"
    # at 96x192 a training step of the thin network times calls as much as computation
    size = size or {"train": "192x384", "testtime": "96x192", "data": "1024x2048", "widgets": "96x192"}[name.value]
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
        if r.get("growth_mib") is not None:
            typer.echo(f"{r['case']}: the kernel has grown by {r['growth_mib']:.0f} MiB since its tenth arrival")
        if "codec_share" in r:
            typer.echo(f"{r['case']}: {100 * r['codec_share']:.0f} % of the cores' time decodes and encodes")
    if json_file is not None:
        with written_whole(json_file) as beside:
            where = {"machine": describe_machine(choose_device(device)), "threads": torch.get_num_threads()}
            what = {"bench": name.value, "model": model, "size": size, **where, "versions": versions()}
            beside.write_text(json.dumps({**what, "cases": records}, indent=1))


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{digits}f}"
