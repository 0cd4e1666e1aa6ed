"""A picture follows its controls: the latest values, no backlog, and words where there is nothing to draw."""

import asyncio

import ipywidgets
import pytest

from dglab.teaching.explorers import panel
from dglab.teaching.explorers.panel import Panel
from dglab.utils.errors import InputError


@pytest.fixture
def made():
    """A panel with one number, and the numbers that it has drawn."""
    drawn = []

    def draw(number):
        if number == 3:
            raise InputError("three is <odd>")
        if number == 4:
            raise KeyError("four")
        drawn.append(number)
        yield f"half of {number}"
        yield f"all of {number}"

    number = ipywidgets.IntSlider(0, 0, 100)
    return Panel(draw, {"number": number}, lambda number: "M is too large" if number == 5 else None), number, drawn


def test_without_a_kernel_each_change_is_drawn_at_once(made):
    one, number, drawn = made
    first = one.screen.value
    number.value = 1
    assert drawn == [0, 1] and one.screen.value != first and "all of 0" in first and "all of 1" in one.screen.value


def test_a_drag_leaves_no_backlog(made):
    """What arrives while nothing can be drawn, as the messages of a drag do, is drawn once."""
    one, number, drawn = made

    async def drag():
        for value in range(10, 60):
            number.value = value
        assert drawn == [0] and "working ..." in one.note.value
        while one.note.value:
            await asyncio.sleep(panel.PAUSE)
        for value in (7, 8):
            number.value = value
        while one.note.value:
            await asyncio.sleep(panel.PAUSE)

    asyncio.run(drag())
    assert drawn == [0, 59, 8]


def test_an_update_leaves_nothing_to_be_drawn_later(made):
    """A page that shows several panels draws them before it is shown."""
    other, _, drawn = made
    number = ipywidgets.IntSlider(0, 0, 100)

    async def updated():
        one = Panel(other.draw, {"number": number})
        number.value = 20
        one.update()
        assert drawn[-1] == 20 and "all of 20" in one.screen.value and one.note.value == ""
        number.value = 21  # and it follows its controls as before
        while one.note.value:
            await asyncio.sleep(panel.PAUSE)
        assert "all of 21" in one.screen.value

    asyncio.run(updated())
    assert drawn == [0, 20, 21]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "three is &lt;odd&gt;"),
        (4, "KeyError: &#x27;four&#x27;; restart the kernel and run all cells, in their order"),
        (5, "M is too large"),
    ],
)
def test_what_cannot_be_drawn_is_told_and_the_picture_stays(made, value, words):
    one, number, drawn = made
    before = one.screen.value
    number.value = value
    assert words in one.note.value and one.screen.value == before
    number.value = 1
    assert one.note.value == "" and drawn == [0, 1]


def test_a_change_ends_a_drawing_that_takes_long():
    seen = []

    def draw(number):
        for part in range(100):
            seen.append((number, part))
            yield str(part)

    number = ipywidgets.IntSlider(0, 0, 9)

    async def moved():
        one = Panel(draw, {"number": number})
        while len(seen) < 3:
            await asyncio.sleep(panel.PAUSE)
        number.value = 7
        while seen[-1] != (7, 99):
            await asyncio.sleep(panel.PAUSE)
        assert "99" in one.screen.value

    saved, panel.PAUSE = panel.PAUSE, 0.001
    try:
        asyncio.run(moved())
    finally:
        panel.PAUSE = saved
    assert len([part for of, part in seen if of == 0]) < 100 and [part for of, part in seen if of == 7] == [*range(100)]
