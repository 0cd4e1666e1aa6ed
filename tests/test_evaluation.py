"""mIoU against a hand-worked example and an explicit count."""

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms.v2 import functional as F

from dglab.data import Joined
from dglab.data.streams import arrival_order
from dglab.evaluation import AuthorsView, ConfusionMatrix, evaluate, find_view, image_interval
from dglab.models import build_model
from dglab.testtime import ImageBank
from dglab.utils.errors import InputError
from dglab.utils.sizes import resized

pytestmark = pytest.mark.numerical


def test_miou_of_a_hand_worked_example():
    """Labels 0 0 1 1 2 x, predictions 0 1 1 1 0 3: IoU 1/3, 2/3, 0; class 3 is predicted only where ignored."""
    matrix = ConfusionMatrix()
    matrix.update(torch.tensor([[0, 1, 1], [1, 0, 3]]), torch.tensor([[0, 0, 1], [1, 2, 255]]))
    iou = matrix.iou()
    assert iou[:3] == pytest.approx([1 / 3, 2 / 3, 0])
    assert np.isnan(iou[3:]).all() and len(iou) == 19 and matrix.num_absent == 16
    assert matrix.miou() == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)


def test_images_may_be_floats_already_and_other_numbers_are_refused():
    images = torch.arange(3 * 8 * 9, dtype=torch.uint8).reshape(3, 8, 9)
    seen = []

    def predictor(batch):
        seen.append(batch)
        return batch.new_zeros(len(batch), 19, 8, 9)

    label = torch.zeros(8, 9, dtype=torch.uint8)
    for given in (images, images.float() / 255):
        evaluate(predictor, [(given, label)])
    torch.testing.assert_close(*seen)
    with pytest.raises(InputError, match="are torch.int64; expected uint8, or floats"):
        evaluate(predictor, [(images.long(), label)])


def test_a_class_that_is_predicted_but_never_labelled_scores_zero():
    matrix = ConfusionMatrix()
    matrix.update(np.array([4, 5]), np.array([4, 4]))
    assert matrix.iou()[4] == 0.5 and matrix.iou()[5] == 0 and matrix.miou() == 0.25


def test_one_matrix_over_the_set_is_not_the_mean_of_batches():
    rng = np.random.default_rng(0)
    whole, merged = ConfusionMatrix(), ConfusionMatrix()
    sets = [(rng.integers(0, 19, (8, 8)), rng.integers(0, 19, (8, 8))) for _ in range(5)]
    for p, y in sets:
        part = ConfusionMatrix()
        part.update(p, y)
        assert merged.merge(part) is merged
    p, y = (np.stack(x) for x in zip(*sets, strict=True))
    whole.update(p, y)
    assert (whole.counts == merged.counts).all()
    explicit = [np.sum((p == k) & (y == k)) / np.sum((p == k) | (y == k)) for k in range(19)]
    assert whole.iou() == pytest.approx(explicit)


def test_nothing_labelled_is_nan():
    matrix = ConfusionMatrix()
    matrix.update(torch.zeros(2, 2, dtype=torch.long), torch.full((2, 2), 255))
    assert np.isnan(matrix.miou()) and matrix.num_absent == 19


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        ([0, 1], [0], "shape"),
        ([19], [0], "prediction has the value 19"),
        ([0], [20], "label has the value 20"),
        ([-1], [0], "-1"),
    ],
)
def test_wrong_values_are_named_and_nothing_is_counted(prediction, label, message):
    matrix = ConfusionMatrix()
    with pytest.raises(InputError, match=message):
        matrix.update(torch.tensor(prediction), torch.tensor(label))
    assert not matrix.counts.any()


class Set(torch.utils.data.Dataset):
    def __init__(self, sizes):
        self.items = [
            (torch.full((3, *s), i, dtype=torch.uint8), torch.full(s, i % 19, dtype=torch.uint8))
            for i, s in enumerate(sizes)
        ]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def test_evaluate_sees_every_image_once_in_seeded_order():
    seen = []

    def perfect(images):
        values = (images[:, 0] * 255).round().long()
        seen.extend(values[:, 0, 0].tolist())
        return torch.nn.functional.one_hot(values, 19).permute(0, 3, 1, 2).float()

    matrix = evaluate(perfect, Set([(4, 6)] * 7), batch_size=3, test_seed=1)
    assert matrix.miou() == 1 and matrix.counts.sum() == 7 * 24
    assert seen == arrival_order(7, 1) and sorted(seen) == list(range(7)) and seen != list(range(7))


def test_images_of_unlike_sizes_are_seen_at_one_and_scored_at_their_own():
    seen = []

    def of_the_upper_half(images):
        """Class 1 above, class 0 below, whatever is seen."""
        seen.append(tuple(images.shape))
        logits = torch.zeros(len(images), 19, *images.shape[-2:])
        half = images.shape[-2] // 2
        logits[:, 1, :half] = logits[:, 0, half:] = 1
        return logits

    matrix = evaluate(of_the_upper_half, Set([(4, 6), (8, 12), (2, 6)]), batch_size=2, resize=True)
    assert seen == [(2, 3, 4, 6), (1, 3, 2, 6)]
    expected = torch.zeros(19, 19)  # the labels are 0, 1, 2 throughout
    for label, pixels in enumerate((24, 96, 12)):
        expected[label, :2] = pixels / 2
    assert torch.equal(torch.as_tensor(matrix.counts).float(), expected)


def test_evaluate_refuses_what_it_cannot_score():
    with pytest.raises(InputError, match="sizes.*resize=True"):
        evaluate(lambda x: x, Set([(4, 6), (4, 8)]), batch_size=2)
    with pytest.raises(InputError, match="no image"):
        evaluate(lambda x: x, Set([]))
    with pytest.raises(InputError, match="batch size"):
        evaluate(lambda x: x, Set([(4, 6)]), batch_size=0)


class Domain(torch.utils.data.Dataset):
    """A domain's validation images, given or, by their number, all alike."""

    def __init__(self, letter, images, labels, length=1):
        self.letter, self.length, self.item = letter, length, (torch.tensor(images), torch.tensor(labels))

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        return self.item


def striped(letter, length=1):
    """4 x 8 pixels in four vertical stripes of classes 0, 1, 2, 3, each two wide; the image shows the class."""
    label = np.repeat(np.arange(4, dtype=np.uint8), 2)[None].repeat(4, 0)
    return Domain(letter, np.stack([label] * 3), label, length)


def test_the_authors_scores_by_hand():
    """The square in the middle of a 4 x 8 image is its columns 2 to 5: the stripes 1 and 2 alone.

    Who says 1 everywhere scores 1/4 on that class and 0 on the three others, the mean 1/16, on the whole image. In
    the square that is 1/2 and 0 on two classes, the mean 1/4.
    """

    def one_everywhere(images):
        logits = torch.zeros(len(images), 19, *images.shape[-2:])
        logits[:, 1] = 1
        return logits

    whole = evaluate(one_everywhere, find_view("ours")(striped("C")))
    square = evaluate(one_everywhere, find_view("authors_code")(striped("C")))
    assert whole.iou()[:4] == pytest.approx([0, 1 / 4, 0, 0]) and whole.miou() == pytest.approx(1 / 16)
    assert square.iou()[1:3] == pytest.approx([1 / 2, 0]) and square.miou() == pytest.approx(1 / 4)
    assert whole.num_absent == 15 and square.num_absent == 17
    assert whole.counts.sum() == 4 * 8 and square.counts.sum() == 768 * 768


def test_the_authors_view_of_each_domain():
    """``crop_size`` and ``__len__`` in their ``natural_datasets.py``."""
    for letter, side, most in (("G", 700, 500), ("S", 760, 500), ("M", 769, 500), ("I", 768, 981), ("C", 768, 981)):
        view = AuthorsView(striped(letter, length=981))
        image, label = view[0]
        assert image.shape == (3, side, side) and label.shape == (side, side) and view.letter == letter
        assert image.dtype == label.dtype == torch.uint8
        assert len(view) == most and len(AuthorsView(striped(letter, length=3))) == 3


@pytest.mark.parametrize(
    ("shape", "size"),
    [((30, 47), (768, 1203)), ((47, 30), (1203, 768)), ((49, 49), (768, 768)), ((900, 1800), (768, 1536))],
)
def test_the_authors_view_resizes_as_torchvision_does_and_cuts_the_middle_out(shape, size):
    rng = np.random.default_rng(0)
    image, label = rng.integers(0, 256, (3, *shape), np.uint8), rng.integers(0, 19, shape, np.uint8)
    seen, seen_label = AuthorsView(Domain("I", image, label))[0]
    resized = F.resize(torch.from_numpy(image), size, antialias=True)
    nearest = F.resize(torch.from_numpy(label)[None], size, F.InterpolationMode.NEAREST_EXACT)
    top, left = (size[0] - 768) // 2, (size[1] - 768) // 2
    assert (seen.int() - F.crop(resized, top, left, 768, 768).int()).abs().max() <= 1
    assert (seen_label == F.crop(nearest, top, left, 768, 768)[0]).float().mean() > 0.99  # ties are broken otherwise


def test_the_authors_code_knows_five_domains():
    with pytest.raises(InputError, match=r"knows G, S, I, M, C and no 'K'.*our own scores"):
        AuthorsView(striped("K"))
    with pytest.raises(InputError, match="unknown scores 'theirs'; expected ours or authors_code"):
        find_view("theirs")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_maps_of_every_precision_are_resized(dtype):
    """torchvision's antialiased bilinear resizing is another caller's view of the same; a CPU has none for half."""
    maps = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    expected = F.resize(maps.double(), [5, 20], antialias=True)
    found = resized(maps, (5, 20))
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-6)
    assert resized(maps, (8, 12)) is maps


def test_evaluate_refuses_labels_and_logits_of_another_size():
    image, label = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(4, 4, dtype=torch.uint8)
    for resize in (False, True):
        with pytest.raises(InputError, match=r"image 0 is \(3, 8, 8\) and its label \(4, 4\)"):
            evaluate(lambda x: torch.zeros(len(x), 19, 8, 8), [(image, label)], resize=resize)
        with pytest.raises(InputError, match=r"logits are \(1, 19, 2, 2\) for images of \(1, 3, 4, 6\)"):
            evaluate(lambda x: torch.zeros(len(x), 19, 2, 2), Set([(4, 6)]), resize=resize)


def test_evaluate_refuses_a_set_without_a_label():
    image, label = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.full((8, 8), 255, dtype=torch.uint8)
    with pytest.raises(InputError, match="none of the 2 images has a labelled pixel"):
        evaluate(lambda x: torch.zeros(len(x), 19, 8, 8), [(image, label)] * 2)


def test_evaluate_hands_out_each_batch_with_what_came_out_of_it():
    handed = []
    evaluate(lambda x: torch.ones(len(x), 19, 4, 6) * x[:, :1], Set([(4, 6)] * 5), batch_size=2, test_seed=1,
             after_batch=handed.append)  # fmt: skip
    assert [len(one.batch.images) for one in handed] == [2, 2, 1]
    labels = [int(label[0, 0]) for one in handed for label in one.batch.labels]
    assert labels == arrival_order(5, 1)
    found = torch.cat([one.logits[:, 0, 0, 0] for one in handed])
    torch.testing.assert_close(found, torch.tensor(labels) / 255)


def test_evaluate_tells_a_bank_the_domain_of_each_image():
    """The oracle chooses from the current image's domain alone; without domains it could not."""
    model = build_model("thin", seed=0)
    parts = [striped(letter, length=3) for letter in "CM"]
    for part in parts:
        part.item = (part.item[0].repeat(1, 8, 8), part.item[1].repeat(8, 8))  # 32 x 64 pixels
    stream, bank = Joined(parts), ImageBank(model, policy="oracle", neighbors=1)
    order = arrival_order(6, 3)
    chosen = []
    evaluate(bank, stream, test_seed=3, after_batch=lambda one: chosen.append((one.batch.domains, bank.selected)))
    assert [domains for domains, _ in chosen] == [[stream.domain_of(i)] for i in order]
    for place, (domains, selected) in enumerate(chosen):
        seen_before = domains[0] in [stream.domain_of(i) for i in order[:place]]
        assert [stream.domain_of(order[i]) for i in selected] == domains * seen_before


def test_categories_by_hand():
    """Car for truck is right among vehicles, car for road is not; every class belongs to the category it should."""
    from dglab.classes import CATEGORIES, CATEGORY_NAMES, CLASS_NAMES

    members = {name: {c for c, k in zip(CLASS_NAMES, CATEGORIES, strict=True) if k == number}
               for number, name in enumerate(CATEGORY_NAMES)}  # fmt: skip
    assert members == {
        "flat": {"road", "sidewalk"}, "construction": {"building", "wall", "fence"},
        "object": {"pole", "traffic light", "traffic sign"}, "nature": {"vegetation", "terrain"}, "sky": {"sky"},
        "human": {"person", "rider"},
        "vehicle": {"car", "truck", "bus", "train", "motorcycle", "bicycle"},
    }  # fmt: skip
    car, truck, road = (CLASS_NAMES.index(name) for name in ("car", "truck", "road"))
    matrix = ConfusionMatrix()
    matrix.update(np.array([car, car, road, road, road]), np.array([car, truck, car, road, 255]))
    categories = matrix.of_categories()
    vehicle, flat = CATEGORY_NAMES.index("vehicle"), CATEGORY_NAMES.index("flat")
    assert categories.counts.sum() == 4 and categories.counts[vehicle, flat] == 1
    assert categories.iou()[vehicle] == pytest.approx(2 / 3) and categories.iou()[flat] == pytest.approx(1 / 2)
    assert categories.miou() == pytest.approx((2 / 3 + 1 / 2) / 2) and categories.num_absent == 5


# ------------------------------------------------------------------------------------------- intervals over images


def counted(images, seed, classes=3, accuracy=0.7):
    """Counts of images whose pixels are right with some probability."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(images):
        label = rng.choice(classes, 400, p=[0.6, 0.3, 0.1])
        prediction = np.where(rng.random(400) < accuracy * rng.uniform(0.7, 1.3), label, rng.integers(0, classes, 400))
        found.append(np.bincount(classes * label + prediction, minlength=classes**2).reshape(classes, classes))
    return found


def miou_of(images):
    matrix = ConfusionMatrix(3)
    matrix.counts += np.sum(images, axis=0)
    return matrix.miou()


def test_the_interval_over_images_is_scipys():
    images = counted(40, 0)
    found = image_interval(images, resamples=4000)

    def statistic(indices):
        return miou_of([images[index] for index in indices])

    expected = stats.bootstrap(
        (np.arange(40),), statistic, vectorized=False, n_resamples=4000, method="percentile", rng=1
    ).confidence_interval
    assert found == pytest.approx(tuple(expected), abs=0.004) and found.low < miou_of(images) < found.high
    assert image_interval(images) == image_interval(images) != image_interval(images, seed=1)


def test_the_same_images_tell_two_tests_apart_where_their_own_intervals_overlap():
    worse = counted(60, 1)
    better = [counts + np.diag([2, 1, 1]) for counts in worse]  # a little better on each image
    alone, other, pair = image_interval(better), image_interval(worse), image_interval(better, worse)
    assert alone.low < other.high and pair.low > 0
    assert pair.low < miou_of(better) - miou_of(worse) < pair.high
    assert image_interval(worse, worse) == (0, 0)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    truth = miou_of(counted(4_000, 2))
    hits = [
        low <= truth <= high for low, high in (image_interval(counted(50, 10 + n), resamples=200) for n in range(60))
    ]
    assert 50 <= sum(hits)  # 57 expected


def test_images_that_are_not_the_same_ones_are_refused():
    for images, against in (([], None), (counted(2, 0), counted(3, 0))):
        with pytest.raises(InputError, match="expected one or more, and the same ones twice"):
            image_interval(images, against)


def test_counts_of_images_come_in_the_order_of_the_data_set():
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(6, dtype=torch.uint8)[:, None, None].expand(-1, 8, 8)  # image i is class i
    found = []
    matrix = evaluate(lambda x: x.mean(1, keepdim=True).expand(-1, 19, -1, -1), list(zip(images, labels, strict=True)),
                      batch_size=4, test_seed=3, images=found)  # fmt: skip
    assert [counts.sum(1).argmax() for counts in found] == list(range(6))
    assert (sum(found) == matrix.counts).all()
