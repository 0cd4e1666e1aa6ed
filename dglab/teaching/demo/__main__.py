"""Serve the demonstration: ``python -m dglab.teaching.demo [--port 8866] [--preset quick] [--no-browser]``.

Voila runs a notebook of one line for each visitor and shows what it makes, without its code. The template in
``voila/templates/projector`` is Voila's own with large type and names for all controls, and loads nothing from outside.
"""

import argparse
import os
import tempfile
from pathlib import Path

import nbformat

from dglab.experiments.runner import open_lab

HERE = Path(__file__).parent
EXTENSIONS = ["@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8"]


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="The explorers as one page for a projector.")
    parser.add_argument("--port", type=int, default=8866)
    parser.add_argument(
        "--preset", default="quick", help="tiny computes its networks now, and they have learnt nothing"
    )
    parser.add_argument("--data", default="streets", help="or the path of a prepared root")
    parser.add_argument("--no-browser", action="store_true")
    options = parser.parse_args()
    lab = open_lab(options.preset, options.data)  # from here: the kernel runs in another folder
    paths = [str(HERE), *filter(None, [os.environ.get("JUPYTER_PATH")])]
    os.environ["JUPYTER_PATH"] = os.pathsep.join(paths)
    from voila.app import Voila  # reads JUPYTER_PATH

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "demonstration.ipynb"
        nbformat.write(notebook(options.preset, lab.data, str(lab.out)), path)
        arguments = [str(path), "--template=projector", f"--port={options.port}", "--Voila.ip=127.0.0.1"]
        arguments.append(f"--VoilaConfiguration.extension_allowlist={EXTENSIONS}")
        # A page that was closed or loaded anew leaves its kernel behind, a gigabyte: it ends once nobody has used it.
        arguments += ["--MappingKernelManager.cull_idle_timeout=300", "--MappingKernelManager.cull_interval=60"]
        Voila.launch_instance(arguments + ["--no-browser"] * options.no_browser)


def notebook(preset: str, data: str, results: str) -> nbformat.NotebookNode:
    """What a visitor's kernel runs; arguments as of :func:`~dglab.teaching.demo.page.demonstration`."""
    line = f"from dglab.teaching.demo.page import demonstration\n\ndemonstration({preset!r}, {data!r}, {results!r})"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "title": "dglab: a demonstration"}
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(line)], metadata=metadata)


if __name__ == "__main__":
    main()
