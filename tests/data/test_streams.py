"""Streams: order of arrival, domains, batches."""

import pytest
import torch

from dglab.data import Joined, open_domains
from dglab.data.streams import arrival_order, arrivals, image_batches, in_batches
from dglab.presets import PRESETS
from dglab.utils.errors import InputError

TINY = PRESETS["tiny"]


def test_image_batches_are_cut_where_sizes_change():
    sizes = [(4, 6)] * 3 + [(5, 6)] + [(4, 6)] * 2
    images = [(torch.full((3, *size), i, dtype=torch.uint8), None) for i, size in enumerate(sizes)]
    assert [tuple(batch.shape) for batch in image_batches(images, 4, "cpu", resize=True)] == [
        (4, 3, 4, 6),
        (2, 3, 4, 6),
    ]
    batches = list(image_batches(images, 2, "cpu"))
    assert [len(b) for b in batches] == [2, 1, 1, 2]
    found = torch.cat([b[:, 0, 0, 0] for b in batches])
    torch.testing.assert_close(found, torch.arange(6) / 255)


def test_domains_of_streets_have_the_presets_size():
    domains = open_domains(TINY.streets)
    assert list(domains) == ["G", "S", "I", "M", "C"]
    for domain in domains.values():
        assert (len(domain.train), len(domain.val)) == (TINY.streets.train_images, TINY.streets.val_images)
        assert domain.val[0][0].shape == (3, TINY.streets.height, TINY.streets.width)


class Part(torch.utils.data.Dataset):
    """Images of one value each, beginning with ``first``."""

    def __init__(self, letter, first, length, size=(4, 6)):
        self.letter, self.first, self.length, self.size = letter, first, length, size

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        label = torch.full(self.size, self.first + i, dtype=torch.uint8)
        return label[None].expand(3, *self.size), label


def test_a_stream_yields_image_label_and_domain_in_order_of_arrival():
    order = arrival_order(7, 1)
    found = list(arrivals(Joined([Part("C", 0, 3), Part("M", 3, 4)]), order))
    assert [int(image[0, 0, 0]) for image, _, _ in found] == [int(label[0, 0]) for _, label, _ in found] == order
    assert [domain for _, _, domain in found] == ["C" if number < 3 else "M" for number in order]
    assert [domain for _, _, domain in arrivals(Part("C", 0, 2), range(2))] == ["C", "C"]
    plain = [Part("C", 0, 2)[i] for i in range(2)]  # any sequence of (image, label); it knows no domain
    assert [domain for _, _, domain in arrivals(plain, range(2))] == [None, None]


def test_batches_hold_successive_arrivals_and_the_last_may_be_smaller():
    batches = list(in_batches(arrivals(Part("C", 0, 5), arrival_order(5, None)), 2))
    assert [batch.images[:, 0, 0, 0].mul(255).round().int().tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
    assert [len(batch.labels) for batch in batches] == [len(batch.domains) for batch in batches] == [2, 2, 1]
    mixed = Joined([Part("C", 0, 1), Part("M", 1, 1, size=(8, 12))])
    with pytest.raises(InputError, match="sizes.*resize=True"):
        list(in_batches(arrivals(mixed, range(2)), 2))
    [batch] = in_batches(arrivals(mixed, range(2)), 2, resize=True)
    assert batch.images.shape == (2, 3, 4, 6) and [label.shape for label in batch.labels] == [(4, 6), (8, 12)]
