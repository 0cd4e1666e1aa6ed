"""Three explorers in one notebook, in JupyterLab, as a student runs them."""

import nbformat
import numpy as np

from dglab.teaching.explorers import projection, rehearsal
from tests.browser.panels import Explorer

CELL = "from dglab.teaching.explorers import explore_mldg, explore_picture, explore_projection\n"


def test_explorers_in_jupyterlab(page, serving, barriers, shot, tmp_path):
    codes = (CELL + "explore_mldg()", "explore_picture({'AGG': None})", "explore_projection()")
    cells = [nbformat.v4.new_code_cell(code) for code in codes]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": ""}})
    nbformat.write(notebook, tmp_path / "explore.ipynb")
    options = ("--no-browser", "--allow-root", "--IdentityProvider.token=", "--ServerApp.port_retries=0")
    address = ("--port={port}", "--ip=127.0.0.1", f"--notebook-dir={tmp_path}")
    with serving("-m", "jupyterlab", *options, *address, cwd=tmp_path, path="/lab/tree/explore.ipynb?reset") as url:
        page.goto(url, wait_until="commit")
        page.locator(".jp-Notebook .jp-Cell").nth(2).wait_for()
        page.get_by_text("| Idle").wait_for()  # what is run before the kernel is there is lost
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        first, second, third = (Explorer(page, number) for number in range(3))
        first.shows("θ = (−1.10, 1.20)")
        second.shows("No picture yet")
        first.drag("inner rate η", 2000, steps=50)  # to its end, 1
        theta, (center, matrix) = np.array([-1.1, 1.2]), _bowl()
        ahead = theta - matrix @ (theta - center)
        first.shows(f"θ′ = ({ahead[0]:.2f}, {ahead[1]:.2f})".replace("-", "−"))
        assert "No picture yet" in second.text()  # one does not move the other
        drag_a_tip(page, third)
        shot(page, "jupyterlab")
        assert barriers(page, ".dglab-sheet") == []
        page.goto("about:blank")


def drag_a_tip(page, explorer):
    """Of g_d, from (-0.69, 0.4) to the right of g_c by a quarter turn and more, in many small moves; then let go."""
    explorer.shows("130 degrees apart: a conflict, and classification is ahead")
    chart, tip = explorer.sheet.locator("svg").first, explorer.sheet.locator("circle").nth(1)
    tip.scroll_into_view_if_needed()
    box, held = chart.bounding_box(), tip.bounding_box()
    page.mouse.move(held["x"] + held["width"] / 2, held["y"] + held["height"] / 2)
    page.mouse.down()
    scale = box["width"] / projection.FRAME.size[0]
    page.mouse.move(box["x"] + scale * projection.FRAME.x(0.0), box["y"] + scale * projection.FRAME.y(-1.2), steps=30)
    explorer.shows("g_d, invariance (0.00, −1.20)")
    page.mouse.up()
    page.mouse.move(box["x"], box["y"], steps=3)  # nobody holds it any more
    explorer.shows("g_d, invariance (0.00, −1.20)")
    explorer.shows("110 degrees apart: a conflict")  # g_c is still at 20 degrees
    assert explorer.handle("angle of g_d").get_attribute("aria-valuenow") == "-90.0"  # for who has no mouse


def _bowl():
    bowl = rehearsal.DS[0].numpy()
    return bowl[0], bowl[1:]
