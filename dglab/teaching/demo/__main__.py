"""Serve the demonstration: ``python -m dglab.teaching.demo [--port 8866] [--preset quick] [--no-browser]``.

Voila runs the notebook beside this file for each visitor and shows what it makes, without its code. The template in
``voila/templates/projector`` is Voila's own with large type and names for all controls, and loads nothing from outside.
"""

import argparse
import os
from pathlib import Path

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
    paths = [str(HERE), *filter(None, [os.environ.get("JUPYTER_PATH")])]
    os.environ |= {"JUPYTER_PATH": os.pathsep.join(paths), "DGLAB_PRESET": options.preset, "DGLAB_DATA": options.data}
    from voila.app import Voila  # reads JUPYTER_PATH

    arguments = [str(HERE / "demonstration.ipynb"), "--template=projector", f"--port={options.port}"]
    arguments.append("--Voila.ip=127.0.0.1")
    arguments.append(f"--VoilaConfiguration.extension_allowlist={EXTENSIONS}")
    Voila.launch_instance(arguments + ["--no-browser"] * options.no_browser)


if __name__ == "__main__":
    main()
