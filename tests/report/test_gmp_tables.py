"""GMP's tables: each cell beside what the tidy table and the published ones hold."""

import pandas as pd
import pytest

from dglab import paper
from dglab.analysis.gmp_claims import judge_gmp
from dglab.experiments.gmp_methods import ABLATION
from dglab.report import gmp_tables as tables
from dglab.report import page
from dglab.report.overview import PARTS, VERDICT, gmp_claim_rows
from dglab.report.page import _gmp


@pytest.fixture
def frame(gmp_table):
    return gmp_table()


def test_the_ablation_has_the_rows_of_table_4_and_its_figures(frame):
    rows = {row["variant"]: row for row in tables.ablation_rows(frame)}
    assert list(rows) == [method.label for method in ABLATION]
    ours = {name: row["ours, unseen target"] for name, row in rows.items()}
    assert ours == {"joint training": "20.0 ± 0.0", "IGDM only": "21.0 ± 0.0", "CAGP only": "21.0 ± 0.0",
                    "unified modulation": "20.5 ± 0.0", "GMP (IGDM + CAGP)": "22.0 ± 0.0"}  # fmt: skip
    assert {row["trainings"] for row in rows.values()} == {"3"}
    published = paper.table("gmp_table04_ablation").set_index("variant")
    for name, of_paper in (("IGDM only", "IGDM only"), ("GMP (IGDM + CAGP)", "IGDM+CAGP (GMP)")):
        assert rows[name]["published, HAC"] == f"{published.loc[of_paper, 'hac_accuracy']:.2f}"
        assert rows[name]["published, EPIC-Kitchens"] == f"{published.loc[of_paper, 'epic_kitchens_accuracy']:.2f}"
    assert (rows["IGDM only"]["IGDM"], rows["IGDM only"]["CAGP"]) == ("yes", "")


def test_strategies_have_a_column_for_the_sources_and_say_what_is_not_run(frame):
    rows = {row["strategy"]: row for row in tables.strategies_rows(frame)}
    assert rows["OGM-GE"]["ours, unseen target"] == "20.5 ± 0.0" and rows["OGM-GE"]["ours, the sources"][:4] == "22.0"
    assert rows["GMP (IGDM + CAGP)"]["ours, unseen target"] == "not run"  # but published
    blending = rows["Grad-Blending (not built here)"]
    assert blending["ours, unseen target"] == "" and blending["published, EPIC-Kitchens"] == "55.49"
    assert len(rows) == 4
    projected = frame[frame["study"] == "gmp_strategies"].query("variant == 'joint'").assign(variant="torchjd:PCGrad")
    more = {row["strategy"]: row for row in tables.strategies_rows(pd.concat([frame, projected.astype(frame.dtypes)]))}
    pcgrad = more["both give way (PCGrad)"]
    assert (pcgrad["ours, unseen target"], pcgrad["published, HAC"]) == ("20.0 ± 0.0", "") and len(more) == 5


def test_the_distance_from_gmp_by_hand(frame):
    """20 - 22 points; two groups of deviation 0.02: t(4) = 2.776 times 0.02 sqrt(2 / 3)."""
    balanced = frame[(frame["study"] == "gmp_strategies") & (frame["variant"] == "joint")].assign(variant="gmp")
    balanced["value"] += 2.0
    found = {row["strategy"]: row for row in tables.strategies_rows(pd.concat([frame, balanced.astype(frame.dtypes)]))}
    gaps = {name: row["row - GMP [95 %]"] for name, row in found.items()}
    assert gaps == {"joint training": "-2.00 [-2.05, -1.95]", "OGM-GE": "-1.50 [-1.55, -1.45]",
                    "Grad-Blending (not built here)": "", "GMP (IGDM + CAGP)": ""}  # fmt: skip
    assert {row["row - GMP [95 %]"] for row in tables.strategies_rows(frame)} == {""}  # GMP is not run there


def test_what_normalization_does_to_a_branch_is_paired(frame):
    """TN adds 1, 2 and 3 points to the three networks: 2 with t(2) = 4.303 times 1 / sqrt(3)."""
    rgb = (frame["study"] == "gmp_branches") & (frame["branch"] == "rgb") & (frame["variant"] == "gmp")
    tn = frame[rgb].assign(test_method="tn", batch_size=4, prior=0.0)
    tn["value"] += [1.0, 2.0, 3.0]
    rows = tables.branches_rows(pd.concat([frame, tn.astype(frame.dtypes)]))
    found = {(row["read by"], row["trained"]): row for row in rows}
    of_rgb = found["rgb branch", "GMP (IGDM + CAGP)"]
    assert of_rgb["source BN"] == "21.5 ± 0.0" and of_rgb["TN, M = 4"] == "23.5 ± 1.0"
    assert of_rgb["TN, M = 4 - source BN"] == "+2.00 [-0.48, +4.48]"
    depth = found["depth branch", "depth alone"]
    assert depth["source BN"] == "23.0 ± 0.0" and depth["TN, M = 4 - source BN"] == depth["SIB"] == "not run"


def test_a_second_unseen_domain_has_a_table_of_its_own(frame):
    other = frame[frame["study"] == "gmp_branches"].assign(task="G+S+I+C->M", target="M")
    other["domain_evaluated"] = other["domain_evaluated"].map({"C": "M", "M": "C"}).fillna(other["domain_evaluated"])
    other["value"] += 7
    both = pd.concat([other.astype(frame.dtypes), frame])  # in whatever order
    assert tables.branches_rows(both) == tables.branches_rows(frame) and tables.branches_rows(frame, 1) == []
    (joint,) = [
        row
        for row in tables.branches_rows(both, 1)
        if (row["read by"], row["trained"]) == ("rgb branch", "joint training")
    ]
    assert joint["source BN"] == "27.0 ± 0.0"


def test_what_each_modality_loses_by_hand(frame):
    """RGB loses 5, 4 and 3 points: 4 with t(2) = 4.303 times 1 / sqrt(3); depth 1 each. Their difference, 3, has the
    same error, and by Welch the same t(2), for depth does not vary."""
    rows = frame[(frame["study"] == "gmp_branches") & (frame["branch"] == frame["modalities"])].assign(branch=pd.NA)
    scores = {"rgb": {"C": [20.0, 21.0, 22.0], "G": [26.0] * 3, "S": [24.0] * 3},
              "depth": {"C": [20.0] * 3, "G": [22.0] * 3, "S": [20.0] * 3}}  # fmt: skip
    own = pd.concat(
        rows[rows["modalities"] == name].assign(domain_evaluated=domain, value=values)
        for name, by_domain in scores.items()
        for domain, values in by_domain.items()
    ).astype(frame.dtypes)
    other = own[own["modalities"] == "rgb"].assign(task="G+S->M", target="M")
    other["domain_evaluated"] = other["domain_evaluated"].replace("C", "M")
    rgb, depth, apart, *of_m = tables.shift_rows(pd.concat([other, own, frame]))
    assert rgb == {"unseen": "C", "network": "rgb alone", "trainings": "3", "on the sources": "25.0 ± 0.0",
                   "on the target": "21.0 ± 1.0", tables.LOST: "-4.00 [-6.48, -1.52]"}  # fmt: skip
    assert (depth["network"], depth[tables.LOST]) == ("depth alone", "-1.00 [-1.00, -1.00]")
    assert apart == {"unseen": "C", "network": "rgb - depth", "trainings": "", "on the sources": "+4.00 [+4.00, +4.00]",
                     "on the target": "+1.00 [-1.48, +3.48]", tables.LOST: "-3.00 [-5.48, -0.52]"}  # fmt: skip
    assert [row["unseen"] for row in of_m] == ["M"] * 3
    assert [row[tables.LOST] for row in of_m] == [rgb[tables.LOST], "not run", ""]


def test_a_failing_sensor_and_the_projection_between_domains(frame):
    branch = frame[frame["branch"] == "rgb"]
    fused = branch.assign(branch=pd.NA, value=branch["value"] + 5)
    failing = branch.assign(branch=pd.NA, without="depth")
    own = pd.concat([fused, failing]).astype(frame.dtypes)
    joint, balanced = tables.missing_rows(own)
    assert (joint["both"], joint["without depth"], joint["without rgb"]) == ("25.0 ± 0.0", "20.0 ± 0.0", "not run")
    assert (balanced["both"], balanced["without depth"]) == ("26.5 ± 0.0", "21.5 ± 0.0")
    between = branch[branch["modalities"] == "rgb"].assign(
        study="domain_conflict", train_method="projected", variant=pd.NA
    )
    plain = between.assign(train_method="mldg", inner_lr=0.0, value=between["value"] - 1)
    rows = tables.conflict_rows(pd.concat([between, plain]).astype(frame.dtypes))
    names = [(row["trained with"], row["source BN"]) for row in rows]
    assert names == [("MLDG inner 0", "23.0 ± 0.0"), ("projected", "24.0 ± 0.0"), ("MLDG", "not run")]
    gaps = [row["- MLDG inner 0, source BN"] for row in rows]
    assert gaps[0] == gaps[2] == "" and gaps[1].startswith("+1.00 [+")


def test_claims_are_those_of_the_judge_at_each_scale(frame):
    few = frame[frame["train_seed"] == frame["train_seed"].min()]
    rows = gmp_claim_rows({"all": frame, "few": few})
    verdicts = [row for row in rows if row[PARTS] == VERDICT]
    assert [row["all"] for row in verdicts] == [v.outcome for v in judge_gmp(frame)]
    assert {row["few"] for row in verdicts} == {"open"}  # one training
    [part] = [row for row in rows if row[PARTS] == "GMP - unified modulation"]
    assert part["all"].startswith("+1.50 [") and part["few"] == "+1.50" and part["n (few)"] == 2
    assert part["the paper"] == "+2.39 (EPIC-Kitchens), +2.41 (HAC)"  # 57.36 - 54.97, 64.91 - 62.50
    [part] = [row for row in rows if row[PARTS] == "IGDM - joint"]
    assert part["the paper"] == "+0.92 (EPIC-Kitchens), +1.19 (HAC)"  # 55.98 - 55.06, 63.05 - 61.86


def test_without_rows_there_are_no_tables(frame):
    nothing = frame.iloc[:0]
    for make in (tables.ablation_rows, tables.strategies_rows, tables.branches_rows, tables.missing_rows,
                 tables.shift_rows, tables.conflict_rows):  # fmt: skip
        assert make(nothing) == []


def test_the_page_shows_those_of_its_run_first(frame, tmp_path):
    (tmp_path / "figures").mkdir()
    shown = _gmp(tmp_path, frame)
    assert shown["where"] == "of this run" and shown["scales"] == ["here", "recorded, full", "recorded, quick"]
    assert {row["here"] for row in shown["verdicts"] if row[PARTS] == VERDICT} == {"holds"}
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == set(tables.STUDIES)
    assert all(part["rows"] for part in shown["parts"])
    assert len([part for part in shown["parts"] if part["picture"]]) == 3
    assert shown["parts"][-1]["title"].endswith("images alone, recorded with the preset full")  # this run has none
    assert [row["trained with"] for row in shown["parts"][-1]["rows"]] == ["MLDG inner 0", "projected", "MLDG"]


def test_a_record_that_has_begun_does_not_hide_a_fuller_one(frame, tmp_path, monkeypatch):
    (tmp_path / "figures").mkdir()
    begun = frame[frame["train_seed"] == frame["train_seed"].min()]
    records = {"full": begun, "quick": frame}
    monkeypatch.setattr(page, "recorded_table", lambda preset, data="streets": records.get(preset))
    assert _gmp(tmp_path, frame.iloc[:0])["where"] == "recorded with the preset quick"
    records["full"] = frame
    assert _gmp(tmp_path, frame.iloc[:0])["where"] == "recorded with the preset full"
