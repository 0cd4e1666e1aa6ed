"""What Binder and Codespaces read: as far as it can be tried where neither is."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_binder_finds_what_it_is_told_to_install():
    environment = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert (ROOT / re.search(r"- -r (\S+)", environment)[1]).is_file()
    python = tuple(map(int, re.search(r"python=(\d+)\.(\d+)", environment).groups()))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert python >= tuple(map(int, re.findall(r"\d+", project["project"]["requires-python"])))
    assert os.access(ROOT / "postBuild", os.X_OK)
    subprocess.run(["bash", "-n", ROOT / "postBuild"], check=True)
    pinned = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.M)
    needed = [re.match(r"[\w-]+", name)[0] for name in project["build-system"]["requires"]]
    assert {*needed, "jupyterlab"} <= set(pinned)  # postBuild builds without an index


def test_codespaces_calls_what_there_is():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    target = re.search(r"make (\S+)$", container["postCreateCommand"])[1]
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    interpreter = container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert interpreter == f"${{containerWorkspaceFolder}}/{Path(target).parent}/bin/python"
