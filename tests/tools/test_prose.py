"""What results.md says in sentences is what is recorded: each figure is computed here and looked for there."""

import json
import math
import re

import pandas as pd
import pytest
from scipy import stats

from dglab import paper
from dglab.analysis.claims import judge
from dglab.analysis.doses import dose_predictions, dose_response
from dglab.analysis.intervals import contrast, paired_difference, per_training
from dglab.analysis.predictions import OF_THREE, train_as_you_test
from dglab.analysis.stability import moves, verdicts
from dglab.analysis.verification import verify
from dglab.experiments.methods import (
    ADABN,
    AGG,
    BN_REESTIMATED,
    BY_DOMAIN,
    BY_DOMAIN2,
    MLDG,
    MLDG_INNER_0,
    ORACLE,
    SIB,
    SOURCE_BN,
    TN_1,
    TN_4,
    TN_5,
    TN_16,
    TrainingMethod,
    select,
)
from dglab.experiments.record import expected_hours, recorded_networks
from dglab.experiments.recorded import AGAIN, read_recorded, recorded_table
from dglab.experiments.runner import open_lab
from dglab.experiments.trials import studies_of
from dglab.models import IBN_NETS
from tools.write_tables import MAIN, ROOT


@pytest.fixture(scope="module")
def text():
    whole = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    return " ".join(re.sub(r"[*_`]", "", whole).split())


@pytest.fixture(scope="module")
def full():
    return recorded_table("full")


def mean(frame, method, test, study="ablation", task=MAIN, **fields):
    return per_training(select(frame, study=study, task=task, **fields), method, test).mean()


def part(frame, number, name):
    [verdict] = [one for one in judge(frame) if one.claim.number == number]
    return next(one.difference for one in verdict.parts if one.name == name)


def interval(difference):
    return f"[{difference.low:+.1f}, {difference.high:+.1f}]"


def lesson_cell(lesson, name):
    """The text of a cell of a lesson, without its marks of emphasis."""
    cells = json.loads((ROOT / "notebooks" / f"{lesson}.ipynb").read_text(encoding="utf-8"))["cells"]
    return next("".join(cell["source"]) for cell in cells if cell["id"] == name).replace("*", "")


def test_the_split_of_the_domains(text, full):
    gaps = [part(full, 4, name) for name in ("2:2 - 3:1", "2:2 - 1:3", "2:2 - cut anywhere")]
    first, second, third = (f"{gap.mean:.1f}" for gap in gaps)
    rows = select(full, study="meta_split")
    by_split = {split: select(rows, split=split) for split in ("half", "3:1", "1:3")}
    left = [
        [f"{(per_training(by_split['half'], MLDG, test).mean() - per_training(own, MLDG, test).mean()):.1f}"
         for own in (by_split["3:1"], by_split["1:3"])]
        for test in (BN_REESTIMATED, TN_4)
    ]  # fmt: skip
    again, tn = (" and ".join(pair) for pair in left)
    assert f"with re-estimated statistics {again} points remain, under TN (M = 4) {tn}." in text
    assert {gap.verdict for gap in gaps} == {"holds"}
    assert (
        f"2:2 is {first} points above 3:1 and {second} above 1:3, and {third} {interval(gaps[2])} above a cut" in text
    )


def test_sources_with_the_images_fixed(text, full):
    sib = part(full, 9, "four sources - G alone, images fixed, with SIB")
    bn = part(full, 9, "images fixed, source BN")
    assert f"four sources are {bn.mean:.1f} points {interval(bn)} above G alone under source BN" in text
    below = f"below it by {-sib.mean:.1f} [{-sib.high:+.1f}, {-sib.low:+.1f}], against the claim"
    assert below in text and sib.verdict == "contradicted"
    gain = {task: mean(full, AGG, TN_4, "source_domains_fixed", task) -
            mean(full, AGG, SOURCE_BN, "source_domains_fixed", task) for task in ("G->C", MAIN)}  # fmt: skip
    assert f"gains {gain['G->C']:.1f} points, of AGG with four sources {gain[MAIN]:.1f}." in text
    rows = select(full, study="source_domains_fixed")
    agg = contrast([(1, per_training(select(rows, task="G->C"), AGG, SIB)),
                    (-1, per_training(select(rows, task=MAIN), AGG, SIB))])  # fmt: skip
    assert f"AGG on four is {agg.mean:.1f} {interval(agg)} below." in text
    over_agg, over_g = (
        part(full, 9, f"images fixed, with SIB: four sources by domain - {o}") for o in ("AGG", "G alone")
    )
    assert (over_agg.verdict, over_g.verdict) == ("holds", "open") and over_g.high < 1
    assert f"Under SIB it is {over_agg.mean:.1f} {interval(over_agg)} points above AGG on four sources" in text
    assert f"and {over_g.mean:.1f} {interval(over_g)} above G alone (expected: open)" in text
    tasks = ("G->C", "G+S->C", "G+S+I->C", MAIN)
    by_batch = [f"{mean(full, AGG, SIB, 'source_domains_fixed', task):.1f}" for task in tasks]
    alone = [f"{mean(full, BY_DOMAIN, SIB, 'source_domains_fixed', task):.1f}" for task in tasks[1:]]
    assert by_batch == sorted(by_batch, reverse=True)
    assert f"AGG has {', '.join(by_batch[:3])} and {by_batch[3]} under SIB" in text
    assert f"two, three and four sources {', '.join(alone[:2])} and {alone[2]}." in text
    assert per_training(select(rows, task="G+S->C"), AGG, SIB).size == 2 and "two trainings each so far" in text
    cell = lesson_cell("09_the_paper", "39906be8")
    plain = {name: f"{gap.mean:.1f} [{gap.low:.1f}, {gap.high:.1f}]" for name, gap in
             (("agg", over_agg), ("g", over_g))}  # fmt: skip
    assert f"is {plain['agg']} above AGG on the same images, and {plain['g']} above G alone" in cell
    assert f"{-sib.mean:.1f} points [{-sib.high:.1f}, {-sib.low:.1f}] below G alone" in cell
    assert f"under source BN {bn.mean:.1f} above it" in cell


def test_the_deviations_over_orders(text, full):
    rows = select(full, study="arrival_orders")
    tn, sib = (per_training(rows, MLDG, test, aggregate="std") for test in (TN_5, SIB))
    ratio = part(full, 3, "log of the ratio of deviations over orders, TN (M = 5) : SIB")
    found = f"{math.exp(ratio.mean):.2f} [{math.exp(ratio.low):.2f}, {math.exp(ratio.high):.2f}]"
    assert f"M = 5 is {tn.mean():.2f} points, of SIB {sib.mean():.2f}, a ratio of {found}" in text
    assert "above one in nine of ten networks" in text and ((tn > sib).sum(), len(tn)) == (9, 10)
    lesson = lesson_cell("09_the_paper", "db13e3c9")
    assert f"deviation is {tn.mean():.2f} points and SIB's {sib.mean():.2f}, a ratio of {found}" in lesson


def test_each_domain_left_out(text, full):
    tasks = {"C": MAIN, "M": "G+S+I+C->M", "I": "G+S+M+C->I", "S": "G+I+M+C->S", "G": "S+I+M+C->G"}
    gap = {t: contrast([(1, per_training(select(full, study="ablation", task=task), MLDG, SOURCE_BN)),
                        (-1, per_training(select(full, study="ablation", task=task), AGG, SOURCE_BN))])
           for t, task in tasks.items()}  # fmt: skip
    assert {t for t, one in gap.items() if one.high < 0} == {"G", "S"}
    assert not any(one.low > 0 for one in gap.values())
    assert f"by {-gap['G'].mean:.1f} and {-gap['S'].mean:.1f} points, and open on the other three" in text

    def gain(method, target, test=TN_4):
        return mean(full, method, test, task=tasks[target]) - mean(full, method, SOURCE_BN, task=tasks[target])

    ends = [f"{gain(method, target):.1f}" for method in (MLDG, AGG) for target in ("G", "I")]
    assert "goes from {} on G to {} on I, to AGG from {} on G to {} on I".format(*ends) in text
    for method in (MLDG, AGG):
        by_gain = sorted(tasks, key=lambda target: gain(method, target))
        assert (by_gain[0], by_gain[-1]) == ("I", "G")
        assert max(gain(method, target, TN_1) for target in "IM") < 0
    over = {
        target: paired_difference(*(per_training(select(full, study="ablation", task=task), MLDG, test)
                                    for test in (SIB, TN_5)))
        for target, task in tasks.items()
    }  # fmt: skip
    assert [t for t, one in over.items() if one.low > 0] == ["M"]
    assert {t: f"{one.mean:.1f}" for t, one in over.items() if one.high < 0} == {"I": "-0.1", "S": "-0.2"}


def test_the_domains_in_a_batch(text, full):
    """Prediction 5: the sentences of results.md and of lesson 04."""
    rows = select(full, study="domains_per_pass")
    two = {(k, d): select(rows[rows["task"].str.startswith("G+S->")], domains_per_pass=k, domain_evaluated=d)
           for k in (1, 2) for d in "GS"}  # fmt: skip
    gain = {key: (per_training(part, TN_4) - per_training(part, SOURCE_BN)).mean() for key, part in two.items()}
    price = {d: (per_training(two[2, d], SOURCE_BN) - per_training(two[1, d], SOURCE_BN)).mean() for d in "GS"}
    adds = f"{gain[1, 'G']:.1f} (G) and {gain[1, 'S']:.1f} (S) points"
    takes, lost = ([f"{x['G']:.1f}", f"{x['S']:.1f}"] for x in ({d: -gain[2, d] for d in "GS"}, price))
    assert f"TN adds {adds} on the very domains" in text and f"TN takes {' and '.join(takes)}." in text
    assert f"under source BN: {lost[0]} (G) and {lost[1]} (S) points on the sources" in text
    parts = [one for one in train_as_you_test(full) if one.number == 5]
    outcomes = [one.outcome for one in parts]
    assert (outcomes.count("as predicted"), outcomes.count("open"), len(parts)) == (4, 3, 7)
    of = {(one.domain, one.what): one.difference for one in parts}
    on_i = next(gap for (domain, _), gap in of.items() if domain == "I")
    assert f"On I one domain a batch is worth {on_i.mean:.1f} {interval(on_i)} points more" in text
    four = next(gap for (_, name), gap in of.items() if name.startswith("G+S+I+M: TN - source BN, 1"))
    assert f"From four sources to C it is {four.mean:.1f} {interval(four)} from one to two domains" in text
    lesson = lesson_cell("04_tn", "as-you-test-reading")
    assert f"TN adding {adds} and TN taking {' and '.join(takes)}." in lesson
    assert f"are {' and '.join(lost)} points worse there" in lesson


def test_the_bound_and_what_closes_the_gap(text, full):
    agg = mean(full, AGG, SOURCE_BN)
    bound = mean(full, AGG, SOURCE_BN, "bound", "C->C")
    [name] = set(full["backbone"]) & set(IBN_NETS.values())
    ibn = mean(full, AGG, SOURCE_BN, "ibn_net", backbone=name)
    closed = [mean(full, MLDG, SIB) - agg, mean(full, BY_DOMAIN, SIB) - agg, ibn - agg]
    first, second, third = (f"{points:.1f}" for points in closed)
    assert (
        f"lie {bound - agg:.1f} points, of which MLDG+SIB closes {first}, and AGG by domain with SIB {second}, " in text
    )
    assert f"AGG with IBN-Net {third}." in text
    instance = per_training(select(full, study="ibn_net", task="G->C", backbone=name), AGG, SOURCE_BN)
    plain = per_training(select(full, study="source_domains", task="G->C"), AGG, SOURCE_BN)
    gain = contrast([(1, instance), (-1, plain)])
    assert f"IBN-Net gains {gain.mean:.1f} {interval(gain)} over AGG under source BN; the paper prints 7.47" in text
    lesson = lesson_cell("09_the_paper", "20ca9be2")
    assert (
        f"over AGG it gains {gain.mean:.1f} here and 7.47 there" in lesson
        and f"bound, {bound - agg:.1f} points," in lesson
    )
    assert f"IBN-Net gains {third} points under source BN and MLDG+SIB {first}." in lesson
    above = ibn - mean(full, MLDG, SIB)
    assert f"has {ibn:.1f} on C under source BN (five trainings), {above:.1f} points above MLDG+SIB" in text


def test_what_was_tried_after_the_choice(text):
    tried = (
        pd.read_csv(ROOT / "docs" / "tries.csv").query("steps == 1500").set_index(["method", "backbone", "lr", "seed"])
    )
    score = tried["mean"].sort_index()
    chosen = {"agg": 0.4, "mldg": 0.2}
    lost, lost_mldg = (
        score[m, "thin-fpn", rate].mean() - score[m, "thin-fpn", 0.8].mean() for m, rate in chosen.items()
    )
    assert f"Tried afterwards, 0.8 scores {lost:.1f} less than 0.4 for AGG, and {lost_mldg:.1f} less than 0.2" in text
    gains = [score[m, "thin-fpn-half", 0.2] - score[m, "thin-fpn", 0.2] for m in chosen]
    assert [len(gain) for gain in gains] == [2, 2]
    agg, mldg = (f"{gain.mean():.1f}" for gain in gains)
    assert (
        f"(two seeds, a rate of 0.2), scores {agg} points more for AGG and {mldg} for MLDG in more than twice" in text
    )
    seconds = tried["seconds"].sort_index()
    for m in chosen:
        assert seconds[m, "thin-fpn-half", 0.2, 100] > 2 * seconds[m, "thin-fpn", 0.2, 100]
    assert set(tried["classes_below_1"].xs("thin-fpn-half", level="backbone")) == {3} and "leaves three classes" in text


def test_a_common_rate(text, full):
    def at(method: TrainingMethod, test):
        return mean(full, method, test, "common_rate")

    lead = mean(full, BY_DOMAIN, TN_4) - mean(full, MLDG, TN_4)
    assert f"it is {lead:.1f} points above MLDG with TN." in text
    assert f"by domain has {at(BY_DOMAIN, TN_4):.1f} with TN and MLDG {at(MLDG, TN_4):.1f} (three" in text
    gains = [at(method, TN_4) - at(method, SOURCE_BN) for method in (BY_DOMAIN, MLDG)]
    assert f"the gain of TN stays larger, {gains[0]:.1f} against {gains[1]:.1f}." in text


def test_train_as_you_test(text, full):
    found = train_as_you_test(full)
    of = {(one.number, one.what, one.domain): one.difference for one in found}
    first = [one for one in found if one.number == 1]
    assert {one.outcome for one in first if one.domain in ("G", "S")} == {"as predicted"}
    inner = [of[4, "TN: MLDG - MLDG inner 0", domain] for domain in "IMC"]
    low, high = min(-one.mean for one in inner), max(-one.mean for one in inner)
    assert f"MLDG is {low:.1f} to {high:.1f} points below MLDG without inner step" in text
    ends = min(one.low for one in inner), max(one.high for one in inner)
    assert f"reach from {ends[0]:.1f} to {ends[1]:+.1f}" in text and ends[1] < 1
    source = [of[2, "source BN: by domain - AGG", domain].mean for domain in "IMC"]
    again = [of[2, "by domain: re-estimated - source BN", domain].mean for domain in "IMC"]
    assert f"by domain is {-source[0]:.1f} points below AGG under source BN" in text
    assert f"re-estimated statistics give {again[0]:.1f} of them back" in text
    assert f"by domain is {source[1]:.1f} and {source[2]:.1f} points above AGG under source BN" in text
    assert f"re-estimation takes {-again[1]:.1f} and {-again[2]:.1f} away" in text


def test_four_sources_and_the_predictions(text, full):
    four = {(one.number, one.what): one for one in train_as_you_test(full) if one.domain == "C, from G+S+I+M"}
    gap, again, inner, doubled, apart = (
        four[key].difference
        for key in ((2, "source BN: by domain - AGG"), (2, "by domain: re-estimated - source BN"),
                    (4, "TN: MLDG - MLDG inner 0"), (4, "TN: MLDG - by domain, 2x"),
                    (4, "TN: MLDG - by domain (added later)"))
    )  # fmt: skip
    assert f"by domain is {gap.mean:.1f} {interval(gap)} above AGG under source BN" in text
    lost = f"{-again.mean:.1f} [{-again.high:+.1f}, {-again.low:+.1f}]"
    assert f"re-estimation takes {lost} from it, against prediction 2." in text
    below = f"{-apart.mean:.1f} [{-apart.high:+.1f}, {-apart.low:+.1f}]"
    assert f"MLDG is {inner.mean:.1f} {interval(inner)} above MLDG without inner step, {below} below by domain" in text
    assert f"and {doubled.mean:.1f} {interval(doubled)} above by domain, 2x (which has three trainings;" in text
    ends = f"{doubled.mean:.1f} [{doubled.low:.1f}, {doubled.high:.1f}]"
    assert f"It lies {ends} above by domain with its loss doubled" in lesson_cell("04_tn", "as-you-test-reading")
    assert {key: one.outcome for key, one in four.items()} == dict(
        zip(four, ("open", "against it", "open", "open", "against it", "against it"), strict=True)
    )


def test_what_tn_adds_to_agg_on_c_depends_on_m(text, full):
    def gain(test, task=MAIN):
        rows = select(full, study="ablation", task=task)
        return paired_difference(per_training(rows, AGG, test), per_training(rows, AGG, SOURCE_BN))

    four, one = gain(TN_4), gain(TN_1)
    assert f"On C with four sources it adds {four.mean:.1f} {interval(four)}, against the paper's second claim." in text
    others = {task: gain(TN_1, task) for task in ("G+S+I->M", "G+S+I->C")}
    on = [f"by {gap.mean:+.1f} {interval(gap)} on {task}" for task, gap in others.items()]
    said = f"with M = 1 AGG changes by {one.mean:.1f} {interval(one)} there, {on[0]} and {on[1]}."
    assert said in text


def test_three_sources_and_equal_steps(text, full):
    three = {(one.number, one.what, one.domain[0]): one.difference for one in train_as_you_test(full)
             if one.domain.endswith("from G+S+I")}  # fmt: skip
    lesson = lesson_cell("04_tn", "as-you-test-reading")

    def below(gap, sign="+"):
        return f"{-gap.mean:.1f} [{-gap.high:{sign}.1f}, {-gap.low:{sign}.1f}]"

    on_c, on_m = (three[4, "TN: MLDG - by domain (added later)", domain] for domain in "CM")
    assert f"MLDG is {below(on_c)} below by domain on C, against prediction 4, and {below(on_m)} on M" in text
    assert f"MLDG lies {below(on_c, '')} below by domain under TN. On M it is open ({below(on_m, '')})." in lesson
    inner = [three[4, "TN: MLDG - MLDG inner 0", domain] for domain in "CM"]
    assert all(abs(gap.mean) < 0.05 for gap in inner) and "level in the mean (0.0 on both), within 1.2." in text
    assert all(max(-gap.low, gap.high) < 1.2 for gap in inner)
    again = [three[2, "by domain: re-estimated - source BN", domain] for domain in "CM"]
    assert f"Re-estimation takes {-again[0].mean:.1f} and {-again[1].mean:.1f} from by domain, against" in text
    gains = {method: [(per_training(rows, method, TN_4) - per_training(rows, method, SOURCE_BN)).mean()
                      for rows in (select(full, study="ablation", task=task) for task in OF_THREE)]
             for method in (BY_DOMAIN, MLDG)}  # fmt: skip
    more, less = ([f"{gain:.1f}" for gain in gains[method]] for method in (BY_DOMAIN, MLDG))
    assert f"to by domain ({more[0]} on C, {more[1]} on M) than to MLDG ({less[0]} and {less[1]})" in text
    common = select(full, study="common_rate")
    equal = contrast([(1, per_training(common, MLDG, TN_4)), (-1, per_training(common, BY_DOMAIN2, TN_4))])
    assert f"MLDG is {below(equal)} below under TN (three trainings;" in text
    assert f"and MLDG lies {below(equal, '')} below it." in lesson


def test_what_tn_adds_to_agg_from_two_sources(text, full):
    rows = select(full, study="train_as_you_test")
    gains = [
        (per_training(own, AGG, TN_4) - per_training(own, AGG, SOURCE_BN)).mean()
        for own in (select(rows, domain_evaluated=domain) for domain in "IMC")
    ]
    assert f"and adds {min(gains):.1f} to {max(gains):.1f} on unseen domains." in text


def test_the_numbers_to_reach_on_the_sources_and_of_the_bound(text, full):
    means = []
    for frame in (full, recorded_table("quick")):
        rows = select(frame, AGG, SOURCE_BN, study="source_and_target", metric="miou")
        means.append(
            rows[rows["domain_evaluated"] != rows["target"]].groupby("domain_evaluated")["value"].mean().mean()
        )
    assert f"AGG has {means[0]:.1f} with full, {means[1]:.1f} with quick" in text
    bound = select(full, study="bound", metric="iou").groupby("class")["value"].mean()
    low = bound[bound < 5].round(1)
    assert set(low.index) == {"rider", "motorcycle", "bicycle", "wall"} and f"With wall ({low['wall']})" in text


def test_by_domain_against_agg_at_equal_loss(text, full):
    rows = select(full, study="train_as_you_test")
    gaps, of_mldg = [], []
    for domain in "IMC":
        own = select(rows, domain_evaluated=domain)
        agg, by_domain, mldg = (per_training(own, method, TN_4) for method in (AGG, BY_DOMAIN, MLDG))
        gaps.append(contrast([(1, by_domain), (-1, agg)]))
        of_mldg.append(mldg.mean() - agg.mean())
    i, m, c = (f"{gap.mean:.1f} {interval(gap)}" for gap in gaps)
    assert f"{i} points above AGG on I, {m} on M and {c} on C;" in text
    assert f"MLDG is {of_mldg[0]:.1f}, {of_mldg[1]:.1f} and {of_mldg[2]:.1f} above AGG" in text


def test_sib_against_tn_on_m(text, full):
    for task in ("G+S+I->M", "G+S+I+C->M"):
        rows = select(full, study="ablation", task=task)
        gaps = {}
        for method in (MLDG, AGG):
            sib, tn = per_training(rows, method, SIB), per_training(rows, method, TN_5)
            assert ((sib - tn).dropna() > 0).sum() == len((sib - tn).dropna()) == 5
            gaps[method] = paired_difference(sib, tn)
        of_mldg, of_agg = (
            f"{gaps[method].mean:+.2f} [{gaps[method].low:+.2f}, {gaps[method].high:+.2f}]" for method in gaps
        )
        words = ("for MLDG and", "for AGG from G+S+I") if task == "G+S+I->M" else ("and", "from G+S+I+C.")
        assert f"by {of_mldg} {words[0]} {of_agg} {words[1]}" in text


def test_sib_against_tn_on_c(text, full):
    rows = select(full, study="ablation", task=MAIN)
    gap = paired_difference(per_training(rows, MLDG, SIB), per_training(rows, MLDG, TN_5))
    assert f"they are level ({gap.mean:.2f} [{gap.low:+.2f}, {gap.high:+.2f}] for MLDG)." in text


def test_sib_against_adabn(text, full):
    gaps = {}
    for task in ("G+S+I->M", "G+S+I+C->M", "G+S+I->C", MAIN):
        rows = select(full, study="ablation", task=task)
        gaps[task] = paired_difference(per_training(rows, MLDG, SIB), per_training(rows, MLDG, ADABN))
    three, four = (f"{gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]" for gap in list(gaps.values())[:2])
    assert f"by {three} from G+S+I and by {four} from G+S+I+C, as in the paper" in text
    three, four = (f"{-gap.mean:.2f} [{-gap.high:+.2f}, {-gap.low:+.2f}]" for gap in list(gaps.values())[2:])
    assert f"by {three} from G+S+I and, with all twenty trainings, by {four} from G+S+I+M" in text
    printed = paper.table("table11_adabn").set_index(["task", "method"])["miou"]
    theirs = [f"{printed[task, 'MLDG+SIB'] - printed[task, 'MLDG+AdaBN']:+.2f}" for task in gaps]
    assert f"as in the paper ({theirs[0]}, {theirs[1]})" in text and f"(the paper: {theirs[2]}, {theirs[3]})" in text


def test_tn_on_the_fourth_task(text, full):
    rows = select(full, study="ablation", task="G+S+I+C->M")

    def gap(method, test, sign):
        gain = paired_difference(per_training(rows, method, test), per_training(rows, method, SOURCE_BN))
        low, high = sorted((sign * gain.low, sign * gain.high))
        return f"{sign * gain.mean:.1f} [{low:+.1f}, {high:+.1f}]"

    assert f"takes {gap(AGG, TN_4, -1)} points from AGG and adds {gap(MLDG, TN_4, 1)} to MLDG" in text
    assert f"with M = 1 it takes {gap(AGG, TN_1, -1)} and {gap(MLDG, TN_1, -1)}." in text
    printed = paper.table("table03_ablation").query("task == 'G+S+I+C->M'").set_index("method")["miou"]
    lost = [printed[name] - printed[f"{name}+TN"] for name in ("AGG", "MLDG")]
    assert f"In the paper it takes {lost[0]:.1f} and {lost[1]:.1f} there." in text
    cell = lesson_cell("09_the_paper", "2f861307")
    mean = {(m, t): f"{abs((per_training(rows, m, t) - per_training(rows, m, SOURCE_BN)).mean()):.1f}"
            for m in (AGG, MLDG) for t in (TN_1, TN_4)}  # fmt: skip
    assert f"takes {mean[AGG, TN_4]} points from AGG and adds {mean[MLDG, TN_4]} to MLDG" in cell
    assert f"takes {mean[AGG, TN_1]} from AGG on that task, and {mean[MLDG, TN_1]} from MLDG" in cell


def test_twenty_trainings_of_the_main_methods(text, full):
    rows = select(full, study="ablation", task=MAIN)

    def gap(better, worse, test):
        return contrast([(1, per_training(rows, better, test)), (-1, per_training(rows, worse, test))])

    plain, tn, apart = gap(MLDG, AGG, SOURCE_BN), gap(MLDG, AGG, TN_4), gap(BY_DOMAIN, AGG, TN_4)
    assert f"With twenty trainings MLDG and AGG are level under source BN: {plain.mean:.1f} {interval(plain)}" in text
    assert plain.sign == "open" and plain.high < 1 and plain.low < -0.5 and plain.high > 0.5
    six, ten = (
        mean(first, MLDG, SOURCE_BN) - mean(first, AGG, SOURCE_BN)
        for first in (rows[rows["train_seed"] < 16], rows[rows["train_seed"] < 20])
    )
    assert f"The first six had said {six:+.1f}, the first ten {ten:+.1f}." in text
    assert f"MLDG is {tn.mean:.1f} {interval(tn)} above AGG, and by domain" in text
    assert f"meta-learning, {apart.mean:.1f} {interval(apart)}." in text


def test_the_deviation_over_trainings_in_lesson_09(full):
    """What exercise 3 of lesson 09 says of the chance of the paper's gain, and exercise 2 of claim 1."""
    rows = select(full, study="ablation", task=MAIN)
    scores = [per_training(rows, method, SOURCE_BN).droplevel("task") for method in (AGG, MLDG)]

    def chance(of, trainings):
        deviation = of.iloc[:trainings].std()
        return f"{100 * stats.norm.sf(2.24 / (deviation * 2**0.5)):.1f} %"

    cell = lesson_cell("09_the_paper", "note-09-3")
    agg, mldg = scores
    assert f"deviation of {agg.std():.3f} that AGG has over twenty trainings at `full`" in cell
    assert f"the answer is {chance(agg, 20)}, with MLDG's" in cell
    assert f"with MLDG's {mldg.std():.3f} it is {chance(mldg, 20)}." in cell
    assert f"first six trainings would have said {chance(agg, 6)}, its first ten {chance(agg, 10)}" in cell
    assert f"MLDG's {chance(mldg, 6)} and {chance(mldg, 10)}." in cell
    gaps = [part.difference for part in judge(full)[0].parts]
    needed = [int(n * ((gap.high - gap.low) / 2 / gap.mean) ** 2) + 1 for gap, n in zip(gaps, (20, 5), strict=True)]
    said = lesson_cell("09_the_paper", "note-09-2")
    assert "the answers for claim 1 are {:,} and {:,}.".format(*needed) in said and f"These {needed[0]:,} are" in said


def test_dose_and_response(text, full):
    gains = dose_response(full).set_index(["trained with", "test", "dose"])["gain"].sort_index()
    found = dose_predictions(full)
    assert [len(found), sum(one.outcome == "as predicted" for one in found)] == [13, 11]
    of = {(one.number, one.what, one.domain): one.difference.mean for one in found}
    at_0 = {name: gains[name, "TN, M = 4", 0.0] for name in ("AGG", "by domain", "MLDG")}
    assert f"look like its sources TN costs {-at_0['AGG']:.1f} points." in text
    upto = gains["AGG", "TN, M = 4"].loc[:0.75]
    assert upto.max() < 0 and f"({upto.min():.1f} to {upto.max():.1f} points)" in text
    assert f"and {gains['AGG', 'TN, M = 4', 1.0]:.1f} at C." in text
    assert gains["MLDG", "TN, M = 4"].loc[:0.25].max() < 0 <= gains["MLDG", "TN, M = 4"].loc[0.5:].min()
    apart = dose_response(full).query("`trained with` == 'by domain' and test == 'TN, M = 4'").set_index("dose")
    assert apart["gain"].idxmin() == 0.25 and apart["gain"].min() > 0 > apart["low"][0.25]
    assert f"least at a quarter of the way ({apart['gain'].min():.1f}, an interval that contains zero)" in text
    assert f"MLDG loses {-at_0['MLDG']:.1f} points at dose 0" in text
    rows = select(full, BY_DOMAIN, SOURCE_BN, study="style_dose", metric="miou")
    plain = rows.groupby("dose")["value"].mean()
    assert f"gains {at_0['by domain']:.1f} at dose 0, where its source BN is at its lowest" in text
    assert plain[0.0] == plain.loc[:1.0].min() and f"({plain[0.0]:.1f}, against {plain[0.25]:.1f} at a quarter" in text
    sib = {(name, dose): of[9, f"{name}: SIB - TN", f"dose {dose}"] for name in ("by domain", "MLDG") for dose in "01"}
    assert f"by {sib['by domain', '0']:.1f} points for by domain and {sib['MLDG', '0']:.1f} for MLDG" in text
    assert f"at C, in one style, by {sib['by domain', '1']:.1f} and {sib['MLDG', '1']:.1f}." in text
    assert f"is {-of[8, 'by domain: AdaBN - TN', 'dose 0']:.1f} below TN for by domain" in text
    cell = lesson_cell("08_your_own_model", "dose-reading")
    assert f"AGG loses {-at_0['AGG']:.1f} points" in cell and f"gains {gains['AGG', 'TN, M = 4', 1.0]:.1f} at C" in cell
    assert f"{sib['by domain', '0']:.1f} points above TN for by domain and {sib['MLDG', '0']:.1f} for MLDG" in cell


def test_the_dose_in_when_to_use(full):
    page = " ".join((ROOT / "docs" / "when_to_use.md").read_text(encoding="utf-8").split())
    gains = dose_response(full).set_index(["trained with", "test", "dose"])["gain"].sort_index()["AGG", "TN, M = 4"]
    assert f"AGG loses {-gains[0.0]:.1f} points to TN where the style is a source's" in page
    assert abs(gains[0.75]) < 0.1 and f"gains {gains[1.0]:.1f} at C and {gains[1.5]:.1f} at one and a half" in page


def test_the_verdicts_that_depend_on_m(text, full):
    first, sib = part(full, 2, "AGG - AGG+TN (M = 1)"), part(full, 3, "MLDG+SIB - MLDG+TN (M = 1)")
    assert first.verdict == "open" and part(full, 2, "AGG - AGG+TN (M = 4)").verdict == "contradicted"
    above = f"{sib.mean:.2f} [{sib.low:.2f}, {sib.high:.2f}]"
    assert f"and SIB would be {above} above TN" in lesson_cell("09_the_paper", "db13e3c9")
    assert f"SIB is {sib.mean:.2f} [{sib.low:+.2f}, {sib.high:+.2f}] above, and claim 2 would be open" in text
    rows = select(full, study="ablation", task="G+S+I+C->M")
    for test in (TN_5, TN_16):
        assert paired_difference(per_training(rows, AGG, test), per_training(rows, AGG, SOURCE_BN)).sign == "open"
    assert "with M = 5 and 16 what AGG loses is open" in lesson_cell("09_the_paper", "2f861307")
    adabn = part(full, 12, "MLDG+SIB - MLDG+AdaBN")
    assert f"12 by {-adabn.mean:.2f} points, less than the margin" in lesson_cell("09_the_paper", "paper-text-41")


def test_the_mixed_stream(text, full):
    sib, tn = part(full, 6, "SIB - TN (M = 5)"), part(full, 6, "TN (M = 5) - QIB")
    rows = select(full, study="selection_policy")
    oracle, style = (per_training(rows, MLDG, test).mean() for test in (ORACLE, SIB))
    assert (sib.verdict, tn.verdict) == ("holds", "no difference") and oracle < style
    printed = paper.table("table05_selection_policy").set_index("method")["miou"]
    theirs = printed["MLDG+SIB"] - printed["MLDG+TN"], printed["MLDG+TN"] - printed["MLDG+QIB"]
    cell = lesson_cell("09_the_paper", "table-5-reading")
    for said, sign in ((text, "+"), (cell, "")):
        ends = f"[{sib.low:{sign}.2f}, {sib.high:{sign}.2f}]"
        assert f"SIB is {sib.mean:.2f} {ends} above TN" in said and f"{theirs[0]:.2f} (M not stated)" in said
        assert f"the paper has {theirs[1]:.2f} between them" in said and f"({oracle:.1f} and {style:.1f})" in said


def test_all_at_the_rate_of_mldg(text, full):
    rows, common = select(full, study="ablation", task=MAIN), select(full, study="common_rate")
    of_agg, apart = (contrast([(1, per_training(rows, method, TN_4)), (-1, per_training(common, method, TN_4))])
                     for method in (AGG, BY_DOMAIN))  # fmt: skip
    ends = [f"{one.mean:.1f} [{one.low:.1f}, {one.high:.1f}]" for one in (of_agg, apart)]
    said = f"Under TN AGG has {ends[0]} points less than at its own rate, and by domain {ends[1]};"
    assert said in lesson_cell("09_the_paper", "c8f4f329")
    gap = contrast([(1, per_training(common, BY_DOMAIN, TN_4)), (-1, per_training(common, MLDG, TN_4))])
    assert f"it is open ({gap.mean:.1f} {interval(gap)}, three trainings)" in text


def test_networks_trained_again_on_other_instructions(text, full):
    again = read_recorded(AGAIN)
    found = moves(full, again)
    assert f"{again['train_seed'].nunique()} seeds each were trained and tested again" in text
    said = []
    for test in (SOURCE_BN, TN_4):
        own = [one for one in found if one.test is test]
        gaps = pd.concat([one.gaps for one in own])
        said.append((len(gaps), (gaps**2).mean() ** 0.5, (sum(2 * one.deviation**2 for one in own) / len(own)) ** 0.5))
    (count, moved, expected), (_, under_tn, expected_tn) = said
    largest = max((gap for one in found for gap in one.gaps), key=abs)
    assert f"The moves of the {count} networks have a root mean square of {moved:.1f} points under source BN" in text
    assert (
        f"and {under_tn:.1f} under TN (M = 4), where two seeds would give {expected:.1f} and {expected_tn:.1f}" in text
    )
    assert f"the largest is {largest:+.1f}" in text
    thirds = {round(3 * ratio) for ratio in (moved / expected, under_tn / expected_tn)}
    assert thirds == {2} and "moves two thirds as far as by another seed" in text
    every = verdicts(full, again)
    assert all(one.recorded == one.again for one in every) and "none is, so far." in text
    moved_alone = {one.claim.partition(".")[0]: one.alone for one in every if one.alone[0] != one.alone[1]}
    assert moved_alone == dict.fromkeys(("3", "12"), ("contradicted", "no difference"))
    alone = [one for one in every if one.alone[0] != "not run"]
    assert len(alone) == 6 and "of six verdicts two move (3 and 12, from contradicted to no difference)" in text


def test_how_far_off_verify_takes_for_a_fault(text):
    quick = recorded_table("quick")
    table = verify(quick, quick)
    assert round(((table["high"] - table["low"]) / 2).median()) == 6
    assert "here some 6 points to either side of the mean" in text
    assert "outside" not in set(verify(read_recorded(AGAIN), recorded_table("full"))["verdict"])


def test_the_hours_of_full(text):
    networks = recorded_networks("full")
    hours = networks[["seconds_training", "seconds_testing"]].sum().sum() / 3600
    assert f"the {len(networks)} recorded so far {hours:.0f} core-hours, with all their tests." in text
    lab = open_lab("full", device="cpu", use_shipped=False)
    every = {trial.training for study in studies_of(lab).values() for trial in study(lab)}
    assert f"in some {expected_hours(networks, every, 2):.0f} hours on two cores" in text


def test_the_dose_and_the_gpu_in_the_readme(full):
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    gains = dose_response(full).set_index(["trained with", "test", "dose"])["gain"].sort_index()
    first = {name: next(dose for dose, gain in gains[name, "TN, M = 4"].items() if gain > 0)
             for name in ("AGG", "MLDG", "by domain")}  # fmt: skip
    assert first == {"AGG": 1.0, "MLDG": 0.5, "by domain": 0.0}
    said = "for AGG more than three quarters of the way, for MLDG half of it; AGG by domain gains from the start."
    assert said in readme
    gpu = recorded_table("standard")
    assert {verdict.outcome.partition(",")[0] for verdict in judge(gpu)} == {"open", "not run"}
    assert len(recorded_networks("standard")) == 9 and "Nine networks of a ResNet-50" in readme


def test_tn_on_the_sources_of_four(text, full):
    first = [one for one in train_as_you_test(full) if one.number == 1 and one.domain.endswith(", from G+S+I+M")]
    of = {(one.what.partition(":")[0], one.domain[0]): one.difference.mean for one in first}
    name = {"AGG": -1, "by domain": 1, "MLDG": -1, "MLDG inner 0": -1}
    gains = {m: sorted((f"{sign * of[m, d]:.1f}", d) for d in "GSIM") for m, sign in name.items()}
    (low, at_low), *_, (high, at_high) = gains["AGG"]
    assert f"TN costs AGG {low} ({at_low}) to {high} ({at_high}) points" in text
    (low, at_low), *_, (high, at_high) = gains["by domain"]
    assert f"adds {low} ({at_low}) to {high} ({at_high}) to by domain" in text
    lesson = lesson_cell("04_tn", "as-you-test-reading")
    assert f"To by domain TN adds {low} to {high} points, on all four." in lesson
    mldg, without = (sorted(f"{-of[m, d]:.1f}" for d in "GSI") for m in ("MLDG", "MLDG inner 0"))
    on_m, without_on_m = (f"{of[m, 'M']:.1f}" for m in ("MLDG", "MLDG inner 0"))
    assert f"From MLDG it takes {mldg[0]} to {mldg[-1]} on G, S and I and adds {on_m} on M" in text
    assert f"({without[0]} to {without[-1]}, and {without_on_m})" in text
    assert f"From MLDG it takes {mldg[0]} to {mldg[-1]} on three of them" in lesson
    outcomes = {m: {one.outcome for one in first if one.what.startswith(f"{m}:")} for m in ("AGG", "by domain")}
    assert set.union(*outcomes.values()) == {"as predicted"}
    on_gsi = [one for one in first if one.what.startswith("MLDG") and one.domain[0] in "GSI"]
    assert [one.outcome for one in on_gsi] == ["against it"] * 6


def test_twice_the_steps(text, full):
    """What longer training adds and what stays; the bound's classes."""
    once = select(full, study="ablation", task=MAIN, metric="miou")
    every = select(full, study="twice_the_steps", metric="miou")
    twice, bound = every[every["task"] == MAIN], every[every["task"] == "C->C"]

    def scores(rows, test):
        return {method: per_training(rows, method, test) for method in (AGG, MLDG, BY_DOMAIN)}

    source, source_once, tn, tn_once = (scores(rows, test) for test in (SOURCE_BN, TN_4) for rows in (twice, once))
    agg, mldg, by_domain = (f"{source[method].mean() - source_once[method].mean():.1f}" for method in source)
    bound_once = select(full, study="bound", metric="miou", task="C->C")
    grown = per_training(bound).mean() - per_training(bound_once).mean()
    said = f"adds {agg} points to AGG under source BN, {mldg} to MLDG, {by_domain} to by domain, and {grown:.1f} to"
    assert f"{said} the bound, which has {per_training(bound).mean():.1f}." in text
    gains = [paired_difference(tn[method], source[method]) for method in tn]
    more = [gain.mean - (tn_once[method] - source_once[method]).mean() for gain, method in zip(gains, tn, strict=True)]
    assert gains[0].sign == "open" and {one.trainings for one in gains} == {3}
    agg, mldg, by_domain = (f"{one.mean:.1f}" for one in gains)
    assert f"stays: {agg} (AGG; open with three trainings), {mldg} (MLDG), {by_domain} points (by domain)" in text
    assert "{:.1f}, {:.1f} and {:.1f} more than after 1,500 steps".format(*more) in text
    ahead = [contrast([(1, of[method]), (-1, of[AGG])]) for method in (BY_DOMAIN, MLDG) for of in (tn, tn_once)]
    now, before, mldg, mldg_before = (f"{one.mean:.1f} {interval(one)}" for one in ahead)
    change = contrast([(1, tn[BY_DOMAIN]), (-1, tn[AGG]), (-1, tn_once[BY_DOMAIN]), (1, tn_once[AGG])])
    assert f"{now} points, {before} after 1,500 steps, a change of {change.mean:.1f} {interval(change)}." in text
    assert f"MLDG is {mldg} ahead of AGG there ({mldg_before}; no test" in text
    gap = contrast([(1, per_training(bound)), (-1, source[AGG])])
    gap_once = per_training(bound_once).mean() - source_once[AGG].mean()
    assert f"the bound is {gap.mean:.1f} {interval(gap)} points ({gap_once:.1f})" in text
    classes = select(full, study="twice_the_steps", task="C->C", metric="iou").groupby("class")["value"].mean()
    first, second, third = (f"{name} ({value:.1f})" for name, value in classes[classes < 5].items())
    assert f"{first}, {second} and {third} stay below 5 %" in text
    assert f"pole has {classes['pole']:.1f} and wall {classes['wall']:.1f} now" in text
    assert f"wall has {classes['wall']:.1f}, and three classes are left" in text
    cell = lesson_cell("09_the_paper", "twice-the-steps-text")
    inner_0 = per_training(twice, MLDG_INNER_0, SOURCE_BN).mean() - per_training(once, MLDG_INNER_0, SOURCE_BN).mean()
    every_gain = (inner_0, *(source[method].mean() - source_once[method].mean() for method in source))
    assert f"All gain {min(every_gain):.1f} to {max(every_gain):.1f} points under source BN" in cell and min(more) > 0
    inner = contrast([(1, tn[MLDG]), (-1, per_training(twice, MLDG_INNER_0, TN_4))])
    assert f"({inner.mean:.1f} {interval(inner)} under TN)" in cell.replace("−", "-")
    assert f"from {ahead[1].mean:.1f} points to {ahead[0].mean:.1f}, and neither that lead nor its change" in cell
    assert ahead[0].sign == change.sign == "open"
