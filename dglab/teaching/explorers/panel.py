"""Controls above a picture that follows them, however fast they are moved."""

import asyncio
import html
import io
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from dglab.utils.errors import InputError

PAUSE = 0.03  # seconds that a change waits for the next one


class Panel:
    """A picture that is drawn for the latest values of its controls.

    A kernel handles one message after the other. Were each of a drag's values drawn, the pictures would lag behind the
    hand; so a change only asks for a picture, and what has been asked for by the time of drawing is drawn once.

    Args:
        draw: takes the controls' values by name, returns a figure.
        controls: name -> widget with a ``value``.
        refusal: takes the same and says why there is nothing to draw for them, or None.

    Attributes:
        widget: what a notebook shows: the controls, a line of words, the picture.
    """

    def __init__(
        self,
        draw: Callable[..., Figure],
        controls: Mapping[str, ipywidgets.Widget],
        refusal: Callable[..., str | None] = lambda **values: None,
    ) -> None:
        self.draw, self.controls, self.refusal = draw, controls, refusal
        self.note, self.screen = ipywidgets.HTML(), ipywidgets.Image(format="png", layout={"max_width": "100%"})
        self._waiting: asyncio.TimerHandle | None = None
        for control in controls.values():
            control.observe(self._ask, "value")
        row = ipywidgets.HBox(list(controls.values()), layout={"flex_flow": "row wrap"})
        self.widget = ipywidgets.VBox([row, self.note, self.screen])
        self.update()

    def _ask(self, _: Any) -> None:
        """Draw soon: where an event loop runs, as in a kernel, once the messages that have arrived are handled."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.update()
            return
        if self._waiting is None:
            self.note.value = "drawing ..."
            self._waiting = loop.call_later(PAUSE, self.update)

    def update(self) -> None:
        """Draw for the values of now. What goes wrong becomes a sentence under the controls."""
        self._waiting = None
        values = {name: control.value for name, control in self.controls.items()}
        reason = self.refusal(**values)
        if reason is None:
            try:
                self.screen.value = _png(self.draw(**values))
            except InputError as error:
                reason = str(error)
            except Exception as error:  # a traceback would be lost: nobody sees a callback's
                reason = f"{type(error).__name__}: {error}; restart the kernel and run all cells, in their order"
        self.note.value = html.escape(reason or "")


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


def _png(fig: Figure) -> bytes:
    picture = io.BytesIO()
    fig.savefig(picture, format="png", dpi=80)
    return picture.getvalue()
