"""Advice: what it says of ordinary, far and mixed targets, by numbers of its own, and when it does not decide."""

import json
import re
from html import unescape

import pytest
import torch
from torch import nn

from dglab.testtime import GuardedNormalization, SourceReference, advise, freeze
from dglab.utils.errors import InputError


def scenes(n, seed=0, offset=0.0):
    generator = torch.Generator().manual_seed(seed)
    brightness, pixels = (torch.rand(n, *s, generator=generator).double() for s in ((1, 1, 1), (3, 12, 16)))
    return 0.3 * brightness + pixels + offset


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5)
    ).double()
    with torch.no_grad():
        for seed in range(40):
            net(scenes(8, seed=100 + seed))
    return net.eval()


@pytest.fixture(scope="module")
def reference(net):
    return SourceReference.measure(net, scenes(40, seed=1))


@pytest.mark.parametrize(("offset", "expected"), [(0.0, "source"), (0.25, "blend"), (3.0, "target")])
def test_the_recommendation_and_its_share_are_the_guards(net, reference, offset, expected):
    images = scenes(16, seed=2, offset=offset)
    advice = advise(net, images.split(5), reference)
    guard = GuardedNormalization(net, reference)
    guard(images)
    assert advice.recommendation == expected, advice
    assert advice.prior == pytest.approx(1 - guard.share) and advice.distance == pytest.approx(guard.guard.distance)
    assert {row.layer: row.distance for row in advice.reasons} == pytest.approx(guard.distances)
    assert len(advice.drift) == 16 and sum(advice.drift) / 16 == pytest.approx(sum(guard.distances.values()) / 2)
    first = net[0](images).detach()
    shift = (first.mean((0, 2, 3)) - net[1].running_mean).abs() / (net[1].running_var + 1e-5).sqrt()
    assert advice.reasons[0].shift == pytest.approx(shift.mean().item(), rel=1e-6)


def test_it_does_not_decide_on_little_or_mixed_evidence_or_without_a_reference(net, reference):
    few = advise(net, scenes(3, offset=3.0), reference)
    assert few.recommendation == "undecided" and "3 image(s) are too few" in " ".join(few.words)
    mixed = torch.stack([scenes(6, seed=3), scenes(6, seed=4, offset=3.0)], 1).flatten(0, 1)  # even and odd
    torn = advise(net, mixed, reference)
    assert torn.recommendation == "undecided" and "source and target" in " ".join(torn.words)
    blind = advise(net, scenes(8))
    assert (blind.recommendation, blind.prior, blind.distance, blind.drift) == ("undecided", 0.8, None, [])
    assert all(row.distance is None and row.shift >= 0 for row in blind.reasons)


def test_images_of_one_colour_are_left_out(net, reference):
    images, flat = scenes(8, seed=5), torch.full((2, 3, 12, 16), 0.5).double()
    advice = advise(net, torch.cat([images, flat]), reference)
    assert advice.distance == pytest.approx(advise(net, images, reference).distance)
    assert "2 image(s) of one colour" in advice.words[0]
    with pytest.raises(InputError, match="not of one colour"):
        advise(net, flat, reference)
    with pytest.raises(InputError, match="no image"):
        advise(net, [], reference)


def test_json_and_page(net, reference):
    advice = advise(net, scenes(8, offset=0.3), reference)
    record = json.loads(advice.to_json())
    assert record["recommendation"] == advice.recommendation and len(record["reasons"]) == 2
    page = advice.to_html()
    assert page.count("<svg") == page.count("<polyline") == 2 and "http" not in page
    points = [len(found.split()) for found in re.findall("points='([^']*)'", page)]
    assert points == [2, 8] and all(words in unescape(page) for words in advice.words)
    assert "<svg" not in advise(net, scenes(8)).to_html()


def test_freezing_follows_the_advice(net, reference):
    images = scenes(8, seed=6, offset=0.3)
    share, frozen = 1 - advise(net, images, reference).prior, freeze(net, images, reference)
    mean = net[0](images).detach().mean((0, 2, 3))
    torch.testing.assert_close(frozen[1].running_mean, torch.lerp(net[1].running_mean, mean, share))


@pytest.mark.parametrize("scale", [1e200, float("nan")])
def test_what_overflows_is_refused_by_name(net, reference, scale):
    with pytest.raises(InputError, match="not finite|NaN"):
        advise(net, scale * scenes(8), reference)
