"""Augmentation and multi-domain batches against an explicit geometry, and the splits of the domains."""

import random

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from dglab.data import streets_domains
from dglab.data.augmentation import (
    LONG_SIDES,
    GaussianBlur,
    RandomScaleCrop,
    augment,
    augmentations,
    training_augmentation,
)
from dglab.data.batches import MultiDomainBatches, flatten
from dglab.training.methods import split_domains, split_images, split_sizes
from dglab.utils.errors import InputError

CODE = 13  # the brightness that stands for one class: image = 13 x label


def augmented(transform, image, label, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return augment(transform, image, label)


def coded(label):
    """An image that says at every pixel what its label is."""
    return (CODE * label)[None].expand(3, -1, -1).contiguous()


def blocks(height, width, side=8, seed=0):
    rows, columns = -(-height // side), -(-width // side)
    small = torch.randint(0, 19, (rows, columns), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return small.repeat_interleave(side, 0).repeat_interleave(side, 1)[:height, :width].contiguous()


def away_from_borders(label, radius=2):
    """Where a pixel's neighbourhood has one label and lies in the crop: there, interpolation mixes nothing."""
    padded = F.pad(label[None, None].float(), [radius] * 4, value=-1)
    side = 2 * radius + 1
    return (F.max_pool2d(padded, side, 1) == -F.max_pool2d(-padded, side, 1))[0, 0]


# ------------------------------------------------------------------------------------------- augmentation


@pytest.mark.parametrize("size", [(40, 40), (96, 96), (24, 100)])  # inside the image, larger, and both
def test_image_and_label_stay_aligned(size):
    label = blocks(64, 96, side=16)
    transform = training_augmentation(size, (0.7, 2.0), blur=0.0)
    for seed in range(20):
        image, moved = augmented(transform, coded(label), label, seed)
        assert image.shape == (3, *size) and moved.shape == size
        assert image.dtype == moved.dtype == torch.uint8 and type(image) is type(moved) is torch.Tensor
        inside = moved != 255
        assert not image[:, ~inside].any()  # what lies outside the image is 0 there and 255 here, at the same places
        compared = away_from_borders(moved) & inside
        assert compared.sum() > 0.1 * inside.sum()
        assert torch.all((image[:, compared].int() - CODE * moved[compared].int()).abs() <= 1)


def test_outside_the_image_is_ignored_never_road():
    label = torch.full((20, 30), 5, dtype=torch.uint8)
    transform = training_augmentation((40, 40), (0.5, 0.5), blur=0.0)
    for seed in range(5):
        image, moved = augmented(transform, coded(label), label, seed)
        assert set(moved.unique().tolist()) == {5, 255}
        assert (moved == 5).sum() == 10 * 15  # the image at half its size, all of it
        rows, columns = (moved == 5).any(1).nonzero(), (moved == 5).any(0).nonzero()
        assert rows[-1] - rows[0] == 9 and columns[-1] - columns[0] == 14  # in one piece
        assert torch.equal(image[0] > 0, moved == 5)


def test_labels_are_never_interpolated():
    label = blocks(60, 60, side=3)
    label[label == 7] = 255
    for seed in range(10):
        _, moved = augmented(training_augmentation((32, 32), (0.5, 2.0), blur=1.0), coded(blocks(60, 60)), label, seed)
        assert set(moved.unique().tolist()) <= set(label.unique().tolist())


def test_image_and_label_are_flipped_together_half_of_the_time():
    label = torch.arange(19, dtype=torch.uint8).repeat_interleave(4).expand(40, -1).contiguous()  # rises to the right
    transform = training_augmentation((40, 76), (1.0, 1.0), blur=0.0)
    flipped = []
    for seed in range(40):
        image, moved = augmented(transform, coded(label), label, seed)
        assert torch.equal(image, coded(moved))
        assert torch.equal(moved, label) or torch.equal(moved, label.flip(1))
        flipped.append(torch.equal(moved, label.flip(1)))
    assert 10 <= sum(flipped) <= 30  # a fair coin stays inside with 99.9 %


def test_blur_touches_the_image_alone():
    label = blocks(64, 64)
    sharp, label_sharp = augmented(training_augmentation((32, 32), (0.5, 2.0), 0.0), coded(label), label, 3)
    soft, label_soft = augmented(training_augmentation((32, 32), (0.5, 2.0), 1.0), coded(label), label, 3)
    assert torch.equal(label_sharp, label_soft) and not torch.equal(sharp, soft)

    def roughness(image):
        return (image[:, :, 1:].float() - image[:, :, :-1].float()).abs().sum()

    assert roughness(soft) < roughness(sharp)


def test_the_authors_rotate_half_of_the_images_by_up_to_ten_degrees():
    """The angle is read off a line through the middle; the corners are ignored."""
    rows, columns = torch.meshgrid(torch.arange(101), torch.arange(101), indexing="ij")
    label = (rows > columns).to(torch.uint8)  # the line is the diagonal, so that a flip does not hide it
    transform = augmentations("authors", "X", (101, 101), (1.0, 1.0), 0.0, real=True)["X"]
    angles, turned = [], 0
    for seed in range(60):
        image, moved = augmented(transform, coded(label), label, seed)
        empty = F.max_pool2d((moved != 255)[None].float(), 3, 1, 1)[0] == 0  # a pixel away from what is mixed in
        assert not image[:, empty].any()
        turned += bool((moved == 255).any())
        middle = moved[30:71, 30:71]
        edge = (middle[:, 1:] != middle[:, :-1]).float().argmax(1)[5:-5].float()
        slope = np.polyfit(np.arange(len(edge)), edge, 1)[0]
        angles.append(45 - np.degrees(np.arctan(1 / abs(slope))))
    angles = np.abs(angles)
    assert 15 <= turned <= 45 and (angles < 11).all() and (angles > 5).any() and (angles[:60] < 0.5).sum() >= 15


def test_the_authors_scale_relative_to_the_long_side_of_the_data_set():
    found = augmentations("authors", "GSIMCX", (64, 64), (0.5, 2.0), 0.5, real=True)
    sides = {letter: transform.transforms[1].long_side for letter, transform in found.items()}
    assert sides == {**LONG_SIDES, "X": None} and sides["M"] == 2590
    drawn = augmentations("authors", "GX", (64, 64), (0.5, 2.0), 0.5, real=False)
    assert {transform.transforms[1].long_side for transform in drawn.values()} == {None}
    label = blocks(40, 80)
    for length in (80, 160):  # as large, and twice as large: each pixel four times
        scale = RandomScaleCrop((40, 80), (1.0, 1.0), long_side=length)
        _, moved = augmented(v2.Compose([scale]), coded(label), label, 0)
        assert torch.equal(moved, label) == (length == 80)
        if length == 160:
            assert torch.equal(moved[::2, ::2], moved[1::2, 1::2])


def test_each_domain_has_its_own_augmentation():
    domains = streets_domains(32, 64, 2, 2)
    plain = {letter: v2.Identity() for letter in "GS"}
    flipped = plain | {"S": v2.RandomHorizontalFlip(p=1.0)}
    sources = [domains[letter].train for letter in "GS"]
    (images, labels), (others, _) = (MultiDomainBatches(sources, 1, 1, each, 0)[0] for each in (plain, flipped))
    assert torch.equal(images[:, 0], others[:, 0]) and torch.equal(images[:, 1].flip(-1), others[:, 1])


@pytest.mark.parametrize(("kernel", "sigma"), [(5, (0.1, 2.0)), ((3, 7), (0.5, 3.0)), (1, (1.0, 1.0))])
def test_the_blur_is_torchvisions(kernel, sigma):
    image = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for view in (image, image[:, 3:, :50], image.permute(0, 2, 1)):
        for seed in range(10):
            label = view[0] % 19
            found, kept = augmented(GaussianBlur(kernel, sigma), view, label, seed)
            expected, _ = augmented(v2.GaussianBlur(kernel, sigma), view, label, seed)
            difference = (found.int() - expected.int()).abs()
            assert difference.max() <= 1 and (difference > 0).float().mean() < 1e-3  # halves, rounded up or down
            assert found.dtype == torch.uint8 and torch.equal(kept, label)


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("size", [(48, 60), (120, 150)])  # a part of the scaled image, and more than it
def test_scaling_the_window_gives_the_pixels_of_scaling_everything(factor, size):
    """The plain way scales the whole image by the factor and cuts the window out of the result."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (3, 80, 120), dtype=torch.uint8, generator=generator)
    image = functional.gaussian_blur(noise, [5, 5], [1.5, 1.5])
    label = blocks(80, 120)
    scaled = [round(80 * factor), round(120 * factor)]
    whole = functional.resize(image, scaled, antialias=True).int()
    whole_label = functional.resize(label[None], scaled, interpolation=v2.InterpolationMode.NEAREST)[0]
    transform, compared = RandomScaleCrop(size, (factor, factor)), 0
    for seed in range(100):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            params = transform.make_params([image])
        parts = []
        for start, window, extent, before, _ in (params["rows"], params["columns"]):
            assert window * factor == extent
            parts.append((start * factor, extent, before))
        if any(first != int(first) for first, _, _ in parts):
            continue  # the plain way cannot begin between two pixels
        (top, height, above), (left, width, beside) = [(int(first), *rest) for first, *rest in parts]
        found = transform.transform(tv_tensors.Image(image), params)[:, above : above + height, beside : beside + width]
        inner = slice(3, -3)  # at the window's border, other neighbours are averaged
        difference = (found.int() - whole[:, top : top + height, left : left + width])[:, inner, inner].abs()
        assert difference.max() <= 2 and difference.float().mean() < 0.5
        cut = transform.transform(tv_tensors.Mask(label), params)[above : above + height, beside : beside + width]
        assert torch.equal(cut, whole_label[top : top + height, left : left + width])
        compared += 1
    assert compared >= 3


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.6, 2.0])
def test_the_crop_is_a_crop_of_the_scaled_image(factor):
    """The image holds its own coordinates, so that the result says where each pixel comes from."""
    height, width, crop = 60, 100, 48
    rows = (2 * torch.arange(height)).expand(width, -1).T
    columns = (2 * torch.arange(width)).expand(height, -1)
    image = torch.stack([rows, columns, torch.full((height, width), 200)]).to(torch.uint8)
    for seed in range(6):
        transform = RandomScaleCrop((crop, crop), (factor, factor))
        found, _ = augmented(transform, image, torch.zeros(height, width, dtype=torch.uint8), seed)
        inside = found[2] == 200
        for axis, length in ((0, height), (1, width)):
            along = inside.any(1 - axis).nonzero().flatten()
            assert len(along) == min(crop, round(length * factor))
            other = int(inside.any(axis).nonzero()[0])  # a line of pixels that is inside
            line = found[axis].select(1 - axis, other)[along].float() / 2
            place = torch.arange(len(along)) - (len(along) - 1) / 2
            # A crop of the scaled image: source coordinates rise by 1 / factor from pixel to pixel.
            torch.testing.assert_close(line, line.mean() + place / factor, atol=1.2, rtol=0)


def test_windows_are_distributed_as_if_the_whole_image_were_scaled_and_cropped():
    """The reference scales an axis of L pixels to S = round(L f), f uniform, and crops c of them at random."""
    lengths, crops, scale, draws = (200, 300), (128, 160), (0.4, 2.0), 3000
    rng = np.random.default_rng(0)
    expected = [[], []]
    for _ in range(draws):
        factor = rng.uniform(*scale)
        for axis, (length, crop) in enumerate(zip(lengths, crops, strict=True)):
            scaled = round(length * factor)
            start = rng.integers(scaled - crop + 1) / factor if scaled >= crop else 0
            before = rng.integers(crop - scaled + 1) if scaled < crop else 0
            expected[axis].append((start, min(length, crop / factor), before, min(crop, scaled)))
    transform = RandomScaleCrop(crops, scale)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        params = [transform.make_params([torch.empty(3, *lengths)]) for _ in range(draws)]
    for axis, name in enumerate(("rows", "columns")):
        start, window, extent, before, after = np.array([p[name] for p in params]).T
        assert (extent + before + after == crops[axis]).all() and (start + window <= lengths[axis]).all()
        for found, reference in zip((start, window, before, extent), zip(*expected[axis], strict=True), strict=True):
            # rounded to 2 pixels: the reference's windows need not begin at a whole pixel of the image
            found, reference = np.round(found / 2), np.round(np.array(reference) / 2)
            assert stats.ks_2samp(found, reference).statistic < 0.06


# ------------------------------------------------------------------------------------------------ batches


class Numbered(Dataset):
    """Images that hold their own number."""

    def __init__(self, letter, length):
        self.letter, self.length = letter, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return torch.full((3, 4, 6), index, dtype=torch.uint8), torch.full((4, 6), index % 19, dtype=torch.uint8)


def numbers(batches):
    """The images drawn from each domain, in order: D lists."""
    drawn = torch.cat([batches[step][0][:, :, 0, 0, 0] for step in range(len(batches))])  # (steps B) x D
    return drawn.T.tolist()


@pytest.fixture(scope="module")
def streets():
    return streets_domains(32, 64, train_images=3, val_images=1)


def of_streets(streets, letters, steps=5, seed=0):
    transform = training_augmentation((24, 40), (0.5, 2.0), 0.5)
    return MultiDomainBatches([streets[letter].train for letter in letters], 2, steps, transform, seed)


def test_a_batch_is_b_by_d(streets):
    images, labels = of_streets(streets, "GSI")[0]
    assert images.shape == (2, 3, 3, 24, 40) and labels.shape == (2, 3, 24, 40)
    assert images.dtype == labels.dtype == torch.uint8
    flat, flat_labels = flatten((images, labels))
    assert flat.shape == (6, 3, 24, 40) and flat_labels.shape == (6, 24, 40)
    assert torch.equal(flat[3 * 1 + 2], images[1, 2]) and torch.equal(flat_labels[3 * 1 + 2], labels[1, 2])


def test_the_second_axis_is_the_domain():
    images, _ = MultiDomainBatches([Numbered("A", 1), Numbered("B", 200)], 2, 1, v2.Identity(), 0)[0]
    assert images[:, 0].max() == 0 and images[:, 1].max() > 0


def test_the_same_bytes_for_any_number_of_workers_and_after_any_start(streets):
    batches = of_streets(streets, "GSM")
    expected = [batches[step] for step in range(5)]
    for workers, start in ((0, 0), (1, 0), (2, 0), (2, 3), (0, 4)):
        torch.manual_seed(workers)  # whatever the global state
        loader = DataLoader(batches, batch_size=None, sampler=range(start, 5), num_workers=workers)
        found = list(loader)
        assert len(found) == 5 - start
        for one, other in zip(found, expected[start:], strict=True):
            assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_the_number_of_steps_and_the_seed(streets):
    batches = of_streets(streets, "GS", steps=3)
    assert len(batches) == 3
    longer, other = of_streets(streets, "GS", steps=9), of_streets(streets, "GS", steps=3, seed=1)
    assert torch.equal(longer[2][0], batches[2][0])
    assert not torch.equal(other[2][0], batches[2][0])
    assert not torch.equal(batches[0][0], batches[1][0])
    for step in (3, -1):
        with pytest.raises(IndexError):
            batches[step]


def test_a_domains_draws_do_not_depend_on_the_other_domains(streets):
    alone, among, last = (of_streets(streets, letters) for letters in ("S", "GSI", "CMS"))
    for step in range(5):
        for part in (0, 1):  # images, labels
            assert torch.equal(alone[step][part][:, 0], among[step][part][:, 1])
            assert torch.equal(alone[step][part][:, 0], last[step][part][:, 2])


def test_every_image_is_drawn_once_a_pass():
    domains = [Numbered("A", 6), Numbered("B", 5), Numbered("C", 2)]  # 24 draws: 4 passes, 4.8, 12
    drawn = numbers(MultiDomainBatches(domains, 3, 8, v2.Identity(), seed=0))
    for domain, sequence in zip(domains, drawn, strict=True):
        assert len(sequence) == 24
        passes = [sequence[i : i + len(domain)] for i in range(0, 24, len(domain))]
        for one in passes[: 24 // len(domain)]:
            assert sorted(one) == list(range(len(domain)))
        assert len({tuple(one) for one in passes}) > 1  # shuffled afresh
    twins = numbers(MultiDomainBatches([Numbered("A", 6), Numbered("D", 6)], 3, 8, v2.Identity(), seed=0))
    assert twins[0] == drawn[0] and twins[0] != twins[1]  # an order of its own for each letter


def test_an_image_is_augmented_anew_each_time_it_is_drawn(streets):
    one = MultiDomainBatches(
        [streets_domains(32, 64, 1, 1)["G"].train], 1, 4, training_augmentation((24, 40), (0.5, 2.0), 0.5), 0
    )
    assert len({one[step][0].numpy().tobytes() for step in range(4)}) == 4


def test_drawing_leaves_the_global_random_state_alone(streets):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002 (that state)
    of_streets(streets, "GS")[1]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1]) and random.getstate() == before[2]  # noqa: NPY002


def test_empty_batches_are_refused():
    with pytest.raises(InputError, match="at least one source domain"):
        MultiDomainBatches([], 1, 1, v2.Identity(), 0)
    with pytest.raises(InputError, match="domain B has no training image"):
        MultiDomainBatches([Numbered("A", 2), Numbered("B", 0)], 1, 1, v2.Identity(), 0)
    for per_domain in (0, -1):
        with pytest.raises(InputError, match=f"batch size per domain is {per_domain}"):
            MultiDomainBatches([Numbered("A", 2)], per_domain, 1, v2.Identity(), 0)


# ------------------------------------------------------------------------------------------------- splits


def coded_batch(per_domain, domains):
    """Every image says which it is, 10 b + d, and so does its label."""
    code = 10 * torch.arange(per_domain)[:, None] + torch.arange(domains)  # B x D
    return code[..., None, None, None].expand(-1, -1, 3, 4, 6).float(), code[..., None, None].expand(-1, -1, 4, 6)


def codes(part):
    images, labels = part
    assert images.shape[1:] == (3, 4, 6) and labels.shape[1:] == (4, 6)
    assert torch.equal(images[:, 0].long(), labels)  # each image with its own label
    return labels[:, 0, 0].tolist()


def generators(count=30):
    return (torch.Generator().manual_seed(seed) for seed in range(count))


@pytest.mark.parametrize(("count", "expected"), [(2, (1, 1)), (3, (2, 1)), (4, (2, 2)), (5, (3, 2))])
def test_half_gives_the_odd_domain_to_meta_train(count, expected):
    assert split_sizes("half", count, torch.Generator()) == expected


@pytest.mark.parametrize("split", ["half", "1:3", "3:1", "2:2"])
def test_no_domain_is_in_both_parts_and_none_is_lost(split):
    first, second = split_sizes(split, 4, torch.Generator())
    seen = set()
    for generator in generators():
        parts = [codes(part) for part in split_domains(coded_batch(3, 4), split, generator)]
        domains = [{code % 10 for code in part} for part in parts]
        assert domains[0].isdisjoint(domains[1]) and domains[0] | domains[1] == {0, 1, 2, 3}
        assert (len(domains[0]), len(domains[1])) == (first, second)
        assert sorted(parts[0] + parts[1]) == sorted(10 * b + d for b in range(3) for d in range(4))
        seen.add(frozenset(domains[0]))
    assert len(seen) == len({"half": range(6), "2:2": range(6)}.get(split, range(4)))  # every choice comes up


def test_random_cuts_anywhere():
    sizes = {split_sizes("random", 4, generator) for generator in generators(60)}
    assert sizes == {(1, 3), (2, 2), (3, 1)}
    for generator in generators():
        first, second = split_domains(coded_batch(2, 4), "random", generator)
        assert len(codes(first)) + len(codes(second)) == 8
        assert {code % 10 for code in codes(first)}.isdisjoint(code % 10 for code in codes(second))


@pytest.mark.parametrize("split", ["half", "1:3", "3:1"])
def test_split_images_takes_each_image_once_in_parts_of_the_same_sizes(split):
    mixed = 0
    for generator in generators(10):
        parts = [codes(part) for part in split_images(coded_batch(3, 4), split, generator)]
        by_domain = split_domains(coded_batch(3, 4), split, generator)
        assert [len(part) for part in parts] == [len(labels) for _, labels in by_domain]
        assert sorted(parts[0] + parts[1]) == sorted(10 * b + d for b in range(3) for d in range(4))
        mixed += not {code % 10 for code in parts[0]}.isdisjoint(code % 10 for code in parts[1])
    assert mixed == 10  # whole domains apart would be a coincidence


@pytest.mark.parametrize("split", ["0:4", "4:0", "2:3", "1:1", "a:b", "2:2:0", "-1:5", "1.5:2.5", ":", "4", "", "Half"])
def test_a_wrong_split_is_refused(split):
    with pytest.raises(InputError, match="the split is.*'half', 'random', or n:m.*4 source domains"):
        split_sizes(split, 4, torch.Generator())


@pytest.mark.parametrize("split", ["half", "random", "1:1", "1:0"])
@pytest.mark.parametrize("count", [0, 1])
def test_one_domain_cannot_be_split(split, count):
    with pytest.raises(InputError, match=f"need two or more, got {count}"):
        split_sizes(split, count, torch.Generator())
