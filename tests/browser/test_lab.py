"""Two explorers in one notebook, in JupyterLab, as a student runs them."""

import nbformat
import numpy as np

from dglab.teaching.explorers import rehearsal
from tests.browser.panels import Explorer

CELL = "from dglab.teaching.explorers import explore_mldg, explore_picture\n"


def test_explorers_in_jupyterlab(page, serving, barriers, shot, tmp_path):
    codes = (CELL + "explore_mldg()", "explore_picture({'AGG': None})")
    cells = [nbformat.v4.new_code_cell(code) for code in codes]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": ""}})
    nbformat.write(notebook, tmp_path / "explore.ipynb")
    options = ("--no-browser", "--allow-root", "--IdentityProvider.token=", "--ServerApp.port_retries=0")
    address = ("--port={port}", "--ip=127.0.0.1", f"--notebook-dir={tmp_path}")
    with serving("-m", "jupyterlab", *options, *address, cwd=tmp_path, path="/lab/tree/explore.ipynb?reset") as url:
        page.goto(url, wait_until="commit")
        page.locator(".jp-Notebook .jp-Cell").nth(1).wait_for()
        page.get_by_text("| Idle").wait_for()  # what is run before the kernel is there is lost
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        first, second = Explorer(page, 0), Explorer(page, 1)
        first.shows("θ = (−1.10, 1.20)")
        second.shows("No picture yet")
        first.drag("inner rate η", 2000, steps=50)  # to its end, 1
        theta, (center, matrix) = np.array([-1.1, 1.2]), _bowl()
        ahead = theta - matrix @ (theta - center)
        first.shows(f"θ′ = ({ahead[0]:.2f}, {ahead[1]:.2f})".replace("-", "−"))
        assert "No picture yet" in second.text()  # one does not move the other
        shot(page, "jupyterlab")
        assert barriers(page, ".dglab-sheet") == []
        page.goto("about:blank")


def _bowl():
    bowl = rehearsal.DS[0].numpy()
    return bowl[0], bowl[1:]
