"""``dglab check``."""

from pathlib import Path
from typing import Annotated

import typer


def check(root: Annotated[Path, typer.Argument(help="prepared root, as data_prep writes it")]) -> None:
    """Check a prepared root: every image and label is decoded and compared with its digest; names what is damaged."""
    from dglab.data.prepared import check_root

    for checked in check_root(root):
        domain = checked.domain
        how = "as written" if checked.with_digests else "decoded; no digests in domain.json to compare with"
        typer.echo(f"{domain.letter} = {domain.name}: {checked.pairs} pairs, {how}")
