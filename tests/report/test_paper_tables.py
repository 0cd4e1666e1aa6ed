"""The paper's tables beside ours, from small tables made by hand."""

import pandas as pd
import pytest

from dglab.classes import CLASS_NAMES
from dglab.experiments.table import COLUMNS, TYPES
from dglab.report import figures, overview, tables

MAIN = "G+S+I+M->C"
TESTS = {
    "BN": {"test_method": "bn"},
    "REEST": {"test_method": "bn-reestimated"},
    "TN4": {"test_method": "tn", "batch_size": 4, "prior": 0.0},
    "SIB": {"test_method": "sib", "statistics": "joint", "prior": 0.0},
    "AdaBN": {"test_method": "adabn"},
}


def rows(method, test, values, metric="miou", **fields):
    """Rows of a training method ("agg", "mldg") under a test: {training seed: value}, or a value for each order."""
    common = {
        "study": "ablation", "preset": "full", "task": MAIN, "target": "C", "domain_evaluated": "C",
        "train_method": method, "inner_lr": 0.1 if method == "mldg" else None, "lr": 0.2, "train_images": 200,
        "backbone": "thin-fpn", "weights": "random", "metric": metric, **TESTS[test], **fields,
    }  # fmt: skip
    if method == "mldg":
        common = {"split": "half", "order": 1, **common}
    return [
        {**common, "train_seed": seed, "test_seed": order, "value": value}
        for seed, by_order in values.items()
        for order, value in enumerate(by_order if isinstance(by_order, list) else [by_order])
    ]


def table(*parts):
    return pd.DataFrame([row for part in parts for row in part], columns=list(COLUMNS)).astype(TYPES)


EMPTY = table()


def test_the_cells_of_a_row_rest_on_the_same_seeds():
    """Table 8: SIB has seed 10 alone, so AGG's seeds 11 and 12 do not count in its row: 26, not (26 + 20 + 23) / 3."""
    of = {"study": "source_domains", "task": "G+S->C"}
    frame = table(
        rows("agg", "BN", {10: 26.0, 11: 20.0, 12: 23.0}, **of),
        rows("agg", "SIB", {10: [29.0, 30.0]}, **of),
        rows("mldg", "BN", {10: 27.0, 11: 21.0}, **of),
        rows("agg", "BN", {10: 33.0, 11: 35.0}, study="source_domains"),
    )
    found = {row["sources"]: row for row in tables.sources_table(frame)}
    assert list(found) == ["G", "G+S", "G+S+I", "G+S+I+M"]
    assert found["G+S"] == {
        "sources": "G+S", "AGG": "26.0", "AGG+TN, M = 4": "not run", "AGG+SIB": "29.5", "MLDG": "27.0",
        "MLDG+TN, M = 4": "not run", "MLDG+SIB": "not run", "n": "1", "the paper": "38.10 ± 0.16",
    }  # fmt: skip
    assert found["G"]["MLDG"] == "needs two sources" and found["G"]["the paper"] == "29.33 (method not stated)"
    assert (found["G+S+I+M"]["AGG"], found["G+S+I+M"]["n"]) == ("34.0 ± 1.4", "2")
    assert (found["G+S+I"]["AGG"], found["G+S+I"]["n"]) == ("not run", "")


def test_with_the_images_fixed_the_paper_has_nothing_to_show():
    frame = table(rows("agg", "SIB", {10: 37.0, 11: 35.0}, study="source_domains_fixed", task="G->C"))
    [alone, *_] = tables.sources_table(frame, fixed=True)
    assert (alone["AGG+SIB"], alone["n"]) == ("36.0 ± 1.4", "2") and "the paper" not in alone
    assert (alone["MLDG+SIB"], alone["by domain+SIB"]) == ("needs two sources", "as AGG")


def test_table_3_has_all_four_tasks_whether_they_ran_or_not():
    frame = table(rows("mldg", "TN4", {10: [35.0, 36.0], 11: [36.0, 37.0]}))
    found = {row["method"]: row for row in tables.tasks_table(frame)}
    assert found["MLDG+TN, M = 16"][MAIN] == "not run" and found["MLDG+TN, M = 1"][f"the paper, {MAIN}"] == ""
    assert found["MLDG+TN, M = 4"][MAIN] == "36.0 ± 0.7, n = 2"
    assert found["MLDG+TN, M = 4"][f"the paper, {MAIN}"] == "57.19 (M not stated)"
    assert found["AGG+SIB"]["G+S+I+C->M"] == "not run" and found["AGG+SIB"]["the paper, G+S+I+C->M"] == "46.90 ± 0.34"


def test_table_9_has_the_target_first():
    of = {"study": "source_and_target"}
    frame = table(
        *(rows("agg", "BN", {10: value}, domain_evaluated=d, **of) for d, value in (("C", 33.0), ("G", 36.0))),
        rows("agg", "SIB", {10: 34.0}, domain_evaluated="G", **of),
    )
    ours, theirs = tables.source_and_target_table(frame), tables.published_source_and_target()
    assert [row["domain"] for row in ours] == ["C (target)", "M (source)", "I (source)", "S (source)", "G (source)"]
    assert {name: ours[4][name] for name in ("AGG", "AGG+SIB", "MLDG", "n")} == {
        "AGG": "36.0", "AGG+SIB": "34.0", "MLDG": "not run", "n": "1"
    }  # fmt: skip
    assert list(ours[0]) == list(theirs[0]) and {row["domain"] for row in ours} == {row["domain"] for row in theirs}
    assert theirs[-1] == {"domain": "G (source)", "AGG": "56.73", "AGG+SIB": "48.00 ± 0.19", "MLDG": "57.09",
                          "MLDG+SIB": "55.52 ± 0.07", "n": "1"}  # fmt: skip


def test_layers_are_compared_on_the_seeds_that_all_have():
    def of(layer, scores):
        return [
            row
            for metric, more in (("miou", 0), ("selection_accuracy", 50))
            for row in rows("mldg", "SIB", {seed: value + more for seed, value in scores.items()}, metric,
                            study="style_layer", task="G+S+I->C+M", style_layer=layer)
        ]  # fmt: skip

    found = tables.style_layer_table(table(of("1", {10: 32.0, 11: 40.0}), *(of(k, {10: 31.0}) for k in "234")))
    assert [(row["style layer"], row["ours"], row["n"], row["accuracy"]) for row in found] == [
        (1, "32.0", "1", "82.0"), (2, "31.0", "1", "81.0"), (3, "31.0", "1", "81.0"), (4, "31.0", "1", "81.0")
    ]  # fmt: skip
    assert [row["paper's accuracy"] for row in found] == ["96.78", "93.52", "89.51", "87.51"]
    sizes = tables.queue_size_table(EMPTY)
    assert [(row["queue size"], row["ours"]) for row in sizes] == [(4 * 2**k, "not run") for k in range(8)]
    assert sizes[5]["paper"] == "52.78" and "paper's accuracy" not in sizes[5]


def test_table_1_says_what_has_not_run():
    ibn = {"study": "ibn_net", "backbone": "thin-fpn-ibn-a", "task": "G->C"}
    beside = ibn | {"backbone": "thin-fpn"}
    frame = table(rows("mldg", "SIB", {10: 35.0, 11: 36.0}), rows("agg", "BN", {10: 33.0}),
                  rows("mldg", "SIB", {10: 31.0}, study="source_domains", task="G+S->C"),
                  rows("agg", "BN", {10: 25.0}, **ibn), rows("agg", "BN", {10: 20.0}, **beside),
                  rows("agg", "BN", {10: 20.0, 11: 22.0}, study="source_domains", task="G->C"))  # fmt: skip
    found = {row["method"]: (row["ours"], row["n"], row["paper"]) for row in tables.bound_table(frame)}
    assert found == {
        "AGG": ("33.0", "1", "55.65"), "AGG, IBN-Net": ("not run", "", ""), "MLDG": ("not run", "", ""),
        "MLDG+SIB": ("35.5 ± 0.7", "2", "61.19"), "the bound: trained on the target itself": ("not run", "", ""),
        "G->C: AGG": ("21.0 ± 1.4", "2", "36.94"), "G->C: AGG, IBN-Net": ("25.0", "1", "29.64 (its own AGG 22.17)"),
        "G+S->C: MLDG+SIB": ("31.0", "1", "41.09 (printed as G->C)"),
    }  # fmt: skip


def test_classes_stand_beside_the_papers():
    """Each class has 10 k in both trainings' mean; SYNTHIA lacks terrain (9), truck (14) and train (16)."""
    parts = [
        rows("agg", "BN", {10: 10.0 * k - 1, 11: 10.0 * k + 1}, "iou", **{"class": name})
        for k, name in enumerate(CLASS_NAMES)
    ]
    found = {row["class"]: row for row in tables.per_class_table(table(*parts))}
    assert list(found) == [*CLASS_NAMES, "mean of all", "mean of SYNTHIA's 16"]
    title = "G+S+I+M: AGG, n = 2"
    assert found["sky"] == {
        "class": "sky",
        title: "100.0",
        "the paper: resnet50": "84.4",
        "the paper: deeplabv2": "87.8",
    }
    assert found["mean of all"][title] == f"{10 * sum(range(19)) / 19:.1f}"
    assert found["mean of SYNTHIA's 16"][title] == f"{10 * (sum(range(19)) - 9 - 14 - 16) / 16:.1f}"
    own = [found["mean of SYNTHIA's 16"][f"the paper: {name}"] for name in ("resnet50", "deeplabv2")]
    assert own == ["46.9", "48.2"]
    assert tables.per_class_table(EMPTY) == []
    bound = rows("agg", "BN", {10: 5.0}, "iou", **{"class": "road", "study": "bound", "task": "C->C"})
    assert tables.per_class_table(table(*parts, bound))[0]["the bound, n = 1"] == "5.0"


def test_the_inference_time_beside_the_papers():
    rows = {row["an image by"]: row for row in tables.inference_table()}
    ours = next(name for name in rows["plain"] if name.startswith("time, plain = 1 (resnet50, 256x512, "))
    assert rows["plain"][ours] == "1.00" and rows["SIB, M = 4, joint"]["the paper"] == "2.83 (0.34 s)"
    times = {name: float(row[ours]) for name, row in rows.items()}
    assert times["SIB, M = 4, cached"] < 1.3 < 4 < times["SIB, M = 4, joint"] < 6  # one image a pass, and five


def test_a_single_network_has_its_interval_over_images():
    of = {"study": "backbones", "backbone": "hrnet-w18"}
    single = [
        *rows("agg", "BN", {10: 20.0}, **of), *rows("agg", "BN", {10: 19.5}, "miou_low", **of),
        *rows("agg", "BN", {10: 20.6}, "miou_high", **of),
    ]  # fmt: skip
    [row, *_] = tables.backbones_table(table(single))
    assert row["AGG"] == "20.0 (19.5 to 20.6)" and row["n"] == "1"
    [row, *_] = tables.backbones_table(table([*single, *rows("agg", "BN", {11: 22.0}, **of)]))
    assert row["AGG"] == "21.0 ± 1.4"  # of two the deviation over trainings


def test_categories_and_a_common_rate():
    frame = table(
        rows("agg", "BN", {10: 62.0, 11: 64.0}, "category_miou"), rows("agg", "TN4", {10: 63.0}, "category_miou"),
        rows("mldg", "BN", {10: 33.0}, study="common_rate"),
    )  # fmt: skip
    assert tables.categories_table(frame) == [
        {"trained with": "AGG", "source BN": "62.0", "TN, M = 4": "63.0", "n": "1"}
    ]
    found = {row["trained with"]: row["source BN"] for row in tables.common_rate_table(frame)}
    others = ("AGG", "AGG2", "split", "by domain", "by domain, 2x", "MLDG inner 0", "MLDG mean")
    assert found == dict.fromkeys(others, "not run") | {"MLDG": "33.0"}
    assert tables.common_rate_table(EMPTY) == []


def test_scales_stand_side_by_side():
    full = table(
        rows("agg", "BN", {10: 33.0, 11: 35.0}, study="adabn"), rows("mldg", "SIB", {10: [1.0, 3.0]}, study="adabn")
    )
    quick = table(rows("agg", "BN", {0: 28.0}, study="adabn"), rows("agg", "AdaBN", {0: 29.0}, study="adabn"))
    found = tables.at_scales(lambda frame: tables.adabn_table(frame, MAIN, True), {"full": full, "quick": quick})
    by_method = {row["method"]: row for row in found}
    assert by_method["AGG"] == {"method": "AGG", "full": "34.0 ± 1.4", "n (full)": "2", "± over orders (full)": "",
                                "quick": "28.0", "n (quick)": "1", "the paper": ""}  # fmt: skip
    assert by_method["AGG+AdaBN"]["full"] == "not run" and by_method["AGG+AdaBN"]["quick"] == "29.0"
    assert by_method["MLDG+SIB"]["± over orders (full)"] == "± 1.41"
    assert by_method["MLDG+SIB"]["the paper"] == "57.66 ± 0.17"
    one_below = tables.stacked(tables.source_and_target_table, {"full": full, "quick": quick})
    assert [row["scale"] for row in one_below] == ["full"] * 5 + ["quick"] * 5


def test_adabn_on_other_tasks_has_what_table_3_holds():
    frame = table(rows("mldg", "SIB", {10: 32.0}, task="G+S+I->C"), rows("mldg", "SIB", {10: 35.0}),
                  rows("mldg", "SIB", {10: 35.0}, study="adabn"))  # fmt: skip
    found = {(row["task"], row["method"]): (row["ours"], row["paper"]) for row in tables.adabn_tasks(frame)}
    assert found["G+S+I->C", "MLDG+SIB"] == ("32.0", "51.49 ± 0.04")
    assert found["G+S+I->C", "MLDG+AdaBN"] == ("not run", "50.31") and found[MAIN, "MLDG+SIB"][0] == "35.0"
    assert ("G+S+I->C", "AGG") not in found


def test_a_network_belongs_to_its_sources_and_not_to_a_task():
    """Eleven rows, seven networks: one is tested on two targets, one stands in two studies, one is the bound."""
    frame = table(
        rows("agg", "BN", {10: 1.0, 11: 1.0}, task="G+S->C"), rows("agg", "BN", {10: 1.0}, task="G+S->M"),
        rows("agg", "TN4", {10: 1.0}, task="G+S->C", study="source_domains"),
        rows("mldg", "BN", {10: 1.0, 11: 1.0}), rows("mldg", "BN", {10: 1.0}, split="3:1", study="meta_split"),
        rows("mldg", "TN4", {10: 1.0}), rows("mldg", "BN", {10: 1.0}, study="backbones"),
        rows("agg", "BN", {10: 1.0}, train_images=50, task="G+S->C", study="source_domains_fixed"),
        rows("agg", "BN", {10: 1.0}, task="C->C", study="bound"),
    )  # fmt: skip
    assert len(overview.networks(frame)) == 7
    assert overview.networks_table(frame) == [
        {"trained with": "AGG", "C": 1, "G+S": 2, "G+S+I+M": "", "together": 3},
        {"trained with": "MLDG", "C": "", "G+S": "", "G+S+I+M": 2, "together": 2},
        {"trained with": "MLDG, 3:1", "C": "", "G+S": "", "G+S+I+M": 1, "together": 1},
        {"trained with": "AGG, 50 images a domain", "C": "", "G+S": 1, "G+S+I+M": "", "together": 1},
        {"trained with": "all", "C": 1, "G+S": 3, "G+S+I+M": 3, "together": 7},
    ]


def test_of_two_settings_as_frequent_the_first_is_the_usual_one():
    frame = table(rows("split", "BN", {10: 1.0, 11: 1.0}, lr=0.4),
                  rows("split", "BN", {10: 1.0, 11: 1.0}, lr=0.2, study="common_rate"))  # fmt: skip
    assert [row["trained with"] for row in overview.networks_table(frame)] == ["split", "split, rate 0.2", "all"]


def test_what_is_recorded_is_as_many_networks_as_its_list_of_machines_has():
    from dglab.experiments.record import recorded_networks
    from dglab.experiments.recorded import recorded_table

    full = recorded_table("full")
    of_images = full[full["variant"].isna()]
    assert len(overview.networks(of_images)) == len(recorded_networks("full"))
    assert overview.networks_table(of_images)[-1]["together"] == len(recorded_networks("full"))
    counts = [int(part.split()[0]) for part in overview.recorded_on("full").split("; ")]
    assert sum(counts) == len(recorded_networks("full")) and overview.recorded_on("tiny") == ""


def test_claims_at_scales_with_the_papers_own_evidence():
    full = table(*(rows(m, "BN", dict(enumerate(v))) for m, v in (("agg", [30.0, 30.1]), ("mldg", [33.0, 33.1]))))
    found = overview.claim_rows({"full": full, "quick": EMPTY}, [1, 12])
    [verdict, gain, other] = found
    assert verdict == {
        "claim": "1. MLDG beats AGG on the target, more with four sources than with three", overview.PARTS: "verdict",
        "the paper": "G+S+I->M: 49.00 < 49.26", "full": "holds, as far as tested", "n (full)": "",
        "quick": "not run", "n (quick)": "",
    }  # fmt: skip
    assert gain[overview.PARTS] == "MLDG - AGG" and gain["the paper"].startswith("+2.24 ")
    assert gain["full"].startswith("+3.00 [") and gain["n (full)"] == 4 and gain["quick"] == "not run"
    assert other["claim"].startswith("12.") and other[overview.PARTS] == "verdict" and other["full"] == "not run"


@pytest.mark.parametrize("name", ["full", "quick"])
def test_the_tables_of_what_ships(name):
    """The footnote of Table 8 in a number: what stands in a row is the mean over the seeds that its cells share."""
    from dglab.experiments.recorded import recorded_table

    frame = recorded_table(name)
    makes = (
        tables.tasks_table, tables.split_table, tables.sources_table, tables.source_and_target_table,
        tables.style_layer_table, tables.queue_size_table, tables.bound_table, tables.adabn_tasks,
    )  # fmt: skip
    assert all(make(frame) for make in makes)
    scores = frame[(frame["study"] == "source_and_target") & (frame["metric"] == "miou")]
    own = scores[(scores["train_method"] == "mldg") & (scores["test_method"] == "sib") & (scores["inner_lr"] > 0)]
    by_size = {row["trained with"]: row for row in tables.batch_size_table(frame)}
    seeds = frame.loc[frame["study"] == "batch_size", "train_seed"].unique()
    shared = frame[frame["train_seed"].isin(seeds)]  # another study, the same tests of the networks that both have
    ablation = tables.ablation_table(shared, "G+S+I+M->C", of_paper=True)
    [of_four] = [row["ours"] for row in ablation if (row["training"], row["test"]) == ("AGG", "TN, M = 4")]
    assert by_size["AGG"]["M = 4"] == of_four and {"MLDG", "by domain"} < set(by_size)
    value = own[own["domain_evaluated"] == "G"]["value"].mean()
    assert tables.source_and_target_table(frame)[-1]["MLDG+SIB"].startswith(f"{value:.1f} ± ")


def dose_of_domains():
    """TN is worth 9 points after batches of one domain, on I, and 3 after batches of two; seed 12 lacks one of them."""
    of = {"study": "domains_per_pass", "task": "G+S->I", "target": "I", "domain_evaluated": "I"}
    one, two = of | {"domains_per_pass": 1}, of | {"domains_per_pass": 2}
    of_four = {"study": "domains_per_pass", "domains_per_pass": 4}
    return table(
        rows("agg", "BN", {10: 20.0, 11: 22.0, 12: 50.0}, **one), rows("agg", "REEST", {10: 21.0, 11: 22.0}, **one),
        rows("agg", "TN4", {10: [28.0, 30.0], 11: 31.0}, **one), rows("agg", "BN", {10: 24.0, 11: 23.0}, **two),
        rows("agg", "REEST", {10: 24.0, 11: 24.0}, **two), rows("agg", "TN4", {10: 27.0, 11: 26.0}, **two),
        rows("agg", "BN", {10: 33.0}, **of_four), rows("agg", "REEST", {10: 33.5}, **of_four),
        rows("agg", "TN4", {10: 35.0}, **of_four),
    )  # fmt: skip


def test_domains_in_a_batch():
    first, second = tables.domains_per_pass_table(dose_of_domains())
    assert first == {
        "sources": "G+S", "tested on": "I (unseen)", "n": "2", "1 a pass": "21.0 / 21.5 / 30.0",
        "2 a pass": "23.5 / 24.0 / 26.5", "4 a pass": "",
    }  # fmt: skip
    assert second["sources"] == "G+S+I+M" and second["4 a pass"] == "33.0 / 33.5 / 35.0" and second["1 a pass"] == ""
    assert tables.domains_per_pass_table(EMPTY) == []


def test_the_figure_of_domains_in_a_batch():
    left, right = (fig := figures.domains_per_pass(dose_of_domains())).axes
    [mean] = [line for line in left.lines if line.get_label() == "I (unseen)"]
    assert mean.get_xdata().tolist() == [1, 2] and mean.get_ydata().tolist() == [9.0, 3.0]
    faint = [list(line.get_ydata()) for line in left.lines if line.get_alpha() is not None]
    assert sorted(faint) == [[9.0, 3.0], [9.0, 3.0]] and left.get_title() == "trained on G+S"
    assert [tick.get_text() for tick in right.get_xticklabels()] == ["4"]
    assert [text.get_text() for text in fig.legends[0].texts] == ["I (unseen)", "C (unseen)"]
