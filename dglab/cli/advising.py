"""``dglab advise``."""

from pathlib import Path
from typing import Annotated

import typer

from dglab.cli.options import CheckpointOption, DeviceOption, JsonOption, of_images_alone, writable
from dglab.utils.machine import choose_device


def advise(
    checkpoint: CheckpointOption,
    images: Annotated[Path, typer.Option(help="folder of jpg and png images of the target; up to 64, evenly spaced")],
    reference: Annotated[
        Path | None, typer.Option(help="the source reference; default the one beside the checkpoint")
    ] = None,
    json_file: JsonOption = None,
    html: Annotated[
        Path | None, typer.Option(help="write a page with the curves", callback=writable(folder=False))
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Say whether a target wants its own statistics: source, target, blend or undecided, with reasons. No labels."""
    from dglab.data.streams import image_batches
    from dglab.testtime.advice import advise as judge
    from dglab.testtime.folder import list_images
    from dglab.testtime.of_sources import evenly, reference_beside
    from dglab.utils.files import written_whole

    device = choose_device(device)
    model = of_images_alone(checkpoint, device)
    known = reference_beside(checkpoint, reference)
    folder = list_images(images)
    chosen = evenly(len(folder), 64)
    advice = judge(model, image_batches(folder, 1, device, chosen), known)
    typer.echo(f"{advice.recommendation} (share of source statistics: {advice.prior:.2f})")
    for words in advice.words:
        typer.echo(f"  {words}")
    for path, content in ((json_file, advice.to_json), (html, advice.to_html)):
        if path is not None:
            with written_whole(path) as beside:
                beside.write_text(content(), encoding="utf-8")
