"""What the explorers show is what the library predicts, arrival by arrival; and each control reaches it."""

import numpy as np
import pytest
import torch

from dglab.data import Joined, streets_domains
from dglab.data.streams import arrival_order
from dglab.evaluation import evaluate
from dglab.models import build_model
from dglab.teaching import toy
from dglab.teaching.explorers import bank, batch, explore_arrivals, explore_batch_size, explore_mldg, rehearsal
from dglab.testtime import ImageBank, SourceNormalization, TargetNormalization, shift_by_layer

H, W = 32, 64


@pytest.fixture(scope="module")
def stream():
    """Eight images of two domains."""
    domains = streets_domains(H, W, train_images=1, val_images=4)
    return Joined([domains["I"].val, domains["C"].val])


@pytest.fixture(scope="module")
def model(stream):
    """Untrained, but with the running statistics of these images."""
    net = build_model("thin", seed=0).train()
    with torch.no_grad():
        net(torch.stack([stream[i][0] for i in range(8)]).float() / 255)
    return net.eval()


def floats(stream, places):
    return torch.stack([stream[i][0] for i in places]).float() / 255


def controls(widget):
    """By description; the line of words; the picture."""
    row, note, screen = widget.children
    return {control.description: control for control in row.children}, note, screen


# ------------------------------------------------------------------------------------------------------------- MLDG


@pytest.mark.parametrize(("eta", "alpha", "order"), [(0.0, 1.0, 1), (0.3, 0.5, 1), (0.3, 1.0, 2)])
def test_a_rehearsal_by_hand(eta, alpha, order):
    theta = np.array([-1.0, 0.5])
    (c, a), (d, b) = ((bowl[0][0].numpy(), bowl[0][1:].numpy()) for bowl in (rehearsal.DS, rehearsal.DG))
    found = rehearsal.rehearse(tuple(theta.tolist()), eta, alpha, order)

    def outer(theta):
        g_dg = b @ (theta - eta * a @ (theta - c) - d)
        return (g_dg - eta * a @ g_dg if order == 2 else g_dg) + alpha * a @ (theta - c)

    np.testing.assert_allclose(found.ahead, theta - eta * a @ (theta - c), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.outer, outer(theta), rtol=1e-4, atol=1e-5)
    for _ in range(rehearsal.STEPS):
        theta = theta - rehearsal.LR * outer(theta)
    np.testing.assert_allclose(found.path[-1], theta, rtol=1e-3, atol=1e-4)


def test_the_path_is_the_toys():
    path = rehearsal.rehearse((-1.1, 1.2), 0.35, 1.0, 2).path
    same = toy.descend(
        (-1.1, 1.2), rehearsal.DS, rehearsal.DG, inner_lr=0.35, lr=rehearsal.LR, steps=rehearsal.STEPS, order=2
    )
    np.testing.assert_allclose(path, same, rtol=1e-4, atol=1e-5)


def test_the_sliders_of_mldg():
    found, note, screen = controls(explore_mldg())
    for description, value in {"first parameter": 2.0, "inner rate η": 0.0, "weight α": 0.0, "order": 2}.items():
        before = bytes(screen.value)
        found[description].value = value
        if description != "order":  # without an inner step both orders are the same
            assert bytes(screen.value) != before
    assert note.value == ""


# ------------------------------------------------------------------------------------------------------- batch size


@pytest.mark.parametrize(("arrival", "m"), [(0, 1), (6, 4)])
def test_a_look_at_an_image_is_the_librarys(model, stream, arrival, m):
    order = arrival_order(8, 0)
    found = batch.look(model, stream, order, arrival, m)
    members = [order[(arrival + i) % 8] for i in range(m)]
    images = floats(stream, members)
    assert torch.equal(found.source, SourceNormalization(model)(images[:1]).argmax(1)[0])
    assert torch.equal(found.target, TargetNormalization(model)(images).argmax(1)[0])
    assert found.shift == pytest.approx(shift_by_layer(model, images))
    alone = [(stream[members[0]][0], stream[members[0]][1])]
    assert np.nanmean(found.iou["source BN"]) == pytest.approx(
        100 * evaluate(SourceNormalization(model), alone).miou(), rel=1e-9
    )
    assert len(batch.look_figure(found).axes) == 6


def test_errors_are_where_labels_say_otherwise():
    found = batch.wrong(torch.tensor([[0, 1, 2]]), torch.tensor([[0, 5, 255]]))
    assert found.tolist() == [[0.0, 1.0, 0.5]]


def test_the_sliders_of_the_batch_size(model, stream):
    found, note, screen = controls(explore_batch_size({"AGG": model}, stream))
    before = bytes(screen.value)
    found["batch size M"].value = 8
    assert bytes(screen.value) != before and note.value == ""
    found["batch size M"].value = 16
    assert note.value == "M = 16 needs 16 images; the stream has 8"


# ------------------------------------------------------------------------------------------------------- image bank


@pytest.mark.parametrize("options", [{"policy": "style"}, {"policy": "queue"}, {"policy": "oracle"}])
def test_arrivals_are_the_librarys(model, stream, options):
    order = arrival_order(8, 0)
    player = bank.Player(model, stream, order, neighbors=2, capacity=3, **options)
    last = player.at(7)
    reference = ImageBank(model, neighbors=2, capacity=3, **options)
    right = []
    for arrival, place in enumerate(order):
        logits = reference(floats(stream, [place]), domain=stream.domain_of(place))
        moment = player.at(arrival)
        assert torch.equal(list(moment.predictions.values())[2], logits.argmax(1)[0].byte())
        assert moment.neighbors == reference.selected and moment.distances == reference.distances
        assert moment.queue == [stream.domain_of(i) for i in order[max(0, arrival - 3) : arrival]]
        right += [stream.domain_of(order[i]) == moment.domain for i in reference.selected]
        assert moment.accuracy == pytest.approx(100 * np.mean(right)) if right else np.isnan(moment.accuracy)
    source = evaluate(SourceNormalization(model), stream, test_seed=0).miou()
    assert last.miou["source BN"] == pytest.approx(100 * source, rel=1e-9)


def test_going_back_shows_what_was(model, stream):
    player = bank.Player(model, stream, arrival_order(8, 0), neighbors=2, capacity=4)
    first, later = player.at(2), player.at(6)
    assert player.at(2) is first and player.at(6) is later and len(player.moments) == 7
    titles = [axis.get_title() for axis in bank.moment_figure(player, 2).axes if axis.get_title()]
    assert titles[0] == f"arrival 2, domain {first.domain}" and "the bank holds 2, oldest first" in titles


def test_the_controls_of_the_bank(model, stream):
    top, below = explore_arrivals({"MLDG": model}, stream, (2, 8), (1, "layer2")).children
    play, speed = top.children
    found, note, screen = controls(below)
    assert (play.min, play.max, play.interval) == (0, 7, bank.MILLISECONDS)
    speed.value = 4.0
    assert play.interval == bank.MILLISECONDS // 4
    for description, value in {"arrival": 5, "policy": "queue", "style layer": "layer2", "neighbours M": 2}.items():
        before = bytes(screen.value)
        found[description].value = value
        assert bytes(screen.value) != before and note.value == ""
    found["neighbours M"].value, found["queue Q"].value = 4, 2
    assert note.value == "M = 4 neighbours cannot come from a bank of Q = 2"
