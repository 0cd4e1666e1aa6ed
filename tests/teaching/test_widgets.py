"""A picture is the one for its controls' values; what the still figures show."""

import io

import ipywidgets
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dglab.classes import colorize
from dglab.data import Joined, streets_domains
from dglab.evaluation import ConfusionMatrix
from dglab.models import build_model
from dglab.report import figures
from dglab.teaching import widgets
from dglab.testtime import ImageBank, SourceNormalization, TargetNormalization

H, W = 32, 64


@pytest.fixture(scope="module")
def stream():
    """Six images of two domains."""
    domains = streets_domains(H, W, train_images=1, val_images=3)
    return Joined([domains["I"].val, domains["C"].val])


@pytest.fixture(scope="module")
def model(stream):
    """Untrained, but with the running statistics of these images."""
    net = build_model("thin", seed=0).train()
    with torch.no_grad():
        net(torch.stack([stream[i][0] for i in range(6)]).float() / 255)
    return net.eval()


def controls(widget):
    """The controls of a widget by their description, and its picture."""
    row, screen = widget.children
    assert isinstance(screen, ipywidgets.Image)
    return {control.description: control for control in row.children}, screen


def images(fig):
    """title -> what is shown under it."""
    return {axis.get_title(): np.asarray(axis.images[0].get_array()) for axis in fig.axes if axis.images}


def pixels(image):
    return image.permute(1, 2, 0).numpy()


def floats(image):
    return image[None].float() / 255


def scored(name, prediction, label):
    matrix = ConfusionMatrix()
    matrix.update(prediction, label)
    return f"{name}mIoU of this image {100 * matrix.miou():.1f}"


# ------------------------------------------------------------------------------------------- controls and pictures


def test_a_picture_follows_its_controls():
    seen = []

    def draw(number, name):
        seen.append((number, name))
        fig, axis = figures.figure(size=(2, 1))
        axis.set_title(f"{name} {number}")
        return fig

    number, name = ipywidgets.IntSlider(1, 0, 5, description="number"), ipywidgets.Text("a", description="name")
    found, screen = controls(widgets.redraw(draw, {"number": number, "name": name}))
    assert found == {"number": number, "name": name} and seen == [(1, "a")]  # drawn at once
    first = bytes(screen.value)
    with Image.open(io.BytesIO(first)) as picture:
        assert picture.format == "PNG" and picture.size == (160, 80)
    number.value = 4
    second = bytes(screen.value)
    name.value = "b"
    assert seen == [(1, "a"), (4, "a"), (4, "b")] and len({first, second, bytes(screen.value)}) == 3
    number.value, name.value = 1, "a"
    assert bytes(screen.value) == first


def test_losses_are_drawn_at_the_last_step_and_no_more_often_than_asked(monkeypatch):
    logs = []
    drawing = figures.training_curve
    monkeypatch.setattr(figures, "training_curve", lambda log, steps: logs.append(log) or drawing(log, steps=steps))
    lines = [{"step": step, "lr": 0.1, "ds": 3.0 - step, "dg": None, "total": 3.0 - step} for step in range(4)]
    for every, drawn in ((1e9, [1, 4]), (0, [1, 2, 3, 4])):
        logs.clear()
        screen, on_log = widgets.live_losses(4, every=every)
        assert bytes(screen.value) == b""
        for line in lines:
            on_log(line)
        assert [len(log) for log in logs] == drawn
    pd.testing.assert_frame_equal(logs[-1], pd.DataFrame(lines).astype(float))
    assert bytes(screen.value).startswith(b"\x89PNG")


# --------------------------------------------------------------------------------------------- what is in a picture


@pytest.mark.parametrize(("arrival", "m"), [(0, 1), (4, 3)])  # the second goes round to the first arrivals
def test_tn_beside_source_bn(model, stream, arrival, m):
    order = [3, 1, 5, 0, 2, 4]
    fig = widgets.tn_figure(model, stream, order, arrival, m)
    members = [order[(arrival + i) % 6] for i in range(m)]
    image, label = stream[members[0]]
    source = SourceNormalization(model)(floats(image)).argmax(1)[0]
    target = TargetNormalization(model)(torch.cat([floats(stream[i][0]) for i in members])).argmax(1)[0]
    expected = {
        f"image {members[0]}, normalized with {m - 1} others": pixels(image),
        "ground truth": colorize(label.numpy()),
        scored("source BN: ", source, label): colorize(source.numpy()),
        scored(f"TN, M = {m}: ", target, label): colorize(target.numpy()),
    }
    found = images(fig)
    assert list(found) == list(expected) and len(fig.legends[0].texts) == 19
    for title, picture in expected.items():
        assert np.array_equal(found[title], picture)


@pytest.mark.parametrize(("arrival", "capacity"), [(0, 4), (5, 2), (5, 4)])
def test_whom_the_bank_chooses(model, stream, arrival, capacity):
    order = [3, 1, 5, 0, 2, 4]
    fig = widgets.bank_figure(model, stream, order, arrival, 2, capacity, "layer2")
    bank = ImageBank(model, "layer2", neighbors=2, capacity=capacity)
    past = order[max(0, arrival - capacity) : arrival]
    for number in past:
        bank(floats(stream[number][0]))
    image, label = stream[order[arrival]]
    joint = bank(floats(image)).argmax(1)[0]
    source = SourceNormalization(model)(floats(image)).argmax(1)[0]
    chosen = [past[number] for number in bank.selected]
    assert len(chosen) == min(2, len(past))
    expected = [
        (f"arrival {arrival}, domain {stream.domain_of(order[arrival])}", pixels(image)),
        ("ground truth", colorize(label.numpy())),
        (scored("source BN:\n", source, label), colorize(source.numpy())),
        (scored("SIB:\n", joint, label), colorize(joint.numpy())),
    ] + [
        (f"chosen: domain {stream.domain_of(number)}, distance {distance:.2f}", pixels(stream[number][0]))
        for number, distance in zip(chosen, bank.distances, strict=True)
    ]
    found = [(axis.get_title(), np.asarray(axis.images[0].get_array())) for axis in fig.axes if axis.images]
    assert [title for title, _ in found] == [title for title, _ in expected]
    for (_, picture), (_, other) in zip(found, expected, strict=True):
        assert np.array_equal(picture, other)
