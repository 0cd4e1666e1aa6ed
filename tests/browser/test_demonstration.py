"""The page for a projector, in a real browser: what it shows is what the library predicts."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from dglab.classes import colorize
from dglab.data.streams import arrival_order
from dglab.evaluation import ConfusionMatrix
from dglab.experiments.runner import open_lab
from dglab.experiments.trials import mixed_task
from dglab.teaching.demo.page import networks
from dglab.testtime import GuardedNormalization, ImageBank, SourceNormalization, TargetNormalization
from tests.browser.panels import Explorer

BATCH, BANK, MIXER, DOSE, MLDG, PROJECTION, PICTURE = range(7)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """The stream, its order, the network AGG and its reference, from the library."""
    lab = open_lab("quick", results=tmp_path_factory.mktemp("results"))
    models, references = networks(lab)
    stream = lab.target_set(mixed_task(lab).targets)
    return stream, arrival_order(len(stream), 0), models["AGG"], references["AGG"]


def floats(stream, places):
    return torch.stack([stream[i][0] for i in places]).float() / 255


def miou(*pairs):
    matrix = ConfusionMatrix()
    for prediction, label in pairs:
        matrix.update(prediction, label)
    return 100 * matrix.miou()


def test_the_demonstration(page, serving, known, barriers, shot, tmp_path):
    with serving("-m", "dglab.teaching.demo", "--port={port}", "--no-browser") as url:
        page.goto(url, wait_until="commit")
        page.wait_for_function("document.querySelectorAll('.dglab-sheet').length >= 7")
        assert page.locator(".jp-InputArea").count() == 0  # no code
        batch_size(Explorer(page, BATCH), known)
        arrivals(page, Explorer(page, BANK), known)
        blends_and_doses(Explorer(page, MIXER), Explorer(page, DOSE))
        rehearsal(Explorer(page, MLDG))
        Explorer(page, PROJECTION).shows("130 degrees apart: a conflict, and classification is ahead")
        own_picture(page, Explorer(page, PICTURE), known, tmp_path)
        assert barriers(page) == []
        shot(page, "demonstration")
        page.goto("about:blank")  # before its server ends


def batch_size(explorer, known):
    """By the keyboard: numbers and pixels of TN, and a reason where there is nothing to draw."""
    stream, order, model, _ = known
    explorer.press("arrival", "ArrowRight", "ArrowRight")
    explorer.press("batch size M", "ArrowLeft")  # from 4 to 2
    label = stream[order[2]][1]
    prediction = TargetNormalization(model)(floats(stream, order[2:4])).argmax(1)[0]
    explorer.shows(f"TN, M = 2: {miou((prediction, label)):.1f} % mIoU")
    source = SourceNormalization(model)(floats(stream, order[2:3])).argmax(1)[0]
    explorer.shows(f"source BN: {miou((source, label)):.1f} % mIoU")
    np.testing.assert_array_equal(explorer.pixels(0), stream[order[2]][0].permute(1, 2, 0))
    np.testing.assert_array_equal(explorer.pixels(3), colorize(prediction.numpy()))


def arrivals(page, explorer, known):
    """The stream is played and stopped; QIB and SIB so far; a combination without sense."""
    stream, order, model, reference = known
    arrival = explorer.controls.get_by_label("arrival", exact=True)
    explorer.controls.get_by_role("button").first.click()
    page.wait_for_function("element => Number(element.value) >= 4", arg=arrival.element_handle())
    explorer.controls.get_by_role("button").first.click()
    page.wait_for_timeout(300)
    last = int(arrival.input_value())
    methods = {
        "SIB": ImageBank(model, resize=True),
        "QIB": ImageBank(model, resize=True, policy="queue"),
        "guarded": GuardedNormalization(model, reference),
    }
    for name, method in methods.items():
        pairs = [(method(floats(stream, [i])).argmax(1)[0], stream[i][1]) for i in order[: last + 1]]
        explorer.shows(f"{name}: {miou(pairs[-1]):.1f} here, {miou(*pairs):.1f} % mIoU so far")
    explorer.shows(f"the bank holds {last} of at most 128 images")
    explorer.press("queue Q", "ArrowLeft", "ArrowLeft", "ArrowLeft")  # 4
    explorer.press("neighbours M", "ArrowRight")  # 6
    explorer.says("M = 6 neighbours cannot come from a bank of Q = 4")


def blends_and_doses(mixer, dose):
    mixer.drag("share of the second", 2000)
    mixer.shows("0 % style S, 100 % style C")
    assert "in C: 0.000" in mixer.text()
    dose.press("dose", *["ArrowLeft"] * 5)
    dose.shows("dark, dose 0")
    dose.shows("At dose 0 ")


def rehearsal(explorer):
    """After a drag of many small moves the numbers are those of where it ended."""
    explorer.drag("first parameter", -2000, steps=60)  # to the left end, -1.5
    explorer.shows("θ = (−1.50, 1.20)")
    explorer.press("order", "ArrowRight")
    theta, (center, matrix) = np.array([-1.5, 1.2]), _meta_train()
    ahead = theta - 0.35 * matrix @ (theta - center)
    explorer.shows(f"θ′ = ({ahead[0]:.2f}, {ahead[1]:.2f})".replace("-", "−"))


def _meta_train():
    """As lesson 03 states it: centre (-0.6, 0), curvatures 0.3 and 2 along axes that are turned by 20 degrees."""
    c, s = np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))
    axes = np.array([[c, -s], [s, c]])
    return np.array([-0.6, 0.0]), axes @ np.diag([0.3, 2.0]) @ axes.T


def own_picture(page, explorer, known, folder):
    """Chosen by the button, dropped into the frame, broken, and far too large."""
    _, _, model, _ = known
    photo = Image.effect_noise((192, 96), 60).convert("RGB")
    photo.save(folder / "mine.png")
    with page.expect_file_chooser() as chooser:
        explorer.controls.get_by_role("button").click()
    chooser.value.set_files(folder / "mine.png")
    explorer.shows("your picture, as the network sees it")
    np.testing.assert_array_equal(explorer.pixels(0), np.array(photo))
    image = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 255
    source, target = (method(model)(image).argmax(1)[0] for method in (SourceNormalization, TargetNormalization))
    explorer.shows(
        f"TN, M = 1: {100 * (source != target).double().mean():.0f} % of the pixels otherwise than source BN"
    )
    drop(page, "broken.png", (folder / "mine.png").read_bytes()[:500])
    explorer.says("broken.png cannot be read as a picture")
    buffer = io.BytesIO()
    Image.new("L", (6000, 5000)).save(buffer, "png")
    drop(page, "large.png", buffer.getvalue())
    explorer.says("large.png is 6000 x 5000, 30.0 megapixels")
    drop(page, "huge.jpg", bytes(10_000_000))
    page.get_by_text("huge.jpg has 10.0 MB; at most 9 go").wait_for()


def drop(page, name, content):
    """A file from the desk, let go over the frame."""
    transfer = page.evaluate_handle(
        """([name, text]) => {
            const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0)), list = new DataTransfer();
            list.items.add(new File([bytes], name, {type: 'image/png'}));
            return list;
        }""",
        [name, base64.b64encode(content).decode()],
    )
    page.locator(".dglab-drop").dispatch_event("drop", {"dataTransfer": transfer})
