"""A wheel of this repository in an empty environment, beside no more than what it says it depends on."""

import os
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image

from dglab.data.streets import STREETS, render

REPOSITORY = Path(__file__).parents[1]


def distributions(requirements):
    """What these requirements bring, all the way down, by name: this environment's own packages."""
    found, waiting = {}, [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        extras = requirement.extras or {""}
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        distribution = metadata.distribution(requirement.name)
        name = distribution.metadata["Name"].lower()
        if name not in found:
            found[name] = distribution
            for text in distribution.requires or []:
                needed = Requirement(text)
                if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                    needed.marker = None
                    waiting.append(needed)
    return found


def link(distribution, site_packages):
    """Lend a package of this environment to another one."""
    for top in {path.parts[0] for path in distribution.files or [] if path.parts[0] not in ("..", "__pycache__")}:
        source, place = Path(distribution.locate_file(top)), site_packages / top
        if source.exists() and not place.exists():  # several packages may share a folder, as CUDA's do
            place.symlink_to(source, target_is_directory=source.is_dir())


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """The folder of the environment's programs. Nothing is fetched from anywhere."""
    folder = tmp_path_factory.mktemp("light")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True, env=environment())
    [wheel] = folder.glob("dglab-*.whl")
    venv.create(folder / "env", with_pip=True)
    programs = folder / "env" / "bin"
    install = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, env=environment())
    [site_packages] = (folder / "env" / "lib").glob("python3*/site-packages")
    [own] = metadata.distributions(name="dglab", path=[str(site_packages)])
    for distribution in distributions(own.requires).values():
        link(distribution, site_packages)
    return programs


def environment():
    """This process's environment variables without what leads to other packages."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


@pytest.fixture
def run(light, tmp_path):
    """Run a program of the environment, in a folder far from this repository."""

    def run(*command, expect=0):
        command = [str(light / command[0]), *map(str, command[1:])]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment())
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_the_environment_has_nothing_of_the_extras(run):
    code = (
        "from importlib.util import find_spec; import dglab, torch; from dglab.utils.extras import EXTRAS\n"
        "print(dglab.__file__, [name for names in EXTRAS.values() for name in names if find_spec(name)])"
    )
    place, found = run("python", "-c", code).split(maxsplit=1)
    assert found.strip() == "[]" and not Path(place).is_relative_to(REPOSITORY)
    assert "pip install 'dglab[lessons]'" in run("dglab", "doctor")


def test_it_wraps_a_network_of_torchvision(run):
    code = """
import torch
from torchvision.models.segmentation import lraspp_mobilenet_v3_large
from dglab.testtime import ImageBank, TargetNormalization

model = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=19)
bank = ImageBank(model, "backbone.3", neighbors=2)
for image in torch.rand(4, 1, 3, 64, 96):
    output = bank(image)["out"]
print(tuple(TargetNormalization(model)(torch.rand(2, 3, 64, 96))["out"].shape), tuple(output.shape), len(bank.selected))
"""
    assert run("python", "-W", "ignore", "-c", code).split("\n")[0] == "(2, 19, 64, 96) (1, 19, 64, 96) 2"


@pytest.mark.long
def test_it_trains_evaluates_and_predicts(run, tmp_path):
    assert "reproduce" in run("dglab", "--help")
    tiny = ["--preset", "tiny", "--device", "cpu", "--task", "G+S->C"]
    assert "trained: " in run("dglab", "train", "--method", "mldg", "--out", "run", "--steps", "2", *tiny)
    checkpoint = ["--checkpoint", tmp_path / "run" / "last.safetensors", "--device", "cpu"]
    assert "mIoU" in run("dglab", "evaluate", *checkpoint, "--task", "G+S->C", "--method", "sib")
    (tmp_path / "images").mkdir()
    scene = render(STREETS["C"], "val", 0, height=32, width=64)
    Image.fromarray(scene.image).save(tmp_path / "images" / "a.png")
    assert "predicted 1 image" in run(
        "dglab", "predict", *checkpoint, "--images", "images", "--method", "bn", "--out", "new"
    )
    assert [path.name for path in (tmp_path / "new" / "labels").iterdir()] == ["a.png"]


def test_what_is_left_out_says_so(run):
    message = run("dglab", "reproduce", "--preset", "tiny", expect=2)
    assert message.startswith("error: dglab.experiments needs pandas, ") and "pip install 'dglab[lessons]'" in message
    assert len(message.splitlines()) == 1
    for room in ("teaching", "report", "analysis", "experiments"):
        message = run("python", "-c", f"import dglab.{room}", expect=1)
        assert f"MissingExtra: dglab.{room} needs " in message
