"""Reading and moving the explorers on a page."""

import base64
import io

import numpy as np
from PIL import Image

IDLE = """() => ![...document.querySelectorAll('[role=status]')].some(e => e.textContent.startsWith('working'))"""


class Explorer:
    """One explorer on a page: its controls by what stands beside them, its words, its pictures.

    Args:
        page: of Playwright.
        number: of the explorer on the page, from 0.
    """

    def __init__(self, page, number=0):
        self.page = page
        self.controls = page.locator(".dglab-controls").nth(number)
        self.sheet = page.locator(".dglab-sheet").nth(number)

    def handle(self, label):
        """The handle of a slider."""
        box = self.controls.locator(".widget-slider", has=self.page.get_by_text(label, exact=True))
        return box.locator(".noUi-handle")

    def choose(self, label, value):
        """Choose from a list."""
        self.controls.get_by_label(label, exact=True).select_option(value)

    def press(self, label, *keys):
        """Move a slider by the keyboard."""
        handle = self.handle(label)
        handle.focus()
        for key in keys:
            self.page.keyboard.press(key)

    def drag(self, label, pixels, steps=40):
        """Drag a slider with the mouse, in many small moves."""
        handle = self.handle(label)
        handle.scroll_into_view_if_needed()
        box = handle.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + pixels, y, steps=steps)
        self.page.mouse.up()

    def shows(self, words):
        """Wait until the sheet holds these words and nothing is being drawn."""
        self.sheet.get_by_text(words).first.wait_for()
        self.page.wait_for_function(IDLE)

    def says(self, words):
        """Wait for a line under the controls."""
        self.page.get_by_role("status").get_by_text(words).first.wait_for()

    def text(self):
        return self.sheet.inner_text()

    def captions(self):
        return self.sheet.locator(".dglab-picture figcaption").all_inner_texts()

    def pixels(self, number):
        """A picture as H x W x 3."""
        source = self.sheet.locator(".dglab-picture img").nth(number).get_attribute("src")
        return np.array(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB"))
