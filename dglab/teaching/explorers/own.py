"""A picture of your own: what the networks make of it, and how far its statistics are off."""

import io
from collections.abc import Iterator, Mapping
from functools import lru_cache

import ipywidgets
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from dglab.classes import colorize
from dglab.models import logits_of
from dglab.teaching.explorers import drawing
from dglab.teaching.explorers.panel import Panel, names
from dglab.teaching.explorers.predictors import predictors_of
from dglab.testtime import SourceReference, shift_by_layer
from dglab.utils.errors import InputError

MEGAPIXELS = 25
MEGABYTES = 9  # what a notebook's connection takes in one message
HEIGHT, LONGEST = 96, 4  # of what the network sees: rows, and columns for each row
OPACITY = 0.6  # of the classes over the picture
KEPT = 4
ZONE = f"""<div class="dglab-drop" ondragover="event.preventDefault()" ondrop="
  event.preventDefault();
  const file = event.dataTransfer.files[0], note = this.querySelector('b');
  if (!file) {{ note.textContent = 'That was not a file.'; return; }}
  if (file.size > {MEGABYTES}e6) {{
    note.textContent = file.name + ' has ' + (file.size / 1e6).toFixed(1) + ' MB; at most {MEGABYTES} go.';
    return;
  }}
  note.textContent = '';
  const button = this.closest('.dglab-controls').querySelector('.widget-upload');
  const click = HTMLInputElement.prototype.click;
  HTMLInputElement.prototype.click = function () {{
    const list = new DataTransfer(); list.items.add(file);
    this.files = list.files; this.dispatchEvent(new Event('change'));
  }};
  try {{ button.click(); }} finally {{ HTMLInputElement.prototype.click = click; }}
" style="border:2px dashed #555;padding:.5em 1em;margin:.2em">or drop a picture here <b role="status"></b></div>"""


def read_any(content: bytes, name: str) -> Tensor:
    """Anybody's picture, of any size and mode, as the networks take it: 3 x 96 x W, uint8.

    Upright as a viewer shows it; transparency over white; 16 bits as 8; of an animation the first frame.

    Args:
        content: of the file.
        name: of the file, for the message.

    Raises:
        InputError: for what cannot be read as a picture, and for one of more than 25 megapixels.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            if width * height > MEGAPIXELS * 1e6:
                raise InputError(
                    f"{name} is {width} x {height}, {width * height / 1e6:.1f} megapixels; at most {MEGAPIXELS} go: "
                    "make it smaller"
                )
            if image.format == "JPEG":
                image.draft("RGB", (width // 8, 2 * HEIGHT))  # decodes at an eighth where that is enough
            upright = _rgb(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except Exception as error:  # Pillow raises nearly anything on damaged files
        reason = "it is empty" if not content else f"{type(error).__name__}: {error}".partition(" <_io")[0]
        raise InputError(f"{name} cannot be read as a picture ({reason}); open it and save it anew") from error
    width = round(upright.width * HEIGHT / upright.height)
    width = min(max(width, HEIGHT // LONGEST), LONGEST * HEIGHT)
    small = np.array(upright.resize((width, HEIGHT), Image.Resampling.BOX if upright.height < HEIGHT else None))
    return torch.from_numpy(small).permute(2, 0, 1)


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB."""
    if image.mode.startswith(("I", "F")):
        values = np.array(image, np.float64)
        low, high = (0, 65535) if image.mode != "F" and values.max() > 255 else (0, max(values.max(), 1))
        image = Image.fromarray((255 * (values - low) / (high - low)).clip(0, 255).round().astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def picture_sheet(model: nn.Module, image: Tensor, reference: SourceReference | None) -> str:
    """The picture and its predictions, laid over it; where they differ; the shift by layer."""
    batch = image[None].to(next(model.parameters()).device).float() / 255  # 1 x 3 x H x W
    methods = predictors_of(model, reference)
    predictions = {name: logits_of(method(batch)).argmax(1)[0].cpu().numpy() for name, method in methods.items()}
    photo = image.permute(1, 2, 0).numpy()
    maps = [drawing.picture(image, "your picture, as the network sees it")]
    for name, classes in predictions.items():
        over = (OPACITY * colorize(classes) + (1 - OPACITY) * photo).round().astype(np.uint8)
        other = 100 * float((classes != predictions["source BN"]).mean())
        caption = name if name == "source BN" else f"{name}: {other:.0f} % of the pixels otherwise than source BN"
        maps.append(drawing.picture(over, caption))
    return "".join((
        drawing.row(*maps),
        drawing.class_legend(*predictions.values()),
        drawing.row(drawing.shift_chart(shift_by_layer(model, batch), "of your picture")),
    ))  # fmt: skip


def explore_picture(models: Mapping[str, nn.Module], references: Mapping[str, SourceReference] | None = None) -> Panel:
    """A place for a picture of your own.

    Args:
        models: trained networks by name.
        references: of the networks; with them the guarded default is shown, too.
    """

    @lru_cache(KEPT)
    def kept(network: str, content: bytes, name: str) -> str:
        return picture_sheet(models[network], read_any(content, name), (references or {}).get(network))

    def draw(network: str, uploaded: tuple) -> Iterator[str]:
        if not uploaded:
            yield drawing.words("No picture yet: choose one, or drop it into the frame. It stays on this machine.")
            return
        yield kept(network, bytes(uploaded[0]["content"]), uploaded[0]["name"])

    controls = {
        "network": names("trained with", list(models), next(iter(models))),
        "uploaded": ipywidgets.FileUpload(description="choose a picture", accept="image/*", layout={"width": "auto"}),
    }
    return Panel(draw, controls, below=(ipywidgets.HTML(ZONE),))
