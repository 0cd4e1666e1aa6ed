"""What README, results.md and lesson 06 say of five real domains is what is recorded."""

import re

import nbformat
import pytest

from dglab.analysis.doses import photometric_gains, photometric_means, photometric_predictions, selection_means
from dglab.analysis.intervals import contrast, on_target, paired_difference, per_training
from dglab.analysis.targets import over_targets
from dglab.data.shifts import SEVERITIES
from dglab.experiments.methods import (
    AGG,
    BY_DOMAIN,
    MLDG,
    MLDG_INNER_0,
    ORACLE,
    QIB,
    SIB,
    SOURCE_BN,
    TN_1,
    TN_4,
    TN_5,
    TN_16,
    select,
)
from dglab.experiments.recorded import REAL, recorded_table
from dglab.experiments.runner import recorded_real
from tools.write_tables import ROOT


@pytest.fixture(scope="module")
def record():
    return recorded_table("real", REAL)


@pytest.fixture(scope="module")
def miou(record):
    """A function: the mean of a method under a normalization by target."""
    rows = on_target(select(record, study="ablation", metric="miou"))
    target = rows.drop_duplicates("task").set_index("task")["target"].to_dict()

    def of(method, test):
        return per_training(rows, method, test).groupby("task").mean().rename(index=target)

    return of


def text(name):
    """A page, or the Markdown of a lesson, without its marks."""
    page = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".ipynb"):
        page = " ".join(cell.source for cell in nbformat.reads(page, 4).cells if cell.cell_type == "markdown")
    return " ".join(re.sub(r"[*_`]", "", page).split())


def test_the_gain_of_tn_by_target(miou):
    gains = {method: miou(method, TN_4) - miou(method, SOURCE_BN) for method in (AGG, MLDG, BY_DOMAIN)}
    dusk = {method: f"{gain['T']:.1f}" for method, gain in gains.items()}
    loss = {method: sorted(-gain.drop("T")) for method, gain in gains.items()}
    agg, mldg = (f"{loss[method][0]:.1f} to {loss[method][-1]:.1f}" for method in (AGG, MLDG))
    assert min(loss[AGG] + loss[MLDG]) > 0
    for page in ("README.md", "docs/results.md"):
        assert f"adds {dusk[AGG]} points to AGG and {dusk[MLDG]} to MLDG" in text(page)
        assert f"on each of the other four it takes {agg} from AGG and {mldg}" in text(page)
    more = sorted(gains[BY_DOMAIN] - gains[AGG])
    lower = sorted(miou(AGG, SOURCE_BN) - miou(BY_DOMAIN, SOURCE_BN))
    above = miou(BY_DOMAIN, TN_4) - miou(AGG, TN_4)
    assert more[0] > 0 and lower[0] > 0 and (above > 0).sum() == 3
    for page in ("docs/results.md", "notebooks/06_real_streets.ipynb"):
        assert f"on each of the five, by {more[0]:.1f} to {more[-1]:.1f} points" in text(page)
        assert f"{lower[0]:.1f} to {lower[-1]:.1f} points " in text(page)
    lesson = text("notebooks/06_real_streets.ipynb")
    assert f"TN (M = 4) gives AGG {dusk[AGG]} points and MLDG {dusk[MLDG]}." in lesson
    assert f"On each of the other four it takes {agg} from AGG and {mldg} from MLDG." in lesson


def test_the_inner_step_and_sib(record, miou):
    inner = miou(MLDG, TN_4) - miou(MLDG_INNER_0, TN_4)
    four = sorted(inner.drop("K"))
    found = {row.compared.name: row.overall for row in over_targets(record)}
    agg = found["AGG+source BN - AGG+SIB, on the sources"]
    mldg = found["MLDG+SIB - MLDG+source BN, on the sources"]
    adabn = found["MLDG+SIB - MLDG+AdaBN"]
    page, lesson = text("docs/results.md"), text("notebooks/06_real_streets.ipynb")
    assert f"MLDG is {four[0]:.1f} to {four[-1]:.1f} points above MLDG without inner step on four" in page
    assert f"{-inner['K']:.1f} below on K; expected was no difference, and it is open" in page
    assert f"MLDG is {four[0]:.1f} to {four[-1]:.1f} points above MLDG without inner step on four" in lesson
    assert found["MLDG+TN, M = 4 - MLDG inner 0+TN, M = 4"].verdict == "open"
    assert f"SIB costs AGG {agg.mean:.1f} [{agg.low:+.1f}, {agg.high:+.1f}] points" in page
    assert f"MLDG {-mldg.mean:.1f} [{-mldg.high:+.1f}, {-mldg.low:+.1f}], where the paper gains" in page
    assert f"({adabn.mean:.1f} [{adabn.low:+.1f}, {adabn.high:+.1f}])" in page
    assert f"AGG {agg.mean:.1f} points, as the paper says, and MLDG {-mldg.mean:.1f}, where the paper gains" in lesson


def test_one_stream_of_two_targets(record):
    rows = select(record, study="selection_policy")
    of = {test: per_training(rows, MLDG, test) for test in (SOURCE_BN, TN_1, TN_4, TN_5, TN_16, QIB, SIB, ORACLE)}
    page = text("docs/results.md")
    assert (
        all(len(values) == 4 for values in of.values()) and "Four trainings (seeds 10 to 13; five are planned)" in page
    )
    accuracy = per_training(rows, MLDG, SIB, metric="selection_accuracy").mean()
    assert f"{accuracy:.1f} % of the neighbours are of the image's own domain" in page

    def said(gap, digits=2):
        return f"{gap.mean:.{digits}f} [{gap.low:+.{digits}f}, {gap.high:+.{digits}f}]"

    sib_tn, qib_tn, qib_sib, qib_oracle, one_bn = (
        paired_difference(of[a], of[b])
        for a, b in ((SIB, TN_5), (QIB, TN_5), (QIB, SIB), (QIB, ORACLE), (TN_1, SOURCE_BN))
    )
    assert f"(+{said(sib_tn)} points; expected was a gain)" in page and sib_tn.verdict == "no difference"
    assert f"is {said(qib_tn)} above that TN" in page
    assert f"gains nothing, and QIB is {qib_tn.mean:.1f} above TN" in text("docs/when_to_use.md")
    assert f"SIB is {qib_sib.mean:.2f} below QIB [{qib_sib.low:+.2f}, {qib_sib.high:+.2f}]" in page
    assert f"always right, {said(qib_oracle)}." in page
    assert f"(M = 1) are {one_bn.mean:.1f} points [{one_bn.low:+.1f}, {one_bn.high:+.1f}] above source BN" in page
    assert f"one training has {of[SOURCE_BN].max():.1f} and another {of[SOURCE_BN].min():.1f}" in page
    more = sorted((of[test] - of[TN_1]).mean() for test in (TN_4, TN_5, TN_16, QIB, SIB, ORACLE))
    assert f"neighbours {more[0]:.1f} to {more[-1]:.1f} above M = 1." in page

    def by(study, setting, metric):
        found = select(record, study=study, metric=metric)
        found = found[(found["train_method"] == "mldg") & (found["train_seed"] > 10)]  # of these all settings have run
        return found.groupby([setting, "train_seed"])["value"].mean().unstack(0)

    queues, layers = by("queue_size", "capacity", "miou"), by("style_layer", "style_layer", "miou")
    assert (
        len(queues) == 3 and f"mIoU is {said(paired_difference(queues[4], queues[128]))} above that of Q = 128" in page
    )
    assert f"{by('queue_size', 'capacity', 'selection_accuracy')[4].mean():.1f} % are right" in page
    right = by("style_layer", "style_layer", "selection_accuracy").mean()[["2", "3", "4"]]
    assert f"layers 2 to 4 have {right.min():.1f} to {right.max():.1f} %" in page
    assert ((layers.mean() - layers["1"].mean()).abs() < 0.1).all()


@pytest.fixture(scope="module")
def shifted(record):
    """Means over shifts of colour or detail: mIoU under source BN and TN by target, training method and severity."""
    cells = {}
    for row in photometric_means(record):
        target, kind, trained, *cells_of_row = row.values()
        for dose, cell in zip((0.0, *SEVERITIES), cells_of_row, strict=True):
            level, gains = cell.split(": ")
            tn = float(gains.split(" / ")[0])
            cells[target, kind, trained, dose] = (float(level), float(level) + tn, tn)
    return cells


def test_what_tn_buys_under_photometric_shifts(shifted):
    """A tenth of a point of play: the table's cells are rounded, as the sentences are."""
    page = text("docs/results.md")
    low, high = 0.0, SEVERITIES[-1]
    names = [method.label for method in (AGG, BY_DOMAIN, MLDG)]

    def falls(target, kind, column):
        return sorted(shifted[target, kind, name, low][column] - shifted[target, kind, name, high][column]
                      for name in names)  # fmt: skip

    said = re.search(
        r"TN's own score falls by (\S+) to (\S+) points on K and by (\S+) to (\S+) on T, that of source BN by "
        r"(\S+) to (\S+) on K and by (\S+) to (\S+) on T\.",
        page,
    )
    found = [end for column in (1, 0) for target in "KT" for end in falls(target, "colour", column)[:: len(names) - 1]]
    assert [float(number) for number in said.groups()] == pytest.approx(found, abs=0.11)
    of_tn, (least, *_, most) = (falls("K", "colour", column) for column in (1, 0))
    assert max(of_tn) < 1 and f"source BN loses {least:.0f} to {most:.0f} points and TN less than one" in text(
        "README.md"
    )
    assert f"by less than one point and that of source BN by {least:.0f} to {most:.0f}." in text("docs/when_to_use.md")
    prices = sorted(-shifted["K", "colour", name, low][2] for name in names)
    assert f"for {prices[0]:.0f} to {prices[-1]:.0f} points where the images were ordinary" in text("README.md")
    price = re.search(r"costs on K as it is: (\S+) points \(AGG\), (\S+) \(by domain\) and (\S+) \(MLDG\)\.", page)
    assert [float(number) for number in price.groups()] == [-shifted["K", "colour", name, low][2] for name in names]
    agg = [shifted["T", "detail", "AGG", dose] for dose in (low, high)]
    fall = re.search(r"on T that of AGG from (\S+) to (\S+), ", page)
    assert [float(number) for number in fall.groups()] == pytest.approx([one[1] for one in agg], abs=0.11)


def test_where_tn_begins_to_pay_on_k(record):
    gains = photometric_gains(record)
    gains = gains[(gains["target"] == "K") & (gains["test"] == TN_4.label)]
    first = {
        key: next((f"{dose:g}" for dose, gain in zip(part["dose"], part["gain"], strict=True) if gain > 0), "none")
        for key, part in gains.groupby(["shift", "trained with"])
    }
    of = {shift: [first[shift, method.label] for method in (BY_DOMAIN, MLDG, AGG)] for shift in gains["shift"].unique()}
    assert set(of["haze"]) == {"0.3"} and set(of["contrast"]) == {"0.45"} and set(of["blur"]) == {"none"}
    for page in ("docs/results.md", "notebooks/08_your_own_model.ipynb"):
        assert "under haze from 0.3 and under low contrast from 0.45, however the network was trained" in text(page)
        assert "in the dark from {} (by domain), {} (MLDG) and {} (AGG)".format(*of["dark"]) in text(page)
        assert "under blur at none of the severities" in text(page)


def test_what_selection_by_style_is_worth(record):
    rows = {(row["stream of"], row["trained with"]): row for row in selection_means(record)}
    page = text("docs/results.md")
    low, high = (sorted(float(rows["T", method.label][dose]) for method in (AGG, BY_DOMAIN, MLDG))
                 for dose in ("0.15", "0.75"))  # fmt: skip
    assert f"from {low[0]:.1f} to {low[-1]:.1f} points at 0.15 to {high[0]:.1f} to {high[-1]:.1f} at 0.75 on T" in page
    assert f"is worth up to {high[-1]:.0f} points more than the most recent ones" in text("docs/when_to_use.md")
    on_k = [f"{rows['K', name]['0.15']} to {rows['K', name]['0.75']}" for name in ("AGG", "by domain", "MLDG")]
    assert "on K from {} (AGG), {} (by domain) and {} (MLDG)".format(*on_k) in page
    outcomes = [one.outcome for one in photometric_predictions(record)]
    assert (len(outcomes), outcomes.count("open"), outcomes.count("as predicted")) == (12, 11, 1)
    assert "eleven of the twelve parts are open; one is as predicted." in page


def test_camvid_with_the_first_network():
    """Methods are compared by their means on a target, and over the targets the target is the unit."""
    frame = recorded_real()
    rows, pretrained = frame[frame["study"] == "ablation"], frame[frame["study"] == "imagenet"]

    def mean(method, rows=rows):
        return per_training(rows, method, SOURCE_BN).groupby("task").mean()

    def shown(gap):
        return f"{gap.mean:+.1f} [{gap.low:+.1f}, {gap.high:+.1f}]"

    over = paired_difference(mean(MLDG), mean(AGG))
    dusk, on_e = (
        contrast([(1, per_training(part, MLDG, SOURCE_BN)), (-1, per_training(part, AGG, SOURCE_BN))])
        for part in (rows[rows["task"] == task] for task in ("R+E+V->T", "T+R+V->E"))
    )
    page, lesson = text("docs/results.md"), text("notebooks/06_real_streets.ipynb")
    assert f"{shown(dusk)} at dusk, {shown(on_e)} on E, over the four targets {shown(over)}." in page
    assert f"({over.mean:+.1f}, interval {over.low:.1f} to {over.high:+.1f})" in lesson
    pairs = paired_difference(per_training(rows, MLDG, SOURCE_BN), per_training(rows, AGG, SOURCE_BN))
    said = "[{:.1f}, {:+.1f}] for MLDG instead of [{:.1f}, {:+.1f}]"
    assert said.format(pairs.low, pairs.high, over.low, over.high) in lesson
    start = {weights: part for weights, part in pretrained.groupby("weights")}
    weights = paired_difference(mean(AGG, start["imagenet"]), mean(AGG, start["random"]))
    below = paired_difference(mean(AGG, start["imagenet"]), mean(MLDG, start["imagenet"]))
    assert f"gains {weights.mean:.1f} [{weights.low:+.1f}, {weights.high:+.1f}] points" in page
    assert f"({weights.low:.1f} to {weights.high:.1f}, with the targets as the unit)" in lesson
    assert f"MLDG is {below.mean:.1f} [{below.low:.1f}, {below.high:.1f}] below AGG there" in page
