import gc
import os
from pathlib import Path

import pytest
import torch
from PIL import Image

START = Path(__file__).parent / "start"  # for the processes that tests start
_places = os.environ.get("PYTHONPATH", "").split(os.pathsep)
os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys((str(START), *filter(None, _places))))


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=2, help="how often the test of killed runs kills its process")
    parser.addoption("--interrupts", type=int, default=100, help="how often the tests of Ctrl-C raise it")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """No search for garbage while the tests are imported, and what they test."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items):
    """Files with a long test first, so that no process is left with one at the end; else in their order."""
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


def pytest_collection_finish():
    """What is imported stays: no search for garbage, and none for tensors, need go through these million objects."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish():
    gc.unfreeze()  # so that the end is as tidy as ever


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """The same bits are promised for the same number of threads; and images this small are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A lab of the preset tiny that computes everything itself."""
    from dglab.experiments.runner import Lab
    from dglab.presets import PRESETS

    return Lab(PRESETS["tiny"], "streets", tmp_path_factory.mktemp("results"), "cpu", use_shipped=False)


@pytest.fixture(scope="session")
def frames(lab):
    """The tidy table of each study on tiny."""
    from dglab.experiments.runner import run
    from dglab.experiments.trials import STUDIES

    return {name: run(lab, study(lab)) for name, study in STUDIES.items()}


@pytest.fixture(scope="session")
def prepared():
    """Makes a prepared root of streets: folders 0G, 1S, ... in the order of the letters."""
    return _prepared


def _prepared(root, letters, images=3):
    from dglab.data import streets_domains

    domains = streets_domains(32, 64, train_images=images, val_images=images)
    for number, letter in enumerate(letters):
        for split in ("train", "val"):
            part = getattr(domains[letter], split)
            for index in range(images):
                image, label = part[index]
                for kind, picture in (("images", image.permute(1, 2, 0)), ("labels", label)):
                    path = root / f"{number}{letter}" / split / kind / f"{index}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(picture.numpy()).save(path)
    return root


@pytest.fixture
def other_labels():
    """Calls every training method and normalization something else, as long as the test runs."""
    from dglab.experiments import methods

    shown = [*methods.TRAINING_METHODS]
    shown += [value for value in vars(methods).values() if isinstance(value, methods.Normalization)]
    before = [one.label for one in shown]
    for number, one in enumerate(shown):
        object.__setattr__(one, "label", f"label {number}")  # a frozen record lets nobody else
    yield
    for one, label in zip(shown, before, strict=True):
        object.__setattr__(one, "label", label)


@pytest.fixture(scope="session")
def gmp_table():
    """Makes a tidy table of GMP's three studies in which all its claims hold: changed gains, number of trainings."""
    return _gmp_table


def _gmp_table(change=(), seeds=3):
    import pandas as pd

    from dglab.experiments.table import COLUMNS, TYPES

    def rows_of(study, variant, gain, *, branch=None, modalities="rgb+depth", domain="C"):
        noise = (0.0, 0.02, -0.02)
        return [
            {"study": study, "task": "G+S->C", "target": "C", "domain_evaluated": domain, "train_method": "gmp",
             "test_method": "bn", "variant": variant, "modalities": modalities, "branch": branch, "train_seed": seed,
             "metric": "miou", "value": 20 + gain + noise[seed]}
            for seed in range(seeds)
        ]  # fmt: skip

    gains = {"joint": 0.0, "igdm": 1.0, "cagp": 1.0, "gmp": 2.0, "unified": 0.5, "ogm_ge": 0.5, **dict(change)}
    rows = [row for variant in list(gains)[:5] for row in rows_of("gmp_ablation", variant, gains[variant])]
    for domain, gain in (("G", 3.0), ("S", 1.0), ("C", gains["ogm_ge"])):  # on the sources 2 on average
        rows += rows_of("gmp_strategies", "joint", 0.0, domain=domain)
        rows += rows_of("gmp_strategies", "ogm_ge", gain, domain=domain)
    for name, alone in (("rgb", 4.0), ("depth", 3.0)):
        rows += rows_of("gmp_branches", "joint", alone, branch=name, modalities=name)
        rows += rows_of("gmp_branches", "joint", 0.0, branch=name)
        rows += rows_of("gmp_branches", "gmp", 1.5, branch=name)
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS)).astype(TYPES)
