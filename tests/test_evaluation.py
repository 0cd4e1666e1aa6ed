"""mIoU against a hand-worked example and an explicit count."""

import numpy as np
import pytest
import torch

from dglab.errors import InputError
from dglab.evaluation import ConfusionMatrix, arrival_order, evaluate


def test_miou_of_a_hand_worked_example():
    """Labels 0 0 1 1 2 x, predictions 0 1 1 1 0 3: IoU 1/3, 2/3, 0; class 3 is predicted only where ignored."""
    matrix = ConfusionMatrix()
    matrix.update(torch.tensor([[0, 1, 1], [1, 0, 3]]), torch.tensor([[0, 0, 1], [1, 2, 255]]))
    iou = matrix.iou()
    assert iou[:3] == pytest.approx([1 / 3, 2 / 3, 0])
    assert np.isnan(iou[3:]).all() and len(iou) == 19 and matrix.num_absent == 16
    assert matrix.miou() == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)


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


def test_evaluate_refuses_what_it_cannot_score():
    with pytest.raises(InputError, match="sizes"):
        evaluate(lambda x: x, Set([(4, 6), (4, 8)]), batch_size=2)
    with pytest.raises(InputError, match="no image"):
        evaluate(lambda x: x, Set([]))
    with pytest.raises(InputError, match="batch size"):
        evaluate(lambda x: x, Set([(4, 6)]), batch_size=0)
