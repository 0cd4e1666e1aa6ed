"""Controls above a sheet that follows them, however fast they are moved."""

import asyncio
import html
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import ipywidgets

from dglab.teaching.explorers.drawing import STYLE, sheet
from dglab.utils.errors import InputError

PAUSE = 0.03  # seconds that a change waits for the next one
LINE = "1.6em"  # the height of the words
PATIENCE = 0.4  # seconds after which what has been computed so far is shown


class Panel(ipywidgets.VBox):
    """A sheet that is drawn for the latest values of its controls.

    A kernel handles one message after the other. Were each of a drag's values drawn, the sheets would lag behind the
    hand; so a change only asks for one, and what has been asked for by the time of drawing is drawn once. Where much
    is to be computed, ``draw`` yields what it has so far; between two sheets a change is noticed, and ends the drawing.
    A notebook shows the controls, a line of words, the sheet.

    Args:
        draw: takes the controls' values by name; yields HTML, the last one being complete.
        controls: name -> widget with a ``value``.
        refusal: takes the same and says why there is nothing to draw for them, or None.
        above, below: what stands before and after the controls.
    """

    def __init__(
        self,
        draw: Callable[..., Iterator[str]],
        controls: Mapping[str, ipywidgets.Widget],
        refusal: Callable[..., str | None] = lambda **values: None,
        *,
        above: tuple[ipywidgets.Widget, ...] = (),
        below: tuple[ipywidgets.Widget, ...] = (),
    ) -> None:
        self.draw, self.controls, self.refusal = draw, controls, refusal
        self.note, self.screen = ipywidgets.HTML(), ipywidgets.HTML()
        self.note.layout.min_height = LINE
        self._waiting: asyncio.TimerHandle | None = None
        self._drawing: Iterator[str] = iter(())
        for control in controls.values():
            control.observe(self._ask, "value")
        row = ipywidgets.HBox([*above, *controls.values(), *below], layout={"flex_flow": "row wrap"})
        row.add_class("dglab-controls")
        style = ipywidgets.HTML(f"<style>{STYLE}</style>", layout={"height": "0", "margin": "0"})
        super().__init__([row, self.note, self.screen, style])
        self._ask(None)

    def _ask(self, _: Any) -> None:
        """Draw soon: where an event loop runs, as in a kernel, once the messages that have arrived are handled."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.update()
            return
        self._say("working ...")
        self._drawing = self._sheets()
        if self._waiting is None:
            self._waiting = loop.call_later(PAUSE, self._step, loop)

    def update(self) -> None:
        """Draw for the values of now, to the end, at once."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._drawing = self._sheets()
        while self._next():
            pass

    def _step(self, loop: asyncio.AbstractEventLoop) -> None:
        """One sheet; the next one after the messages that have come meanwhile."""
        self._waiting = loop.call_later(PAUSE, self._step, loop) if self._next() else None

    def _next(self) -> bool:
        """Show one more sheet; whether there was one. What goes wrong becomes a sentence under the controls."""
        try:
            self.screen.value = next(self._drawing)
            return True
        except StopIteration:
            self._say("")
        except InputError as error:
            self._say(str(error))
        except Exception as error:  # a traceback would be lost: nobody sees a callback's
            self._say(f"{type(error).__name__}: {error}; restart the kernel and run all cells, in their order")
        return False

    def _sheets(self) -> Iterator[str]:
        values = {name: control.value for name, control in self.controls.items()}
        reason = self.refusal(**values)
        if reason is not None:
            raise InputError(reason)
        for drawn in self.draw(**values):
            yield sheet(drawn)

    def _say(self, text: str) -> None:
        look = f"margin:0;line-height:{LINE}"  # as high as the empty line, so that what is dragged below stays in place
        self.note.value = f'<p role="status" style="{look}">{html.escape(text)}</p>' if text else ""


def slider(description: str, low: float, high: float, value: float, step: float) -> ipywidgets.FloatSlider:
    """A number that is followed while it is dragged."""
    return ipywidgets.FloatSlider(
        value, min=low, max=high, step=step, description=description, style={"description_width": "initial"}
    )


def choice(description: str, options: Any, value: Any) -> ipywidgets.SelectionSlider:
    """One of a few values in their order."""
    return ipywidgets.SelectionSlider(
        options=options, value=value, description=description, style={"description_width": "initial"}
    )


def names(description: str, options: Any, value: Any) -> ipywidgets.Dropdown:
    """One of a few words."""
    return ipywidgets.Dropdown(
        options=options, value=value, description=description, style={"description_width": "initial"},
        layout={"width": "auto"},
    )  # fmt: skip


def filled_in(
    found: dict[float, Any], places: Iterable[float], compute: Callable[[float], Any], draw: Callable[[], str]
) -> Iterator[str]:
    """Compute what is missing of a curve, with a sheet of what there is every :data:`PATIENCE` seconds and at the end.

    Args:
        found: what is known by place; filled here.
        places: of the curve.
        compute: what stands at a place.
        draw: a sheet of ``found``.
    """
    yield draw()
    since = time.monotonic()
    for place in places:
        found[place] = compute(place)
        if time.monotonic() - since > PATIENCE:
            yield draw()
            since = time.monotonic()
    yield draw()
