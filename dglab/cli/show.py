"""``dglab presets`` and ``dglab doctor``: what there is to choose from, and what this machine has."""

import dataclasses
from typing import Any

import typer


def presets() -> None:
    """Print every preset with all its settings, where the paper's values stand, and how the authors' code differs."""
    from dglab.authors_code import as_text
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
    typer.echo(as_text())


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
