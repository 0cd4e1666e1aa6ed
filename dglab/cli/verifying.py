"""``dglab verify``."""

from pathlib import Path
from typing import Annotated

import typer

OUTSIDE = 3  # the exit code where something lies outside


def verify(
    results: Annotated[
        Path | None,
        typer.Option(help="folder of a finished run on the embedded data; by default that of quick"),
    ] = None,
) -> None:
    """Say whether a run came out as those that are recorded: inside or outside of what one more training may give."""
    import pandas as pd

    from dglab.analysis.verification import LEVEL, SETTINGS
    from dglab.analysis.verification import verify as compare
    from dglab.experiments.recorded import recorded_table
    from dglab.experiments.runner import results_root
    from dglab.experiments.table import read_table
    from dglab.report.page import is_streets, read_record
    from dglab.utils.errors import InputError

    results = results or results_root() / "quick"
    frame, run = read_table(results / "tables.csv"), read_record(results / "run.json")
    name = run["preset"]["name"]
    record = recorded_table(name) if is_streets(run) else None
    if record is None:
        raise InputError(
            f"{results} holds the preset {name} on {run['data']['name']}, of which nothing is recorded; verify a run "
            "on the embedded data, of quick for example"
        )
    table = compare(frame, record)
    for row in table[table["verdict"] == "outside"].to_dict("records"):
        setting = ", ".join(f"{key} {row[key]}" for key in SETTINGS if pd.notna(row[key]))
        typer.echo(f"outside: {setting}: {row['here']:.2f}, expected {row['low']:.2f} to {row['high']:.2f}")
    counts = table["verdict"].value_counts()
    verdicts = ("inside", "outside", "not bounded", "not run")
    shown = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in verdicts)
    typer.echo(
        f"{shown}, of {len(table)} recorded settings; inside: where {LEVEL:.1%} of new trainings lie; not bounded: "
        "where the record has too few trainings to say"
    )
    if counts.get("outside", 0):
        raise typer.Exit(OUTSIDE)
