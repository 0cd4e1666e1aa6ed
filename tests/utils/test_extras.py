"""The message for what a plain install leaves out, and that it knows what pyproject.toml leaves out."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dglab.models import build_model
from dglab.models.weights import starting_weights
from dglab.training.log import read_log
from dglab.utils.errors import InputError
from dglab.utils.extras import EXTRAS, MissingExtra, extras_named

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def modules(requirements):
    """The modules of a list of requirements, without other extras of dglab: called as their packages are."""
    names = {re.match(r"[\w-]+", requirement).group() for requirement in requirements} - {"dglab"}
    return {name.replace("-", "_") for name in names}


def test_every_extra_is_known_by_its_modules():
    extras = {name: modules(needs) for name, needs in PROJECT["optional-dependencies"].items() if name != "dev"}
    extras["lessons"] ^= {"jinja2", "IPython"}  # torch brings the one in any case, jupyterlab the other
    assert {name: set(packages) for name, packages in EXTRAS.items()} == extras
    assert not modules(PROJECT["dependencies"]) & set().union(*EXTRAS.values())
    [ours] = [need for need in PROJECT["optional-dependencies"]["dev"] if need.startswith("dglab[")]
    assert {"lessons", "tensorboard", "surgery", "weights", "cluster"} <= set(re.findall(r"\w+", ours))


@pytest.fixture
def plain(monkeypatch):
    """As in a plain install: what the extras bring cannot be imported."""
    for packages in EXTRAS.values():
        for package in packages:
            monkeypatch.setitem(sys.modules, package, None)


def test_what_is_missing_is_named_with_its_extra(plain):
    with pytest.raises(MissingExtra) as caught, extras_named("dglab reproduce"):
        import pandas.api.types  # noqa: F401
    assert str(caught.value) == (
        "dglab reproduce needs pandas, which a plain install leaves out: pip install 'dglab[lessons]' "
        "(in a clone: pip install '.[lessons]')"
    )
    assert isinstance(caught.value, InputError) and isinstance(caught.value, ModuleNotFoundError)
    assert caught.value.name == "pandas"


def test_the_innermost_name_stays(plain):
    with pytest.raises(MissingExtra, match="^the backbone hrnet needs timm"), extras_named("dglab train"):
        with extras_named("the backbone hrnet"):
            import timm  # noqa: F401


@pytest.mark.parametrize("name", ["no_such_package", "pandas.no_such_module", "dglab.no_such_module"])
def test_other_packages_are_no_business_of_the_extras(name):
    with pytest.raises(ModuleNotFoundError) as caught, extras_named("dglab reproduce"):
        __import__(name)
    assert not isinstance(caught.value, MissingExtra)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build_model("hrnet"), r"the backbone hrnet needs timm.*dglab\[models\]"),
        (lambda: build_model("efficientnet-lite0"), r"the backbone efficientnet-lite0 needs timm"),
        (lambda: starting_weights("hrnet", "imagenet"), r"needs timm.*dglab\[models\]"),
        (lambda: starting_weights("efficientnet-lite0", "imagenet"), r"from ImageNet needs timm"),
    ],
)
def test_networks_of_timm_say_so(plain, call, message):
    with pytest.raises(MissingExtra, match=message):
        call()


def test_the_log_as_a_table_says_so(plain, tmp_path):
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(MissingExtra, match=r"read_log needs pandas.*dglab\[lessons\]"):
        read_log(tmp_path)


def test_the_library_imports_nothing_of_the_extras():
    code = (
        "import sys, dglab.data, dglab.models, dglab.training, dglab.testtime, dglab.evaluation\n"
        "import dglab.cli, dglab.testtime.folder, dglab.data.prepared, data_prep.__main__\n"
        f"print(*sorted(set(sys.modules) & {set().union(*EXTRAS.values())!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr
