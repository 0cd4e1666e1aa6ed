"""The search for the nearest styles against a direct one in float64, for styles that float32 hardly tells apart."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from dglab.testtime import Style, style_distance
from dglab.testtime.style_index import StyleIndex

pytestmark = pytest.mark.numerical

FLOOR = 1e-5  # the deviation of a dead channel
NOISE = 1e-13  # what the logarithms of the divergences lose in float64


def random_styles(generator, n, channels):
    means = torch.randn(n, channels, generator=generator)
    return means, torch.rand(n, channels, generator=generator) + 0.05


def ordinary(generator, n, channels):
    """Styles and queries of one kind."""
    return random_styles(generator, n, channels), random_styles(generator, 3, channels)


def dead_channels(generator, n, channels):
    """In some styles some channels do not vary: some at the same value as in the others, some at another."""
    means, deviations = random_styles(generator, n + 3, channels)
    dead = torch.rand(n + 3, channels, generator=generator) < 0.3
    means[:, ::2] = torch.where(dead[:, ::2], 0.25, means[:, ::2])
    deviations = torch.where(dead, FLOOR, deviations)
    deviations[:, 0] = FLOOR  # dead in all, at values of their own
    return (means[:n], deviations[:n]), (means[n:], deviations[n:])


def near_copies(generator, n, channels):
    """As the frames of a video: most entries differ from a query by a part in a hundred or a thousand."""
    means, deviations = random_styles(generator, 3, channels)
    which, size = torch.arange(n) % 3, 10.0 ** (-2 - torch.arange(n) % 4 // 2)[:, None]
    noise = torch.randn(2, n, channels, generator=generator)
    return (
        (means[which] + size * deviations[which] * noise[0], deviations[which] * (1 + size * noise[1])),
        (means, deviations),
    )


def large_means(generator, n, channels):
    """Far from zero and hardly varying: means of ten thousand, deviations of a thousandth."""
    means, deviations = random_styles(generator, n + 3, channels)
    offset, means, deviations = 1e4 * torch.randn(channels, generator=generator), 0.01 * means, 1e-3 * deviations
    return (offset + means[:n], deviations[:n]), (offset + means[n:], deviations[n:])


def scattered_magnitudes(generator, n, channels):
    """Channels and entries from a thousandth to a thousand."""
    means, deviations = random_styles(generator, n + 3, channels)
    scale = 10.0 ** (6 * torch.rand(n + 3, channels, generator=generator) - 3)
    means, deviations = means * scale.flip(0), deviations * scale
    return (means[:n], deviations[:n]), (means[n:], deviations[n:])


CASES = [ordinary, dead_channels, near_copies, large_means, scattered_magnitudes]


def drawn(case, seed, n=40):
    """Entries and three queries of a case, some entries exact duplicates, one the first query itself."""
    generator = torch.Generator().manual_seed(seed)
    channels = int(torch.randint(1, 65, (), generator=generator))
    (means, deviations), queries = case(generator, n, channels)
    means, deviations = means.clone(), deviations.clone()
    source, copy = torch.randperm(n, generator=generator)[:10].view(2, 5)
    means[copy], deviations[copy] = means[source], deviations[source]
    means[7], deviations[7] = queries[0][0], queries[1][0]
    return Style(means, deviations), Style(*queries), generator


def true_distances(queries, entries):
    """Eq. 10 from torch's own divergences, in float64: queries x entries."""
    p, q = (Normal(style.mean.double(), style.deviation.double()) for style in (queries, entries))
    p = Normal(p.loc[:, None], p.scale[:, None])
    return (kl_divergence(p, q) + kl_divergence(q, p)).mean(-1)


def filled(styles, capacity=None):
    n, channels = styles.mean.shape
    index = StyleIndex(capacity or n, channels)
    index.put(torch.arange(n), styles)
    return index


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("case", CASES)
def test_distances_and_bounds_against_float64(case, seed):
    entries, queries, _ = drawn(case, seed)
    true = true_distances(queries, entries)
    direct = style_distance(Style(queries.mean[:, None], queries.deviation[:, None]), entries)
    torch.testing.assert_close(direct.double(), true, rtol=1e-6, atol=NOISE)
    lower, upper = filled(entries).bounds(queries)
    assert (lower <= true + NOISE).all() and (true - NOISE <= upper).all()


def test_bounds_are_close_where_styles_are_ordinary():
    entries, queries, _ = drawn(ordinary, 0)
    lower, upper = filled(entries).bounds(queries)
    assert (upper - lower <= 1e-2 * (1 + true_distances(queries, entries))).all()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("case", CASES)
def test_nearest_is_a_direct_search(case, seed):
    """Among slots of any age, for several queries at once, at any count; of equal ones the older."""
    entries, queries, generator = drawn(case, seed)
    index, true = filled(entries), true_distances(queries, entries)
    for size in (40, 17, 3, 1):
        among = torch.randperm(40, generator=generator)[:size]  # oldest first, wherever they lie
        for count in (1, 4, 16, 60):
            found = index.nearest(queries, among, count)
            assert len(found) == 3
            for row, (slots, distances) in enumerate(found):
                expected = among[true[row, among].argsort(stable=True)[:count]]
                assert slots == expected.tolist()
                assert distances == pytest.approx(true[row, expected].tolist(), rel=1e-6, abs=NOISE)


def test_a_query_finds_itself_at_distance_zero_and_duplicates_by_age():
    entries, queries, _ = drawn(ordinary, 3)
    for part in entries:
        part[[30, 2]] = part[7].clone()
    index = filled(entries)
    for among, expected in (([7, 30, 2], [7, 30]), ([30, 7, 2], [30, 7]), ([2, 11, 30, 7], [2, 30])):
        assert index.nearest(queries, torch.tensor(among), 2)[0] == (expected, [0.0, 0.0])


def test_none_to_choose_from():
    entries, queries, _ = drawn(ordinary, 1)
    index = filled(entries)
    assert index.nearest(queries, torch.empty(0, dtype=torch.long), 4) == [([], [])] * 3
    assert index.nearest(queries, torch.arange(5), 0) == [([], [])] * 3


def test_an_overwritten_slot_forgets_what_was_there():
    """A ring that has gone round three times holds what a fresh one holds, also far from where it began."""
    old, queries, _ = drawn(large_means, 2)
    new, near, _ = drawn(near_copies, 2)
    channels = min(old.mean.shape[1], new.mean.shape[1])
    old, queries, new, near = (Style(*(part[:, :channels] for part in s)) for s in (old, queries, new, near))
    index = filled(old, capacity=50)
    size = index.nbytes
    for slots in (torch.arange(40).flip(0), torch.randperm(40, generator=torch.Generator().manual_seed(0))):
        index.put(slots, new)
        true = true_distances(near, new)
        for row, (found, _) in enumerate(index.nearest(near, slots, 6)):
            assert found == slots[true[row].argsort(stable=True)[:6]].tolist()
    one = Style(near.mean[:1], near.deviation[:1])
    index.put(torch.tensor([45]), one)  # a slot that was free
    assert index.nearest(one, torch.tensor([3, 45, 9]), 1) == [([45], [0.0])]
    assert index.nbytes == size


def test_entries_beyond_the_range_of_float32_come_last():
    entries, queries, _ = drawn(ordinary, 5)
    for first in (0, 20):  # the first entry is what the others are centred on
        entries.mean[first], entries.deviation[first] = 1e17, FLOOR
        index = filled(entries)
        true = true_distances(queries, entries)
        for row, (slots, distances) in enumerate(index.nearest(queries, torch.arange(40), 40)):
            assert sorted(slots) == list(range(40)) and distances[-1] == float("inf")
            assert slots[:20] == true[row].argsort(stable=True)[:20].tolist()


@pytest.mark.parametrize("case", CASES)
def test_coarser_matrix_products_change_nothing(case, monkeypatch):
    """Under autocast, and where torch is told to multiply with fewer digits, or does not tell how many."""
    entries, queries, _ = drawn(case, 9)
    true, among = true_distances(queries, entries), torch.arange(40)
    expected = filled(entries).nearest(queries, among, 8)

    def assert_right():
        index = filled(entries)
        lower, upper = index.bounds(queries)
        assert (lower <= true + NOISE).all() and (true - NOISE <= upper).all()
        assert index.nearest(queries, among, 8) == expected

    with torch.autocast("cpu", torch.bfloat16):
        assert_right()
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert_right()
    finally:
        torch.set_float32_matmul_precision(before)

    def mixed_interfaces():
        raise RuntimeError("the matmul precision was set backend by backend")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", mixed_interfaces)
    assert_right()
