"""What docs/test_time.md says: of signals without labels what lesson 08 has stored, of cached statistics the record."""

import re

import nbformat
import pytest

from dglab.analysis.claims import judge
from dglab.analysis.intervals import cached_against_joint
from dglab.experiments.recorded import recorded_table
from tools.write_tables import ROOT


@pytest.fixture(scope="module")
def stored():
    """The text of each output cell of the lesson, by the cell's id."""
    cells = nbformat.read(ROOT / "notebooks" / "08_your_own_model.ipynb", 4).cells
    return {
        cell.id: "".join(output.data["text/plain"] for output in cell.outputs if "data" in output)
        for cell in cells
        if cell.cell_type == "code"
    }


def test_signals_without_labels(stored):
    page = " ".join((ROOT / "docs" / "test_time.md").read_text(encoding="utf-8").split())
    agg, mldg = stored["l08-25"].split("MLDG ")
    values = {}
    for name, text in (("AGG", agg), ("MLDG", mldg)):
        for signal in ("style_distance", "agreement"):
            rows = text.split(signal)[1].split("\n")[:2]
            values[name, signal] = [[f"{float(x):+.2f}" for x in re.findall(r"-?\d+\.\d+", row)] for row in rows]
    whole = {key: f"{found[0][0]} [{found[0][1]}, {found[0][2]}]" for key, found in values.items()}
    within = {key: found[1] for key, found in values.items()}
    assert f"{whole['AGG', 'style_distance']} for AGG, {whole['MLDG', 'style_distance']} for MLDG" in page
    assert f"({within['AGG', 'style_distance'][0]} and {within['MLDG', 'style_distance'][0]})" in page
    rho, low, high = within["AGG", "agreement"]
    assert f"for AGG ({rho} [{low}, {high}]), and not for MLDG ({within['MLDG', 'agreement'][0]})" in page


def test_gains_of_tn_by_domain(stored):
    page = " ".join((ROOT / "docs" / "test_time.md").read_text(encoding="utf-8").split())
    gains = {True: [], False: []}  # of sources, of unseen domains: AGG's and MLDG's
    for line in stored["l08-27"].splitlines():
        found = re.match(r"[GSIMC] +(True|False) +(-?\d+\.\d+) +\d+\.\d+ +(-?\d+\.\d+)", line)
        if found:
            gains[found[1] == "True"] += [float(found[2]), float(found[3])]
    assert len(gains[True]) == 6 and len(gains[False]) == 4
    assert f"TN gains {min(gains[False])} to {max(gains[False])} points on average" in page
    assert f"on those of the sources between {min(gains[True])} and {max(gains[True]):+}" in page


def test_what_cached_statistics_cost():
    page = " ".join((ROOT / "docs" / "test_time.md").read_text(encoding="utf-8").split())
    full = recorded_table("full")
    found = cached_against_joint(full).set_index(["task", "trained with"])
    ends = {
        key: [f"{float(x):.1f}" for x in re.findall(r"[-+]\d+\.\d+", text)] for key, text in found["difference"].items()
    }
    said = {key: f"{mean} [{low}, {high}]" for key, (mean, low, high) in ends.items()}
    alone, mixed = "G+S+I+M->C", "G+S+I->C+M"
    assert f"on C {said[alone, 'AGG']} points of mIoU for AGG and {said[alone, 'MLDG']} for MLDG" in page
    selected = next(part.difference for v in judge(full) for part in v.parts if part.name == "SIB - TN (M = 5)")
    gains = f"for MLDG as much as the selection of neighbours gains there over TN ({selected.mean:.1f})"
    assert f"on the mixed stream {said[mixed, 'AGG']} and {said[mixed, 'MLDG']}, {gains}" in page
    assert f"{found['agreement'].min():.0f} to {found['agreement'].max():.0f} % of the pixels have the same" in page
