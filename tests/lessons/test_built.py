"""What a student builds in the lessons is what the library does: the cells tagged "build", run on inputs of our own."""

import copy
import dataclasses
import math
from pathlib import Path

import nbformat
import pytest
import torch
from torch import nn

from dglab.data import streets_domains
from dglab.models import build_model
from dglab.presets import PRESETS
from dglab.testtime import ImageBank, PlainBank, Style, TargetNormalization, style_distance, styles_of
from dglab.training import agg_backward, cross_entropy, mldg_backward
from dglab.training.gmp import modulation_coefficients, project_conflict
from dglab.training.trainer import training_batches

pytestmark = pytest.mark.numerical

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def built(lesson):
    """The names that the cells of a lesson define which a student writes."""
    names = {"torch": torch, "nn": nn, "F": nn.functional, "copy": copy, "math": math}
    notebook = nbformat.read(NOTEBOOKS / f"{lesson}.ipynb", 4)
    cells = [cell for cell in notebook.cells if "build" in cell.metadata.get("tags", [])]
    assert cells
    for cell in cells:
        exec(cell.source, names)
    return names


@pytest.fixture(scope="module")
def net():
    """In double precision, with running statistics worth the name."""
    model = build_model("thin", seed=1).double().train()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(3):
            model(torch.rand(4, 3, 32, 48, dtype=torch.float64))
    return model.eval()


def batch(seed, count=2):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 19, (count, 32, 48), generator=generator)
    labels[:, :5] = 255
    return torch.rand(count, 3, 32, 48, generator=generator, dtype=torch.float64), labels


def test_02_the_loss_is_aggs(net):
    model, (images, labels) = copy.deepcopy(net), batch(0, 6)
    loss = built("02_agg")["agg_loss"](model, images.view(2, 3, 3, 32, 48), labels.view(2, 3, 32, 48))
    loss.backward()
    mine = [parameter.grad for parameter in model.parameters()]
    assert agg_backward(model, cross_entropy, (images, labels)).ds == pytest.approx(loss.item(), rel=1e-12)
    for parameter, gradient in zip(model.parameters(), mine, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-12)


class ToDouble(nn.Module):
    """Four steps amplify the rounding of single precision."""

    def forward(self, images):
        return images.double()


def test_02_the_loop_trains_to_the_weights_of_the_librarys_gradient():
    config = dataclasses.replace(PRESETS["tiny"].training, sources=("G", "S"))
    batches = training_batches(config, streets_domains(32, 64, 4, 4), seed=0, steps=4)
    models = [nn.Sequential(ToDouble(), build_model("thin", seed=0).double()).train() for _ in range(2)]
    torch.manual_seed(0)
    history = built("02_agg")["train_agg"](models[0], batches, 4, 0.1)
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(models[1].parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    for step in range(4):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 4) ** 0.9  # "poly"
        images, labels = batches[step]
        data = images.flatten(0, 1).float() / 255, labels.flatten(0, 1).long()
        assert agg_backward(models[1], cross_entropy, data).ds == pytest.approx(history[step], rel=1e-9)
        optimizer.step()
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("order", "name"), [(1, "mldg_first_order"), (2, "mldg_second_order")])
@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_03_both_orders_are_the_librarys(net, order, name, alpha):
    model = copy.deepcopy(net)
    mine = built("03_mldg")[name](model, batch(1), batch(2, 3), 0.05, alpha)
    mldg_backward(model, cross_entropy, batch(1), batch(2, 3), 0.05, alpha, order)
    for parameter, gradient in zip(model.parameters(), mine, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-12)


def test_03_in_training_mode_the_same_pass_moves_the_running_statistics(net):
    mine, library = copy.deepcopy(net).train(), copy.deepcopy(net).train()
    for model in (mine, library):
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    built("03_mldg")["mldg_first_order"](mine, batch(1), batch(2), 0.05)
    mldg_backward(library, cross_entropy, batch(1), batch(2), 0.05)
    for a, b in zip(mine.buffers(), library.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_04_the_hook_is_tn(net):
    images = batch(3, 4)[0]
    mine, library = built("04_tn")["predict_with_tn"](net, images), TargetNormalization(net)(images)
    assert (mine - library).abs().max() <= 1e-9 * library.abs().max()
    assert not any(module._forward_hooks for module in net.modules())


def test_05_style_and_distance_are_the_librarys(net):
    names, images = built("05_sib"), batch(4, 2)[0]
    mine = [names["style_of"](net, image) for image in images.split(1)]
    theirs = styles_of(net, images, "layer1")
    for i in range(2):
        torch.testing.assert_close(mine[i][0].float(), theirs.mean[i], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(mine[i][1].float(), theirs.deviation[i], rtol=1e-5, atol=1e-6)
    expected = style_distance(Style(*mine[0]), Style(*mine[1])).item()
    assert names["distance"](*mine) == pytest.approx(expected, rel=1e-9)


def test_05_the_bank_is_the_librarys(net):
    banks = built("05_sib")["MyBank"](net, 3, 5), ImageBank(net, "layer1", 3, 5), PlainBank(net, "layer1", 3, 5)
    brightness = torch.linspace(0.2, 1, 12)[torch.randperm(12, generator=torch.Generator().manual_seed(0))]
    for image, bright in zip(batch(5, 12)[0].split(1), brightness, strict=True):
        mine, library, plain = (bank(image * bright) for bank in banks)
        assert (mine - library).abs().max() <= 1e-9 * library.abs().max()
        assert torch.equal(mine, plain)
        assert banks[0].selected == banks[1].selected == banks[2].selected


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_07_the_projection_is_the_librarys(gamma):
    project = built("07_gmp")["project"]
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        pair = torch.randn(2, 5, generator=generator, dtype=torch.float64)
        for mine, library in zip(project(*pair, gamma), project_conflict(*pair, gamma), strict=True):
            torch.testing.assert_close(mine, library, rtol=1e-12, atol=1e-12)


def test_07_the_coefficients_are_the_librarys():
    build = built("07_gmp")["coefficients"]
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        q, c = ({name: torch.rand(4, generator=generator) for name in ("rgb", "depth")} for _ in range(2))
        for name, of in modulation_coefficients(q, c, 0.5, 0.3).items():
            other = "depth" if name == "rgb" else "rgb"
            mine = build(q[name].sum(), q[other].sum(), c[name].sum(), c[other].sum(), 0.5, 0.3)
            assert [float(value) for value in mine] == pytest.approx([of.rho, of.sigma, of.k, of.p], rel=1e-5)
