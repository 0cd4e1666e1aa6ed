import pytest
import torch
from PIL import Image


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=2, help="how often the test of killed runs kills its process")
    parser.addoption("--interrupts", type=int, default=100, help="how often the tests of Ctrl-C raise it")


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
