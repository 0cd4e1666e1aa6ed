"""The paper's tables, our results beside the published: each a function of a tidy table that returns rows of text.

``n`` is the number of trainings that a cell, or a row of cells, rests on. The cells of one row rest on the same
training seeds, so that none differs from its neighbour by its seeds alone.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from dglab import paper
from dglab.analysis.intervals import common_seeds, per_training, summarize
from dglab.experiments.methods import (
    ADABN,
    AGG,
    BN_REESTIMATED,
    BY_DOMAIN,
    MLDG,
    ORACLE,
    QIB,
    RANDOM,
    SIB,
    SOURCE_BN,
    TN_1,
    TN_4,
    TN_5,
    TN_16,
    TRAINING_METHODS,
    Normalization,
    Shown,
    TrainingMethod,
    select,
    trained_in,
)
from dglab.experiments.recorded import INFERENCE_TIME, ON_GPU
from dglab.models import IBN_NETS
from dglab.tasks import parse_task, sources_of
from dglab.utils.files import read_json

Row = dict[str, Any]

MISSING = "not run"
PAPER = "the paper"
TWO_NEEDED = "needs two sources"  # MLDG splits them
MAIN = "G+S+I+M->C"
M_NOT_STATED = "M not stated"
# The names of methods in the paper's tables. They do not state the M of TN; printing no deviation suggests M = 1, and
# the authors' newest code takes 16, 8 and 1. Their number is shown beside M = 4, where claims are judged, with a note.
_ONE, _TWO = "G->C", "G+S->C"  # the tasks of one source and of two
_PAPER_TRAINING = {AGG: "AGG", MLDG: "MLDG"}
_PAPER_TEST = {SOURCE_BN: ("", "+BN"), TN_4: ("+TN",), QIB: ("+QIB",), SIB: ("+SIB",), ADABN: ("+AdaBN",)}


def ablation_table(frame: pd.DataFrame, task: str, of_paper: bool) -> list[Row]:
    """Table 3 with controls: one row per training method and normalization, ours beside the paper's.

    Returns:
        Rows with ``training``, ``test``, ``ours`` (mean ± deviation over trainings), ``n``, ``order`` (deviation over
        orders of arrival, as the paper's ±), ``paper``, and ``first``: whether a training method begins here.
    """
    rows = select(frame, study="ablation", task=task)
    sib = dataclasses.replace(SIB, label=f"{SIB.label}, M = 4")
    sixteen = (TN_16,) if len(TN_16.rows(rows)) else ()
    shown = (SOURCE_BN, BN_REESTIMATED, TN_1, TN_4, TN_5, *sixteen, sib)
    return [
        {
            "training": method.label,
            "test": normalization.label,
            "first": normalization is SOURCE_BN,
            **_ours(rows, method, normalization),
            "paper": _published("table03_ablation", task, method, normalization) if of_paper else "",
        }
        for method in trained_in(rows)
        for normalization in shown
    ]


def beside_record(rows: list[Row], recorded: list[Row]) -> list[Row]:
    """The rows of a recorded ablation, with the results of the reader's own run beside them.

    Args:
        rows, recorded: as :func:`ablation_table` returns them.

    Returns:
        The rows of the record, with ``here``, and after them the rows that only the reader's run has.
    """
    here = {(row["training"], row["test"]): row["ours"] for row in rows}
    known = {(row["training"], row["test"]) for row in recorded}
    beside = [{**row, "here": here.get((row["training"], row["test"]), MISSING)} for row in recorded]
    lacking = [row for row in rows if (row["training"], row["test"]) not in known]
    return beside + [{**row, "here": row["ours"], "ours": MISSING, "n": "", "order": ""} for row in lacking]


def tasks_table(frame: pd.DataFrame) -> list[Row]:
    """Table 3 as the paper prints it: AGG and MLDG under BN, TN and SIB, on its four tasks.

    The paper does not state the M of its TN. Its figure stands beside M = 4, our primary one; M = 1 and 16 are listed.
    """
    rows = select(frame, study="ablation")
    tasks = paper.table("table03_ablation")["task"].unique()
    table = []
    for method in (AGG, MLDG):
        for normalization in (SOURCE_BN, TN_1, TN_4, TN_16, SIB):
            cells: Row = {"method": _name(method, normalization)}
            for task in tasks:
                ours = _ours(rows[rows["task"] == task], method, normalization)
                cells[task] = ours["ours"] + (f", n = {ours['n']}" if ours["n"] else "")
                cells[f"{PAPER}, {task}"] = _published("table03_ablation", task, method, normalization)
            table.append(cells)
    return table


def batch_size_table(frame: pd.DataFrame) -> list[Row]:
    """Figure 5 as numbers: mIoU of TN by its batch size M, on the main task; the paper prints no values."""
    rows = select(frame, study="batch_size", task=MAIN)
    sizes = sorted(rows["batch_size"].dropna().unique())
    shown = {"source BN": SOURCE_BN} | {f"M = {size}": dataclasses.replace(TN_1, batch_size=size) for size in sizes}
    return [
        {"trained with": method.label, **_cells(method.rows(rows), {name: (test,) for name, test in shown.items()})}
        for method in trained_in(rows)
    ]


def split_table(frame: pd.DataFrame) -> list[Row]:
    """Table 4: how the domains are split into meta-train and meta-test."""
    rows = MLDG.rows(select(frame, study="meta_split"))
    published = paper.table("table04_meta_split").set_index("meta_train_domains")["miou"]
    names = {"3:1": (3, "3:1"), "half": (2, "2:2"), "1:3": (1, "1:3"), "random": (None, "cut anywhere")}
    return [
        {
            "split": name,
            **_cells(select(rows, split=split), {"source BN": (SOURCE_BN,), "TN, M = 4": (TN_4,)}),
            f"{PAPER} (source BN)": f"{published[count]:.2f}" if count else "",
        }
        for split, (count, name) in names.items()
    ]


def sources_table(frame: pd.DataFrame, *, fixed: bool = False) -> list[Row]:
    """Table 8: from one source domain to four; ``fixed``: with the number of images held, which the paper does not do,
    and with the control by domain.

    The paper prints MLDG+SIB, and does not state the method of its first row.
    """
    rows = select(frame, study="source_domains_fixed" if fixed else "source_domains")
    shown = {"AGG": (AGG, SOURCE_BN), "AGG+TN, M = 4": (AGG, TN_4), "AGG+SIB": (AGG, SIB),
             "MLDG": (MLDG, SOURCE_BN), "MLDG+TN, M = 4": (MLDG, TN_4), "MLDG+SIB": (MLDG, SIB)}  # fmt: skip
    if fixed:
        shown |= {"by domain+TN, M = 4": (BY_DOMAIN, TN_4), "by domain+SIB": (BY_DOMAIN, SIB)}
    table = []
    for printed in (
        paper.table("table08_source_domains").sort_values("sources", key=lambda names: names.str.len()).itertuples()
    ):
        alone = "+" not in printed.sources
        cells = _cells(rows[rows["task"] == f"{printed.sources}->{printed.target}"], shown)
        cells |= {name: TWO_NEEDED for name in cells if alone and name.startswith("MLDG")}
        cells |= {name: "as AGG" for name in cells if alone and name.startswith("by domain")}
        theirs = (
            {} if fixed else {PAPER: _printed(printed.miou, printed.std) + (" (method not stated)" if alone else "")}
        )
        table.append({"sources": printed.sources, **cells, **theirs})
    return table


def source_and_target_table(frame: pd.DataFrame) -> list[Row]:
    """Table 9: each domain, the unseen target first, with and without SIB."""
    rows = select(frame, study="source_and_target", task=MAIN)
    domains = (parse_task(MAIN).target, *reversed(parse_task(MAIN).sources))
    shown = {_name(method, test): (method, test) for method in (AGG, MLDG) for test in (SOURCE_BN, SIB)}
    return [{"domain": _place(domain), **_cells(rows[rows["domain_evaluated"] == domain], shown)} for domain in domains]


def published_source_and_target() -> list[Row]:
    """Table 9 as printed, with the columns of :func:`source_and_target_table`; ± is over orders of arrival."""
    table = paper.table("table09_source_and_target")
    cells = {(row.evaluated_on, row.method): _printed(row.miou, row.std) for row in table.itertuples()}
    domains, methods = (table[column].unique() for column in ("evaluated_on", "method"))
    return [{"domain": _place(d), **{method: cells[d, method] for method in methods}, "n": "1"} for d in domains]


def style_layer_table(frame: pd.DataFrame) -> list[Row]:
    """Table 6: mIoU and selection accuracy by the layer that gives the style, on the seeds that all layers have."""
    return _sweep(frame, "style_layer", "style_layer", "table06_style_layer", "style_layer")


def queue_size_table(frame: pd.DataFrame) -> list[Row]:
    """Table 7: mIoU and selection accuracy by the queue's size Q, on the seeds that all sizes have."""
    return _sweep(frame, "queue_size", "capacity", "table07_queue_size", "queue_size")


def _sweep(frame: pd.DataFrame, study: str, column: str, name: str, printed_column: str) -> list[Row]:
    rows = MLDG.rows(common_seeds(select(frame, study=study), column))
    table = []
    for printed in paper.table(name).sort_values(printed_column).to_dict("records"):
        setting = printed[printed_column]
        own = rows[rows[column].astype("Float64") == setting]  # a layer is a string
        ours = _ours(own, MLDG, SIB)
        line = {printed_column.replace("_", " "): setting, **ours, "accuracy": _accuracy(own)}
        line["paper"] = f"{printed['miou']:.2f}"
        if "selection_accuracy" in printed:
            line["paper's accuracy"] = f"{printed['selection_accuracy']:.2f}"
        table.append(line)
    return table


def backbones_table(frame: pd.DataFrame) -> list[Row]:
    """Table 10: three network architectures. The paper's three are listed below, because they are others."""
    rows = select(frame, study="backbones")
    shown = {"AGG": (AGG, SOURCE_BN), "MLDG": (MLDG, SOURCE_BN), "MLDG+TN, M = 4": (MLDG, TN_4),
             "MLDG+SIB": (MLDG, SIB)}  # fmt: skip
    table = [{"network": name, **_cells(part, shown)} for name, part in rows.groupby("backbone", sort=False)]
    if not table:
        return []
    published = paper.table("table10_backbones")
    cells = {(row.backbone, row.method): _printed(row.miou, row.std) for row in published.itertuples()}
    empty = dict.fromkeys(shown, "")
    return table + [
        {"network": f"{PAPER}: {name}", **empty, **{m: cells[name, m] for m in ("MLDG", "MLDG+SIB")}, "n": "1"}
        for name in published["backbone"].unique()
    ]


def bound_table(frame: pd.DataFrame) -> list[Row]:
    """Table 1 on our target: networks trained on the sources, among them IBN-Net, and the bound, trained on the target.

    Four sources, and G alone, as the published row of IBN-Net. The paper's MLDG+SIB on G->C stands beside ours on
    G+S->C, as MLDG needs two sources. The paper's figures are of the Cityscapes test set.
    """
    ibn = select(frame, study="ibn_net")
    instance = ibn[ibn["backbone"].isin(IBN_NETS.values())]
    main = select(frame, study="ablation", task=MAIN)
    one, two = (select(frame, study="source_domains", task=task) for task in (_ONE, _TWO))
    printed = paper.table("table01_state_of_the_art").set_index(["setting", "method"])["miou"].map("{:.2f}".format)
    theirs = f"{printed[_ONE, 'IBN-Net']} (its own AGG {printed[_ONE, 'AGG (baseline of IBN-Net)']})"
    rows = {
        "AGG": (main, AGG, SOURCE_BN, printed[MAIN, "AGG"]),
        "AGG, IBN-Net": (select(instance, task=MAIN), AGG, SOURCE_BN, ""),
        "MLDG": (main, MLDG, SOURCE_BN, ""),
        "MLDG+SIB": (main, MLDG, SIB, printed[MAIN, "MLDG+SIB"]),
        "the bound: trained on the target itself": (select(frame, study="bound"), AGG, SOURCE_BN, ""),
        f"{_ONE}: AGG": (one, AGG, SOURCE_BN, printed[_ONE, "AGG"]),
        f"{_ONE}: AGG, IBN-Net": (select(instance, task=_ONE), AGG, SOURCE_BN, theirs),
        f"{_TWO}: MLDG+SIB": (two, MLDG, SIB, f"{printed[_ONE, 'MLDG+SIB']} (printed as {_ONE})"),
    }
    return [{"method": name, **_ours(*which), "paper": of_paper} for name, (*which, of_paper) in rows.items()]


def per_class_table(frame: pd.DataFrame) -> list[Row]:
    """Table 2: the IoU of each class, ours beside the paper's own two networks.

    The paper trains on synthetic data alone (G->C by name; MLDG needs two sources) and tests on the Cityscapes test
    set; so our G+S->C is the row that corresponds, and four sources stand beside it; the bound was trained on C
    itself. The last rows are the means over all classes, and over the 16 that SYNTHIA has.
    """
    printed = paper.table("table02_uda_per_class").set_index("class")
    printed.index = printed.index.str.replace("_", " ")
    four, two = select(frame, study="ablation", task=MAIN), select(frame, study="source_domains", task=_TWO)
    shown = {"G+S: MLDG+SIB": (two, MLDG, SIB), f"{MAIN.partition('->')[0]}: AGG": (four, AGG, SOURCE_BN),
             "MLDG": (four, MLDG, SOURCE_BN), "MLDG+SIB": (four, MLDG, SIB),
             "the bound": (select(frame, study="bound"), AGG, SOURCE_BN)}  # fmt: skip
    ours = {
        f"{title}, n = {part['train_seed'].nunique()}": part.groupby(["train_seed", "class"])["value"]
        .mean()
        .groupby("class")
        .mean()
        for title, (rows, *which) in shown.items()
        if len(part := select(rows, *which, metric="iou"))
    }
    if not ours:
        return []
    theirs = {f"{PAPER}: {c.removeprefix('ours_')}": printed[c] for c in printed if c.startswith("ours")}
    classes = [name for name in printed.index if name != "mIoU"]
    of_synthia = [name for name in classes if pd.notna(printed.loc[name, "synthia_uda_1"])]
    groups = {**{name: [name] for name in classes}, "mean of all": classes, "mean of SYNTHIA's 16": of_synthia}
    return [
        {"class": name, **{title: f"{values.reindex(of).mean():.1f}" for title, values in {**ours, **theirs}.items()}}
        for name, of in groups.items()
    ]


def categories_table(frame: pd.DataFrame) -> list[Row]:
    """The mean IoU of the seven Cityscapes categories, which the paper does not print: rarer classes weigh less."""
    return _by_normalization(select(frame, study="ablation", task=MAIN), "category_miou")


def common_rate_table(frame: pd.DataFrame) -> list[Row]:
    """The methods of Table 3 with its controls, all at the learning rate of MLDG instead of each at its own."""
    return _by_normalization(select(frame, study="common_rate", task=MAIN), "miou", TRAINING_METHODS)


def _by_normalization(rows: pd.DataFrame, metric: str, methods: Sequence[TrainingMethod] | None = None) -> list[Row]:
    shown = {test.label: (test,) for test in (SOURCE_BN, TN_1, TN_4, SIB) if len(test.rows(rows))}
    return [
        {"trained with": method.label, **_cells(method.rows(rows), shown, metric)}
        for method in methods or trained_in(rows)
        if len(rows)
    ]


def domains_per_pass_table(frame: pd.DataFrame) -> list[Row]:
    """AGG by the number of domains in a BatchNorm batch of training: source BN / re-estimated / TN with M = 4.

    All cells of a row rest on the same trainings, ``n`` of them.
    """
    rows = select(frame, study="domains_per_pass", metric="miou")
    found = []
    for (sources, domain), part in rows.groupby([rows["task"].map(sources_of), "domain_evaluated"], sort=False):
        counts = sorted(part["domains_per_pass"].dropna().unique())
        tests = (SOURCE_BN, BN_REESTIMATED, TN_4)
        of_count = {count: part[part["domains_per_pass"] == count] for count in counts}
        each = {(count, test.label): per_training(own, test) for count, own in of_count.items() for test in tests}
        common = pd.DataFrame(each).dropna()
        if common.empty:
            continue
        cells = {
            f"{count:g} a pass": " / ".join(f"{mean:.1f}" for mean in common[count].mean()[[t.label for t in tests]])
            for count in counts
        }
        place = "a source" if domain in sources.split("+") else "unseen"
        found.append({"sources": sources, "tested on": f"{domain} ({place})", "n": str(len(common)), **cells})
    width = {name: "" for row in found for name in row}
    return [width | row for row in found]


def at_scales(make: Callable[[pd.DataFrame], list[Row]], scales: Mapping[str, pd.DataFrame]) -> list[Row]:
    """One table for several scales: their results, each with its n, side by side; the paper's last.

    Args:
        make: a function of this module whose rows have ``ours`` and ``n``.
        scales: the tidy table of each, by name.
    """
    values, theirs = ("ours", "n", "order", "accuracy"), ("paper", "paper's accuracy")
    found: dict[tuple[Any, ...], Row] = {}  # rows by what names them
    for scale, frame in scales.items():
        for row in make(frame):
            named = {name: cell for name, cell in row.items() if name not in (*values, *theirs)}
            line = found.setdefault(tuple(named.values()), named | {s: MISSING for s in scales})
            line[scale] = row["ours"]
            line |= {f"{name} ({scale})": row[name] for name in values[1:] if name in row}
            line |= {name: row[name] for name in theirs if name in row}
    table = pd.DataFrame(found.values()).fillna("")
    names = {f"{name} ({scale})": title.format(scale) for scale in scales for name, title in _TITLES.items()}
    own = [name for scale in scales for name in (scale, *(f"{value} ({scale})" for value in values[1:]))]
    ends = [*own, *theirs]
    order = [*(name for name in table if name not in ends), *(name for name in ends if name in table)]
    shown = table[[name for name in order if (table[name] != "").any()]]
    return shown.rename(columns=names | {"paper": PAPER, "paper's accuracy": f"{PAPER}: accuracy"}).to_dict("records")


_TITLES = {"n": "n ({})", "order": "± over orders ({})", "accuracy": "accuracy ({})"}


def stacked(make: Callable[[pd.DataFrame], list[Row]], scales: Mapping[str, pd.DataFrame]) -> list[Row]:
    """One table for several scales, their rows one below the other, each row with the name of its scale."""
    return [{"scale": scale, **row} for scale, frame in scales.items() for row in make(frame)]


def inference_table() -> list[Row]:
    """The inference time of an image beside plain inference: what ships, measured by ``dglab bench testtime``.

    The paper's are seconds on a V100 at 769 x 769 with ResNet-50; their ratio is what can be compared.
    """
    bench = read_json(INFERENCE_TIME)
    where = f"{bench['model']}, {bench['size']}, {bench['machine']}"
    return [
        {"an image by": case["case"], f"time, plain = 1 ({where})": f"{case['ratio']:.2f}",
         PAPER: _published_time(case["case"])}
        for case in bench["cases"]
        if not case["case"].startswith("search")
    ]  # fmt: skip


def inference_on_gpu_table() -> list[Row]:
    """The inference time of an image on one GPU, at the paper's size and with its backbone: what ships, a single
    measurement, medians over rounds; and the memory beyond the network's at its peak."""
    timed = pd.read_csv(ON_GPU)
    timed = timed[~timed["case"].str.startswith("search")]
    first = timed.iloc[0]
    where = f"{first['backbone']}, {first['size']}, {first['machine']}"
    named = {"32": "float32 (TF32)", "bf16": "bf16"}
    rows = []
    for case, part in timed.groupby("case", sort=False):
        row = {f"an image by ({where})": case}
        for one in part.to_dict("records"):
            precision = named[str(one["precision"])]
            row[f"{precision}, plain = 1"] = f"{one['ratio']:.2f} ({1000 * one['seconds']:.1f} ms)"
            row[f"{precision}, MiB"] = f"{one['peak_mib']:,.0f}"
        rows.append({**row, PAPER: _published_time(str(case))})
    return rows


def _published_time(case: str) -> str:
    """The paper's ratio to its plain inference, and its seconds; empty for a case that it does not print."""
    published = paper.table("inference_time").set_index("method")["seconds_per_image"]
    plain = published["plain (source BN)"]
    theirs = {"plain": plain, "SIB, M = 4, joint": published["SIB"]}
    return f"{theirs[case] / plain:.2f} ({theirs[case]:.2f} s)" if case in theirs else ""


def adabn_table(frame: pd.DataFrame, task: str, of_paper: bool) -> list[Row]:
    """Table 11: source BN, AdaBN and SIB, for both training methods; no row that neither ours nor the paper has."""
    rows = select(frame, study="adabn", task=task)
    table = [
        {
            "method": _name(method, normalization),
            **_ours(rows, method, normalization),
            "paper": _published("table11_adabn", task, method, normalization) if of_paper else "",
        }
        for method in (AGG, MLDG)
        for normalization in (SOURCE_BN, ADABN, SIB)
    ]
    return [row for row in table if row["ours"] != MISSING or row["paper"]]


def adabn_tasks(frame: pd.DataFrame) -> list[Row]:
    """Table 11 on the paper's four tasks; ours has AdaBN on the main one, and of the others what Table 3 holds."""
    tasks = paper.table("table11_adabn")["task"].unique()
    of_table_3 = select(frame, study="ablation").assign(study="adabn")
    return [
        {"task": task, **row}
        for task in tasks
        for row in adabn_table(frame if task == MAIN else of_table_3, task, True)
    ]


def policy_table(frame: pd.DataFrame, of_paper: bool) -> list[Row]:
    """Table 5 with controls, for both training methods; ``accuracy``: percent selected from the same domain."""
    rows = frame[frame["study"] == "selection_policy"]
    task = rows["task"].iloc[0] if len(rows) else ""
    table = []
    for method in (AGG, MLDG):
        for rule in (SOURCE_BN, ADABN, TN_1, TN_4, TN_5, TN_16, QIB, SIB, RANDOM, ORACLE):
            found = select(rows, method, rule)
            if found.empty:
                continue
            table.append({
                "method": _name(method, rule),
                "accuracy": _accuracy(found),
                **_ours(rows, method, rule),
                "paper": _published("table05_selection_policy", task, method, rule) if of_paper else "",
            })  # fmt: skip
    return table


def _name(method: TrainingMethod, normalization: Normalization) -> str:
    return method.label if normalization is SOURCE_BN else f"{method.label}+{normalization.label}"


def _cells(frame: pd.DataFrame, shown: Mapping[str, tuple[Shown, ...]], metric: str = "miou") -> Row:
    """The cells of one row, each over the training seeds that all cells of the row have, and their number ``n``."""
    frame = frame[frame["metric"].isin([metric, f"{metric}_low", f"{metric}_high"])]
    parts = {title: select(frame, *which) for title, which in shown.items()}
    seeds = [known for part in parts.values() if (known := set(select(part, metric=metric)["train_seed"]))]
    common = set.intersection(*seeds) if seeds else set()
    cells = {title: _mean(part[part["train_seed"].isin(common)], metric) for title, part in parts.items()}
    return {**cells, "n": str(len(common)) if seeds else ""}


def _mean(rows: pd.DataFrame, metric: str) -> str:
    found = summarize(rows, ["task"], metric)
    return _with_spread(rows, found.iloc[0], metric) if len(found) else MISSING


def _with_spread(rows: pd.DataFrame, summary: pd.Series, metric: str = "miou") -> str:
    """A mean ± its deviation over trainings; of a single network the interval over images, where it is known."""
    shown = plus_minus(summary["mean"], summary["train_sd"])
    if summary["trainings"] > 1:
        return shown
    ends = [summarize(rows, ["task"], f"{metric}_{end}")["mean"] for end in ("low", "high")]
    return shown + (" ({:.1f} to {:.1f})".format(*(end.iloc[0] for end in ends)) if all(map(len, ends)) else "")


def _accuracy(rows: pd.DataFrame) -> str:
    """The mean selection accuracy in percent, empty where there is none."""
    found = summarize(rows, ["task"], "selection_accuracy")["mean"]
    return f"{found.iloc[0]:.1f}" if len(found) else ""


def _place(domain: str) -> str:
    return f"{domain} ({'target' if domain == parse_task(MAIN).target else 'source'})"


def _ours(frame: pd.DataFrame, method: TrainingMethod, normalization: Normalization, **fields: Any) -> dict[str, str]:
    """The cells of one method: our result, the number of trainings, and its deviation over orders of arrival.

    A single network has no deviation over trainings: its interval over images is shown instead, if it is known.
    """
    frame = frame[frame["metric"].isin(["miou", "miou_low", "miou_high"])]
    rows = select(frame, method, normalization, **fields)
    found = summarize(rows, ["task"])
    if found.empty:
        return {"ours": MISSING, "n": "", "order": ""}
    one = found.iloc[0]
    return {
        "ours": _with_spread(rows, one),
        "n": str(one["trainings"]),
        "order": "" if pd.isna(one["test_sd"]) else f"± {one['test_sd']:.2f}",
    }


def plus_minus(mean: float, deviation: float) -> str:
    """``12.3 ± 0.4``, or ``12.3`` where there is no deviation."""
    return f"{mean:.1f}" if pd.isna(deviation) else f"{mean:.1f} ± {deviation:.1f}"


def _published(name: str, task: str, method: TrainingMethod, normalization: Normalization) -> str:
    """The paper's number for a method, empty where it prints none."""
    table = paper.table(name)
    training, tests = _PAPER_TRAINING.get(method, ""), _PAPER_TEST.get(normalization, ())
    names = [training + test for test in tests if training]
    found = table[(table["task"] == task) & table["method"].isin(names)]
    if found.empty:
        return ""
    row = found.iloc[0]
    return _printed(row["miou"], row["std"]) + (f" ({M_NOT_STATED})" if normalization is TN_4 else "")


def _printed(miou: float, deviation: float) -> str:
    """A published figure with its deviation over orders of arrival, if one is printed."""
    return f"{miou:.2f}" + ("" if pd.isna(deviation) else f" ± {deviation:.2f}")
