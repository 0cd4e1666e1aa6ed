"""What the pages and lesson 09 say of the run on a GPU is what ships along, which is of the preset standard."""

import json
import re

import pandas as pd
import pytest

from dglab.analysis.claims import judge
from dglab.analysis.intervals import contrast, per_training
from dglab.experiments.methods import AGG, BY_DOMAIN, MLDG, MLDG_INNER_0, SOURCE_BN, TN_4, select
from dglab.experiments.recorded import ON_GPU, SHIPPED, recorded_table
from dglab.experiments.runner import open_lab, recorded
from dglab.experiments.trials import studies_of
from dglab.presets import STANDARD
from dglab.report import tables
from tools.gpu import study
from tools.gpu.plan import ON_GPU as ON_GPU_PLAN
from tools.gpu.plan import Book
from tools.write_tables import MAIN, ROOT


@pytest.fixture(scope="module")
def record():
    return recorded_table("standard")


def text(page):
    if page.endswith(".ipynb"):
        cells = json.loads((ROOT / page).read_text(encoding="utf-8"))["cells"]
        whole = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    else:
        whole = (ROOT / page).read_text(encoding="utf-8")
    return " ".join(re.sub(r"[*_`]", "", whole).split())


def test_the_record_is_of_the_preset(record):
    lab = open_lab("standard", device="cpu", use_shipped=False)
    trials = list(dict.fromkeys(trial for study in studies_of(lab).values() for trial in study(lab)))
    known = recorded(lab, trials)
    assert len(known) == (record["metric"] == "miou").sum()
    networks = set(pd.read_csv(SHIPPED / "standard" / "networks.csv")["network"])
    assert networks == {trial.training.address for trial in known} and len(networks) == 9


def test_the_rate_of_the_preset_is_the_best_on_the_sources():
    tried = pd.read_csv(ROOT / "docs" / "tries_gpu.csv")
    book = Book(ON_GPU_PLAN, "cuda", ROOT, ROOT, 0.0)
    assert set(tried["network"]) == {config.address for config in study.tries(book)}
    best = tried.loc[tried.groupby("method")["mean"].idxmax()]
    assert set(best["lr"]) == {STANDARD.training.lr} and set(best["method"]) == {"agg", "mldg"}
    assert STANDARD.training.inner_lr == pytest.approx(STANDARD.training.lr / study.RATIO)
    assert set(tried["steps"]) == {STANDARD.training.steps} and not set(tried["seed"]) & set(STANDARD.train_seeds)


def test_results_on_the_target(record):
    rows, page = select(record, study="ablation", task=MAIN), text("docs/results.md")
    tn = {method: per_training(rows, method, TN_4) for method in (AGG, BY_DOMAIN, MLDG_INNER_0, MLDG)}
    bn = {method: per_training(rows, method, SOURCE_BN) for method in tn}
    gain = {method.label: f"{(tn[method] - bn[method]).mean():.1f}" for method in tn}
    said = "{by domain}, against {MLDG inner 0} to MLDG without inner step, {MLDG} to MLDG and {AGG} to AGG."
    assert f"TN adds most to by domain, as at full: {said.format(**gain)}" in page
    full = select(recorded_table("full"), study="ablation", task=MAIN)
    at_full = {m: (per_training(full, m, TN_4) - per_training(full, m, SOURCE_BN)).mean() for m in tn}
    assert max(at_full, key=at_full.__getitem__) is max(tn, key=lambda m: (tn[m] - bn[m]).mean()) is BY_DOMAIN
    low, high = sorted(tn[MLDG])
    assert f"MLDG's two differ by {high - low:.1f} points under TN (M = 4; {low:.1f} and {high:.1f})" in page
    inner = tn[MLDG] - tn[MLDG_INNER_0]
    each = f"in the first training by {inner.iloc[0]:.1f} and in the second by {inner.iloc[1]:.1f}"
    assert f"Under TN, MLDG is {inner.mean():.1f} above MLDG without inner step, {each}." in page
    assert high - low > max(means := [tn[method].mean() for method in tn]) - min(means)
    inner = contrast([(1, per_training(full, MLDG, TN_4)), (-1, per_training(full, MLDG_INNER_0, TN_4))])
    assert f"At full the two are {inner.mean:.1f} [{inner.low:+.1f}, {inner.high:+.1f}] apart." in page


def test_results_on_the_sources(record):
    [claim] = [verdict for verdict in judge(record) if verdict.claim.number == 10]
    of = {part.name: part.difference for part in claim.parts}
    agg, mldg = of["AGG - AGG+SIB on the sources"], of["MLDG+SIB - MLDG on the sources"]
    page = text("docs/results.md")
    assert f"SIB takes {agg.mean:.1f} [{agg.low:+.1f}, {agg.high:+.1f}] points from AGG on the sources" in page
    [whole] = [verdict for verdict in judge(recorded_table("full")) if verdict.claim.number == 10]
    assert agg.mean > 2 * next(p.difference.mean for p in whole.parts if p.name == "AGG - AGG+SIB on the sources")
    theirs = next(float(p.published) for p in claim.parts if p.name == "AGG - AGG+SIB on the sources")
    assert agg.high < theirs and f"less than the paper's {theirs:.1f}" in page
    assert f"It takes {-mldg.mean:.1f} [{-mldg.high:+.1f}, {-mldg.low:+.1f}] from MLDG there" in page


def test_the_time_of_an_image():
    timed = pd.read_csv(ON_GPU).set_index(["precision", "case"])
    joint = [timed.loc[(precision, "SIB, M = 4, joint"), "ratio"] for precision in ("32", "bf16")]
    hooks = {f"{timed.loc[(precision, 'source BN'), 'ratio']:.1f}" for precision in ("32", "bf16")}
    said = "In bf16 it is ({:.1f}), in float32 it is not ({:.1f}); the paper has 2.8.".format(*reversed(joint))
    lesson = text("notebooks/09_the_paper.ipynb")
    assert said in lesson and joint[1] < 5 < joint[0]
    assert f"with which even source BN costs {hooks.pop()}." in lesson and not hooks
    rows = tables.inference_on_gpu_table()
    assert [next(iter(row.values())) for row in rows] == list(dict.fromkeys(timed.index.get_level_values(1)))[:-1]
    assert rows[0]["bf16, plain = 1"] == f"1.00 ({1000 * timed.loc[('bf16', 'plain'), 'seconds']:.1f} ms)"
    assert rows[3][tables.PAPER] == "2.83 (0.34 s)"
    search, page = timed.xs("search 100,000 styles", level="case"), text("docs/test_time.md")
    assert f"{search['ratio'].mean():.2f} ({1000 * search['seconds'].mean():.0f} ms) on that GPU" in page
    spread = timed["spread"].unstack()[["SIB, M = 4, cached", "TN, M = 1"]].mean().round(1)
    assert "of the cached case is {:.0f} % of its median and that of TN {:.0f} %".format(*(100 * spread)) in page


def test_what_the_checks_found():
    checks = pd.read_csv(SHIPPED / "standard" / "checks.csv").set_index("check")
    failed = checks[checks["verdict"] == "failed"]
    page = text("docs/training.md")
    assert f"Two of {len(checks)} checks failed" in page and len(failed) == 2
    found = failed["difference"].round(3)
    assert f"differences of {found.iloc[0]} for a resumed training and {found.iloc[1]} for torchrun" in page
    exact = checks[checks.index.str.startswith(("float64", "BatchNorm", "test time", "dropout beside"))]
    assert exact["difference"].max() < 1e-14 and len(exact) == 16
    bf16 = checks.loc[checks.index.str.startswith("bf16 gradient"), "difference"]
    assert f"in bf16 the gradients differ by {bf16.min():.2f} to {bf16.max():.2f}" in page
    float32 = checks.loc[["float32 gradient, mldg, as torch sets TF32", "float32 gradient, mldg, without TF32"]]
    assert (
        "differs by {:.2f} with TF32 and by {:.0e} without".format(*float32["difference"]).replace("e-06", "e-6")
        in page
    )
