"""Outputs of all forms, taken apart by what changes with the number of images: against those of a tensor alone."""

import argparse
import dataclasses
import types
from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.utils._pytree import register_pytree_node

from dglab.testtime import ImageBank, TargetNormalization
from dglab.testtime.outputs import mapped, parts_of
from dglab.utils.errors import InputError


def images(n, seed=0, side=8):
    """Images of clearly different styles, in float64."""
    generator = torch.Generator().manual_seed(seed)
    contrast, brightness = torch.rand(2, n, 3, 1, 1, generator=generator)
    return (torch.randn(n, 3, side, side, generator=generator) * (0.2 + contrast) + brightness).double()


class Net(nn.Module):
    """Logits of five classes, and what a test makes of them."""

    def __init__(self, form=None):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer1 = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
            self.layer2 = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
            self.head = nn.Conv2d(4, 5, 1)
        self.form = form or (lambda logits, net: logits)
        self.double().eval()

    def forward(self, x):
        return self.form(self.head(self.layer2(self.layer1(x)).relu()), self)


class WithAttributes(dict):
    """A dictionary whose items are its attributes, as several libraries have one."""

    def __init__(self, **items):
        super().__init__(**items)
        self.__dict__ = self


class Mirrored(OrderedDict):
    """As transformers' ModelOutput: items are attributes beside it, and None is no item."""

    def __init__(self, **items):
        super().__init__((name, part) for name, part in items.items() if part is not None)
        for name, part in items.items():
            super().__setattr__(name, part)

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        super().__setattr__(key, value)


class Extra(OrderedDict):
    pass


@dataclasses.dataclass
class Record:
    out: Any
    size: Any
    prototypes: Any
    name: str
    late: Any = dataclasses.field(default=None, init=False)

    def __post_init__(self):
        self.late = self.out


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    out: Any
    size: Any
    prototypes: Any
    name: str


class Registered:
    def __init__(self, **parts):
        self.parts = parts


register_pytree_node(
    Registered,
    lambda value: (list(value.parts.values()), tuple(value.parts)),
    lambda parts, names: Registered(**dict(zip(names, parts, strict=True))),
)
Named = namedtuple("Named", ["out", "size", "prototypes", "name"])
FORMS = {
    "dict": (dict, lambda found: found),
    "OrderedDict": (OrderedDict, lambda found: found),
    "subclass": (Extra, lambda found: found),
    "its attributes are its items": (WithAttributes, vars),
    "its items are attributes, too": (Mirrored, vars),
    "dataclass": (Record, vars),
    "frozen dataclass": (Frozen, dataclasses.asdict),
    "namespace": (types.SimpleNamespace, vars),
    "argparse": (argparse.Namespace, vars),
    "namedtuple": (Named, lambda found: found._asdict()),
    "registered": (Registered, lambda found: found.parts),
    "nested": (lambda **parts: [{"a": (parts,)}], lambda found: found[0]["a"][0]),
}


@pytest.mark.parametrize("statistics", ["joint", "cached"])
@pytest.mark.parametrize("form", FORMS)
def test_rows_are_cut_and_joined_and_other_parts_left_whole(form, statistics):
    """Five prototypes beside the outputs of five images, and [H, W] beside those of two: their length tells nothing."""
    make, items = FORMS[form]

    def of(logits, net):
        return make(out=logits, size=torch.tensor([8, 8]), prototypes=net.head.weight[:, :, 0, 0], name="net")

    net = Net(of)
    options = dict(style_layer="layer1", neighbors=4, statistics=statistics)
    bank, plain, stream = ImageBank(net, **options), ImageBank(Net(), **options), images(9)
    for batch in stream.split([1, 1, 1, 1, 1, 1, 3]):
        found, expected = bank(batch), plain(batch)
        parts = items(found)
        assert type(found) is type(of(expected, net))
        torch.testing.assert_close(parts["out"], expected, rtol=1e-9, atol=1e-9)
        assert parts["size"].tolist() == [8, 8] and parts["name"] == "net"
        assert torch.equal(parts["prototypes"], net.head.weight[:, :, 0, 0])
        assert form != "dataclass" or torch.equal(parts["late"], parts["out"])
        if isinstance(found, Mirrored):
            assert all(found[name] is parts[name] for name in found)
    assert bank.selected == plain.selected


@pytest.mark.parametrize("statistics", ["joint", "cached"])
def test_rows_along_another_dimension(statistics):
    """Sequence first, 64 positions x N x 5 classes, alone and beside logits."""

    def sequence(logits):
        return logits.flatten(2).permute(2, 0, 1)

    for form in (lambda y, net: sequence(y), lambda y, net: {"y": y, "sequence": sequence(y)}):
        bank = ImageBank(Net(form), "layer1", statistics=statistics)
        plain = ImageBank(Net(), "layer1", statistics=statistics)
        for batch in images(8).split([1, 1, 6]):
            found, expected = bank(batch), plain(batch)
            found = found["sequence"] if isinstance(found, dict) else found
            torch.testing.assert_close(found, sequence(expected), rtol=1e-9, atol=1e-9)


def test_a_tensor_alone_with_two_dimensions_of_one_length():
    """A single class, and as many images as there are classes."""
    for classes in (1, 3):
        bank = ImageBank(Net(lambda y, net, n=classes: y[:, :n]), "layer1", neighbors=2)
        plain = ImageBank(Net(), "layer1", neighbors=2)
        for batch in images(7).split([1, 1, 1, 1, 3]):
            torch.testing.assert_close(bank(batch), plain(batch)[:, :classes], rtol=1e-9, atol=1e-9)


class Opaque:
    def __init__(self, tensor):
        self.tensor = tensor


class Hiding(dict):
    def __init__(self, logits):
        super().__init__(out=logits)
        self.hidden = logits


class Boxes(list):
    def __init__(self, parts, boxes):
        super().__init__(parts)
        self.boxes = boxes


REFUSED = {
    "an object": (lambda y: {"a": [Opaque(y)]}, r"in 'a.0', a Opaque, which holds tensors"),
    "a distribution": (lambda y: Normal(y, 1.0), "a Normal, which holds tensors"),
    "a hidden tensor": (Hiding, "a Hiding"),
    "a list with more": (lambda y: Boxes([y], y), "a Boxes"),
    "two rows an image": (
        lambda y: {"out": y, "pairs": torch.cat([y, y])},
        r"part 'pairs' .* is \(2, 5, 8, 8\) for one",
    ),
    "a list of images": (lambda y: [{"out": one} for one in y], "part '1.out' for some numbers"),
    "an array": (lambda y: {"out": y, "array": y.detach().numpy()}, r"part 'array' .* is \(1, 5, 8, 8\) for one"),
    "a count": (lambda y: {"out": y, "count": len(y)}, "part 'count' .* is 1 for one image and 2 for two"),
    "no rows": (lambda y: {"mean": y.mean()}, "nothing that has a row for each image"),
}


@pytest.mark.parametrize("statistics", ["joint", "cached"])
@pytest.mark.parametrize("form", REFUSED)
def test_what_cannot_be_taken_apart_is_refused_by_name_before_anything_is_stored(form, statistics):
    make, message = REFUSED[form]
    bank = ImageBank(Net(lambda y, net: make(y)), "layer1", statistics=statistics)
    with pytest.raises(InputError, match=message):
        bank(images(2))
    assert len(bank) == bank.arrivals == 0
    if statistics == "joint":  # at the first image already
        with pytest.raises(InputError, match=message):
            bank(images(1))
    else:  # nothing has to be taken apart
        assert bank(images(1)) is not None and len(bank) == 1


def test_objects_without_tensors_are_parts_like_numbers():
    settings = types.MappingProxyType({"a": 1})
    bank = ImageBank(Net(lambda y, net: (y, settings, np.ones(3), {1, 2}, torch.float32, None, True)), "layer1")
    for batch in images(5).split([1, 4]):
        out, *others = bank(batch)
        assert len(out) == len(batch) and others[0] is settings and others[3:] == [torch.float32, None, True]


def test_parts_by_path_and_back():
    value = {"a": [1, (torch.ones(2), None)], "b": Named(out="x", size=2.0, prototypes=[], name=())}
    parts = parts_of(value)
    assert list(parts) == ["a.0", "a.1.0", "a.1.1", "b.0", "b.1"]
    again = mapped(lambda path, part: path, value)
    assert again == {"a": ["a.0", ("a.1.0", "a.1.1")], "b": Named("b.0", "b.1", [], ())}
    assert value["a"][0] == 1


# ------------------------------------------------------------------------------------------------- the tail's cut


class Deciding(Net):
    """Goes on through one more BatchNorm layer or ends before it, as a test says of the features."""

    def __init__(self, ends):
        super().__init__()
        self.ends, self.runs = ends, []
        self.more = nn.BatchNorm2d(4).double().eval()

    def forward(self, x):
        features = self.layer1(x)
        if not self.ends(features):
            features = self.more(features + self.layer2(features))
        self.runs.append(len(features))
        return self.head(features)


def assert_joint(net, bank, stream, start=0):
    """The bank, from an arrival on, against TN on each image and its neighbours, with nothing cut."""
    for image in stream[start:]:
        found = bank(image)
        batch = torch.cat([image, *(stream[i] for i in bank.selected)])
        expected = TargetNormalization(net)(batch)[:1]
        assert (found - expected).abs().max() <= 1e-9 * expected.abs().max()


SURE = {  # each image of the batch has a feature that stands out
    "all": lambda f: (f.amax((1, 2, 3)) > 4).all(),
    "item": lambda f: f.amax((1, 2, 3)).amin().item() > 4,
    "list": lambda f: min(f.amax((1, 2, 3)).tolist()) > 4,
    "array": lambda f: f.numpy().max((1, 2, 3)).min() > 4,
    "equal": lambda f: torch.equal(f.amax((1, 2, 3)), f.amax((1, 2, 3)).clamp(min=4)),
}


@pytest.mark.parametrize("sure", SURE)
def test_a_network_that_decides_by_values_is_not_cut(sure):
    """The first images are sure, and so are their neighbours: the network ends early. Later a sure one has others."""
    net = Deciding(SURE[sure])
    stream = images(8)
    stream[[0, 1, 2, 5, 7], :, 4, 4] += 40  # a bright spot
    ends = []
    net.ends = lambda features: ends.append(bool(SURE[sure](features))) or ends[-1]
    bank, stream = ImageBank(net, "layer1", neighbors=2, policy="queue"), stream.split(1)
    assert_joint(net, bank, stream[:3])
    bank.observe(torch.cat(stream[3:5]))
    assert_joint(net, bank, stream, 5)
    assert True in ends and False in ends


def test_a_network_that_decides_otherwise_later_is_run_again_whole():
    """By what it has seen, of which no value tells: the first neighbours end early, others do not."""
    net, stream = Deciding(lambda features: early), images(10).split(1)
    bank = ImageBank(net, "layer1", neighbors=2)
    for number, image in enumerate(stream):
        early = number < 5 or number == 8
        assert_joint(net, bank, [*stream[:number], image], number)


def test_the_cut_is_made_where_it_can_be():
    net = Deciding(lambda features: False)
    bank = ImageBank(net, "layer1", neighbors=2)
    assert_joint(net, bank, images(5).split(1))
    net.runs.clear()
    bank(images(1, seed=1))
    assert net.runs == [1]  # of three images
