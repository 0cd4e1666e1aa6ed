"""What the explorers show is what the library predicts, arrival by arrival; and each control reaches it."""

import datetime
import io

import numpy as np
import pytest
import torch
from PIL import Image

from dglab.data import Joined, streets_domains
from dglab.data.shifts import Shifted
from dglab.data.streams import arrival_order
from dglab.data.streets import STREETS, render
from dglab.data.streets.blend import blend
from dglab.evaluation import evaluate
from dglab.models import build_model
from dglab.teaching import toy
from dglab.teaching.explorers import (
    bank,
    batch,
    dose,
    explore_arrivals,
    explore_batch_size,
    explore_dose,
    explore_mldg,
    explore_picture,
    explore_projection,
    explore_styles,
    mixer,
    own,
    projection,
    rehearsal,
)
from dglab.testtime import (
    GuardedNormalization,
    ImageBank,
    SourceNormalization,
    SourceReference,
    TargetNormalization,
    shift_by_layer,
    styles_of,
)
from dglab.utils.errors import InputError

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
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


def controls(widget, before=0):
    """By description, without the first ones; the line of words; the sheet."""
    row, note, screen, _ = widget.children
    return {c.description: c for c in row.children[before:] if hasattr(c, "description")}, note, screen


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
        before = screen.value
        found[description].value = value
        if description != "order":  # without an inner step both orders are the same
            assert screen.value != before
    assert note.value == ""


# -------------------------------------------------------------------------------------------------- GMP's projection


@pytest.mark.parametrize(
    ("gamma", "words"),
    [
        (1.5, ("classification is ahead", "left of g_c (0.50, 0.50)", "before (0.00, 1.00)", "step (−0.50, 1.50)")),
        (0.7, ("invariance is ahead", "left of g_d (0.00, 1.00)", "before (0.00, 1.00)", "step (1.00, 1.00)")),
        (1.0, ("neither task is ahead", "step (0.00, 1.00)")),
    ],
)
def test_a_projection_by_hand(gamma, words):
    """g_c = (1, 0), g_d = (-1, 1)."""
    g_c, g_d = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    shown = projection.projection_sheet(g_c, g_d, gamma)
    assert all(text in shown for text in ("135 degrees apart: a conflict", *words))
    assert ("what is left" in shown) == (gamma != 1) and shown.count('onpointerdown="') == 2


def test_the_sliders_of_a_projection_of_ones_own():
    found, note, screen = controls(explore_projection(lambda g_c, g_d, gamma: (gamma * g_c, 0 * g_d)))
    assert "step (1.41, 0.51)" in screen.value  # 1.5 (cos 20, sin 20)
    steps = {"angle of g_c": 0, "length of g_c": 0.5, "Γ": 2.0, "angle of g_d": 90, "length of g_d": 0.0}
    for description, value in steps.items():
        before = screen.value
        found[description].value = value
        assert screen.value != before
    assert "step (1.00, 0.00)" in screen.value and "one of them is zero" in screen.value and note.value == ""


# ------------------------------------------------------------------------------------------------------- batch size


@pytest.mark.parametrize(("arrival", "m"), [(0, 1), (6, 4)])
def test_a_look_at_an_image_is_the_librarys(model, stream, arrival, m):
    order = arrival_order(8, 0)
    found = batch.compare(model, stream, order, arrival, m)
    members = [order[(arrival + i) % 8] for i in range(m)]
    images = floats(stream, members)
    assert torch.equal(found.source, SourceNormalization(model)(images[:1]).argmax(1)[0])
    assert torch.equal(found.target, TargetNormalization(model)(images).argmax(1)[0])
    assert found.shift == pytest.approx(shift_by_layer(model, images))
    alone = [(stream[members[0]][0], stream[members[0]][1])]
    assert np.nanmean(found.iou["source BN"]) == pytest.approx(
        100 * evaluate(SourceNormalization(model), alone).miou(), rel=1e-9
    )
    shown = batch.comparison_sheet(found, "classes")
    assert f"TN, M = {m}: {np.nanmean(found.iou[f'TN, M = {m}']):.1f} % mIoU" in shown and shown.count("<img") == 4


def test_the_sliders_of_the_batch_size(model, stream):
    found, note, screen = controls(explore_batch_size({"AGG": model}, stream))
    before = screen.value
    found["batch size M"].value = 8
    assert screen.value != before and note.value == ""
    found["batch size M"].value = 16
    assert "M = 16 needs 16 images; the stream has 8" in note.value


# ------------------------------------------------------------------------------------------------------- image bank


@pytest.fixture(scope="module")
def reference(model, stream):
    return SourceReference.measure(model, floats(stream, range(4)))


@pytest.mark.parametrize("policy", ["style", "queue", "oracle", "random"])
def test_arrivals_are_the_librarys(model, stream, reference, policy):
    order = arrival_order(8, 0)
    options = {"neighbors": 2, "capacity": 3}
    player = bank.Player(bank.Arrivals(model, stream, order, reference), policy, **options)
    last = player.at(7)
    kinds = {"SIB": "style", "QIB": "queue", bank.BANKS[policy]: policy}
    banks = {name: ImageBank(model, policy=kind, **options) for name, kind in kinds.items()}
    guarded, shown = GuardedNormalization(model, reference), bank.BANKS[policy]
    right = {name: [] for name in banks}
    for arrival, place in enumerate(order):
        image, domain, moment = floats(stream, [place]), stream.domain_of(place), player.at(arrival)
        for name, one in banks.items():
            assert torch.equal(moment.predictions[name], one(image, domain=domain).argmax(1)[0].byte())
            right[name] += [stream.domain_of(order[i]) == domain for i in one.selected]
            percent = 100 * np.mean(right[name]) if right[name] else np.nan
            assert moment.accuracy[name] == pytest.approx(percent, nan_ok=True)
        assert torch.equal(moment.predictions["guarded"], guarded(image).argmax(1)[0].byte())
        assert moment.neighbors == banks[shown].selected
        np.testing.assert_array_equal(moment.distances, banks[shown].distances)
        assert moment.queue == [stream.domain_of(i) for i in order[max(0, arrival - 3) : arrival]]
    source = evaluate(SourceNormalization(model), stream, test_seed=0).miou()
    assert last.miou["source BN"] == pytest.approx(100 * source, rel=1e-9)


def test_going_back_shows_what_was(model, stream):
    player = bank.Player(bank.Arrivals(model, stream, arrival_order(8, 0)), neighbors=2, capacity=4)
    first, later = player.at(2), player.at(6)
    assert player.at(2) is first and player.at(6) is later and len(player.moments) == 7
    shown = bank.moment_sheet(player, 2)
    assert f"arrival 2, from domain {first.alone.domain}" in shown and "the bank holds 2 of at most 4 images" in shown


def test_what_takes_long_is_shown_as_it_grows(model, stream, monkeypatch):
    """With other settings the stream is played again; each arrival may be seen on the way."""
    monkeypatch.setattr(bank, "PATIENCE", -1.0)
    seen = []
    monkeypatch.setattr(bank, "moment_sheet", lambda player, arrival, overlay: seen.append(arrival) or "")
    found, _, _ = controls(explore_arrivals({"MLDG": model}, stream, (2, 8), (1,)), before=2)
    found["arrival"].value = 3
    assert seen == [0, 0, 1, 2, 3]


def test_the_controls_of_the_bank(model, stream):
    widget = explore_arrivals({"MLDG": model}, stream, (2, 8), (1, "layer2"))
    play, speed = widget.children[0].children[:2]
    found, note, screen = controls(widget, before=2)
    assert (play.min, play.max, play.interval, play.repeat) == (0, 7, bank.MILLISECONDS, True)
    speed.value = 4
    assert play.interval == bank.MILLISECONDS // 4
    for description, value in {"arrival": 5, "policy": "queue", "style layer": "layer2", "neighbours M": 2}.items():
        before = screen.value
        found[description].value = value
        assert screen.value != before and note.value == ""
    found["neighbours M"].value, found["queue Q"].value = 4, 2
    assert "M = 4 neighbours cannot come from a bank of Q = 2" in note.value


# ------------------------------------------------------------------------------------------------------ style mixer


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_blend_is_predicted_as_the_library_predicts_it(model, reference, share):
    found = mixer.blended(model, ("C", 3), ("S", "I"), share, (H, W), reference)
    style = blend(STREETS["S"].style, STREETS["I"].style, share)
    scene = render(STREETS["C"], "val", 3, height=H, width=W, style=style)
    image = torch.from_numpy(scene.image.transpose(2, 0, 1).copy())
    assert torch.equal(found.image, image) and np.array_equal(found.label, scene.label)
    batch = image[None].float() / 255
    assert torch.equal(found.predictions["TN, M = 1"], TargetNormalization(model)(batch).argmax(1)[0].byte())
    assert found.shift == shift_by_layer(model, batch)
    torch.testing.assert_close(found.style.mean, styles_of(model, batch, "layer1").mean)


def test_the_controls_of_the_mixer(model):
    found, note, screen = controls(explore_styles({"AGG": model}, (H, W)))
    assert "Style distance (Eq. 10) to the scene in S: " in screen.value
    moves = {"share of the second": 1.0, "scene from": "G", "scene number": 5, "show": "errors"}
    for description, value in moves.items():
        before = screen.value
        found[description].value = value
        assert screen.value != before and note.value == ""
    assert "in C: 0.000" in screen.value  # a style is no distance from itself
    found["first style"].value = "C"
    assert "both styles are C" in note.value


# ------------------------------------------------------------------------------------------------------------- dose


@pytest.mark.parametrize(("shift", "value"), [("dark", 0.5), ("haze", 0.2), ("flat", 0.9)])
def test_a_dose_is_scored_as_the_library_scores_it(model, stream, reference, shift, value):
    images = [stream[i] for i in range(4)]
    found = dose.dosed(model, images, shift, value, reference)
    changed = Shifted(images, shift, value)
    for name, predictor, m in (
        ("source BN", SourceNormalization(model), 1),
        ("TN, M = 1", TargetNormalization(model), 1),
        ("TN, M = 4", TargetNormalization(model), 4),
        ("guarded", GuardedNormalization(model, reference), 1),
    ):
        scored = evaluate(predictor, changed, batch_size=m, test_seed=None).miou()
        assert found.miou[name] == pytest.approx(100 * scored, abs=1e-9)
    assert torch.equal(found.image, changed[0][0])


def test_the_controls_of_the_dose(model):
    domains = streets_domains(H, W, train_images=1, val_images=dose.IMAGES)
    found, note, screen = controls(explore_dose({"AGG": model}, {"C": domains["C"]}))
    assert "At dose 0.5" in screen.value
    for description, value in {"dose": 0.0, "shift": "haze", "show": "errors"}.items():
        before = screen.value
        found[description].value = value
        assert note.value == "" and (screen.value != before or description == "shift")
    assert "haze, dose 0" in screen.value


# ------------------------------------------------------------------------------------------------- your own picture


def encoded(image, kind="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "I"])
def test_a_picture_of_any_mode_is_read(mode):
    grey = Image.fromarray(np.full((50, 120), 128, np.uint8))
    if mode in ("I;16", "I"):
        image = Image.fromarray(np.full((50, 120), 128 * 257, np.uint16 if mode == "I;16" else np.int32))
    else:
        image = grey.convert("L").convert(mode)
    read = own.read_any(encoded(image, "tiff" if mode in ("CMYK", "F", "I") else "png"), "mine")
    assert read.shape == (3, 96, 230) and read.dtype == torch.uint8
    if mode not in ("1", "F"):
        assert (read.float() - 128).abs().max() <= 2


def test_transparency_lies_over_white_and_cameras_are_held_upright():
    clear = Image.new("RGBA", (40, 20), (255, 0, 0, 0))
    assert (own.read_any(encoded(clear), "clear") == 255).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert own.read_any(encoded(Image.new("RGB", (40, 20)), "jpeg", exif=exif), "held").shape == (3, 96, 48)
    assert own.read_any(encoded(Image.new("RGB", (1, 1))), "dot").shape == (3, 96, 96)
    assert own.read_any(encoded(Image.new("RGB", (2000, 1))), "line").shape == (3, 96, 384)


def test_what_cannot_be_shown_is_named(model):
    large = encoded(Image.new("L", (6000, 5000)))
    whole = encoded(Image.effect_noise((60, 40), 50))
    for content, words in (
        (large, "big.png is 6000 x 5000, 30.0 megapixels; at most 25 go"),
        (whole[: len(whole) // 2], "big.png cannot be read as a picture"),
        (b"GIF89a nothing more", "big.png cannot be read as a picture"),
        (b"", "big.png cannot be read as a picture (it is empty)"),
    ):
        with pytest.raises(InputError) as caught:
            own.read_any(content, "big.png")
        assert words in str(caught.value) and "0x" not in str(caught.value)


def test_a_picture_is_dropped_in(model, reference):
    widget = explore_picture({"AGG": model}, {"AGG": reference})
    found, note, screen = controls(widget)
    assert "No picture yet" in screen.value

    def drop(name, content):
        found["choose a picture"].value = ({"name": name, "type": "image/png", "size": len(content),
                                            "content": memoryview(content), "last_modified": NOW},)  # fmt: skip

    drop("mine.png", encoded(Image.effect_noise((90, 60), 80).convert("RGB")))
    assert note.value == "" and screen.value.count("<img") == 4 and "otherwise than source BN" in screen.value
    before = screen.value
    drop("<b>.png", b"no picture")
    assert "&lt;b&gt;.png cannot be read as a picture" in note.value and screen.value == before
