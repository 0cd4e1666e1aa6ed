"""``dglab reproduce``."""

from pathlib import Path
from typing import Annotated

import typer

from dglab.cli.options import DataOption, DeviceOption, PresetOption, writable
from dglab.utils.machine import choose_device


def reproduce(
    preset: PresetOption = "quick",
    data: DataOption = None,
    only: Annotated[str | None, typer.Option(help="one lesson or study, for example 04_tn or batch_size")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="results folder; default results/<preset>[-<name>]", callback=writable(folder=True)),
    ] = None,
    device: DeviceOption = "auto",
    seeds: Annotated[int | None, typer.Option(min=1, help="trainings of each method at the most")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="networks at a time; default one a core")] = None,
    executor: Annotated[
        str, typer.Option(help="local, or slurm: each network a job, on a GPU with --device cuda")
    ] = "local",
    reuse_recorded: Annotated[
        bool, typer.Option("--reuse-recorded", help="take the results that ship along, compute the others")
    ] = False,
) -> None:
    """Run every study and lesson; leaves notebooks, tables.csv, run.json, figures and report.html."""
    from dglab.reproduce import reproduce as run

    made = run(
        preset, str(data or "streets"), out, only, choose_device(device) if executor == "local" else device,
        seeds=seeds, jobs=jobs, executor=executor, reuse_recorded=reuse_recorded,
    )  # fmt: skip
    typer.echo(f"{'report' if only is None else only}: {made}")
