"""What is seen of a training's gradients is what the training computes."""

import dataclasses

import pytest
import torch

from dglab.analysis.gradients import domain_conflicts, follow, race
from dglab.data import streets_domains
from dglab.data.multimodal import flatten_modalities
from dglab.experiments.runner import Lab
from dglab.presets import PRESETS
from dglab.training import cross_entropy, train
from dglab.training.checkpoints import load_checkpoint
from dglab.training.gmp import gmp_backward
from dglab.training.methods import modalities_of, to_device
from dglab.training.projected import projected_backward
from dglab.training.trainer import begin, training_batches
from dglab.utils.errors import InputError

pytestmark = pytest.mark.numerical

CONFIG = dataclasses.replace(
    PRESETS["tiny"].training, sources=("G", "S"), steps=3, lr=0.02, data=PRESETS["tiny"].streets
)
JOINT = dataclasses.replace(CONFIG, method="gmp", variant="joint")


@pytest.fixture(scope="module")
def domains():
    return {modalities: streets_domains(32, 64, 4, 1, modalities) for modalities in ((), ("rgb", "depth"))}


@pytest.mark.parametrize("config", [CONFIG, JOINT], ids=["agg", "joint"])
def test_who_looks_on_changes_nothing(domains, tmp_path, config):
    at_hand = domains[modalities_of(config)]
    trained, _ = load_checkpoint(train(config, at_hand, tmp_path, progress=False))
    before, seen = torch.get_rng_state(), []
    model = follow(config, at_hand, lambda step, *_: seen.append(step), every=2)
    assert seen == [0, 2] and torch.equal(before, torch.get_rng_state())
    followed = model.state_dict()
    assert all(torch.equal(tensor, followed[name]) for name, tensor in trained.state_dict().items())


def test_the_race_tells_what_gmp_sees(domains):
    at_hand = domains[("rgb", "depth")]
    log = race(JOINT, at_hand, every=2)
    assert list(log["step"]) == [0, 0, 2, 2] and list(log["modality"]) == ["rgb", "depth"] * 2

    model = begin(JOINT, None, torch.device("cpu")).model  # as before step 0
    batch = to_device(training_batches(JOINT, at_hand, seed=JOINT.seed, steps=3)[0], torch.device("cpu"))
    seen = []

    def looking(g_c, _, of):
        seen.append(of)
        return g_c

    with torch.random.fork_rng():
        gmp_backward(model, cross_entropy, flatten_modalities(batch), alpha_k=0.5, alpha_p=0.5, variant=looking)
    for (_, row), of in zip(log[log["step"] == 0].iterrows(), seen, strict=True):
        assert row["rho"] * log["rho"][1 - row.name] == pytest.approx(1)  # of two, one's ratio is the other's inverse
        assert 0 <= row["semantic"] <= 1 and 0 <= row["domain"] <= 1 and 0 < row["k"] <= 1 and 0 < row["p"] <= 1
        assert row["sigma"] == pytest.approx(of.sigma, rel=1e-4)  # no dropout lies before it
        assert row["norm_d"] >= 0 and row["norm_c"] > 0 and -1 <= row["cosine"] <= 1
        assert row["norm_d"] == pytest.approx(0, abs=1e-12)  # gradient reversal begins at zero


def test_conflicts_are_told_by_layer_and_as_a_whole(domains):
    log = domain_conflicts(CONFIG, domains[()], every=2)
    assert list(dict.fromkeys(log["layer"])) == ["stem", "layer1", "layer2", "layer3", "layer4", "head", "all"]
    assert log["cosine"].between(-1, 1).all() and set(log["step"]) == {0, 2}


def test_images_alone_have_no_race(domains):
    with pytest.raises(InputError, match="the domain G has plain images"):
        race(JOINT, domains[()])


class Line(torch.nn.Module):
    """Two parameters; a domain's "image" is the point that it wants them at."""

    def __init__(self, start):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def forward(self, images):
        return self.theta[None] - images.flatten(1)


def half_square(output, labels):
    return 0.5 * (output**2).sum(1).mean()


def at(x, y):
    return torch.tensor([[[[x, y]]]], dtype=torch.float64), torch.zeros(1, 1, 1, dtype=torch.long)


def test_the_domain_with_the_smaller_loss_gives_way():
    """By hand: (-1, 0) and (2, -2) conflict; the first has the smaller loss, and loses its part along the other."""
    model = Line([0.0, 0.0])
    losses = projected_backward(model, half_square, at(1.0, 0.0), at(-2.0, 2.0))
    assert (losses.ds, losses.dg, losses.total) == (0.5, 4.0, 4.5)
    torch.testing.assert_close(model.theta.grad, torch.tensor([-0.5 + 2, -0.5 - 2], dtype=torch.float64))
    assert torch.equal(model.theta.detach(), torch.zeros(2, dtype=torch.float64))
    projected_backward(model, half_square, at(-2.0, 2.0), at(1.0, 0.0))  # the other way round, the same one gives way
    torch.testing.assert_close(model.theta.grad, torch.tensor([1.5, -2.5], dtype=torch.float64))


def test_domains_that_agree_are_added():
    model = Line([0.0, 0.0])
    projected_backward(model, half_square, at(1.0, 0.0), at(2.0, 2.0))
    torch.testing.assert_close(model.theta.grad, torch.tensor([-3.0, -2.0], dtype=torch.float64))
    projected_backward(model, half_square, at(0.0, 0.0), at(2.0, 2.0))  # at its minimum nothing is ahead of it
    torch.testing.assert_close(model.theta.grad, torch.tensor([-2.0, -2.0], dtype=torch.float64))


def test_a_gradient_that_is_no_number_is_left_to_the_trainer():
    def distance(output, labels):
        return (output**2).sum().sqrt()  # whose slope at 0 is 0 / 0

    model = Line([0.0, 0.0])
    losses = projected_backward(model, distance, at(1.0, 0.0), at(0.0, 0.0))
    assert losses.total == 1 and model.theta.grad.isnan().all()


def test_the_study_compares_the_projection_with_the_inner_step(tmp_path):
    from dglab.experiments.trials import EXTRA_STUDIES

    lab = Lab(PRESETS["tiny"], "streets", tmp_path, "cpu", use_shipped=False)
    trials = EXTRA_STUDIES["domain_conflict"](lab)
    trained = [(trial.training.method, trial.training.inner_lr) for trial in trials if trial.test.method == "bn"]
    assert trained == [("mldg", 0.0), ("projected", 0.02), ("mldg", 0.02)]
