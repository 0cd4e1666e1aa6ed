"""The page: made from a table, the record of its run and Figure 4's picture, and from nothing else."""

import json
import re

import pandas as pd
import pytest

from dglab.experiments.record import describe_run
from dglab.experiments.table import COLUMNS, TYPES, read_table, write_table
from dglab.presets import PRESETS
from dglab.report.page import write_report
from dglab.report.tables import ablation_table, adabn_table, backbones_table, plus_minus, policy_table
from dglab.utils.errors import InputError

PNG = b"\x89PNG, of Figure 4"
# drawn twice: of the recorded study, and of this run
RECORDED = {"figure5_batch_size", "table03_controls", "table05_selection_policy", "table06_style_layer",
            "table07_queue_size", "table09_source_and_target", "prior"}  # fmt: skip
OF_REAL = {f"recorded_photometric_{what}_{target}" for what in ("tn", "selection") for target in "TK"}
RECORDED_ALONE = {"domains_per_pass_recorded", "style_dose_recorded"} | OF_REAL  # which tiny has no study for


@pytest.fixture
def folder(lab, frames, tmp_path):
    """A finished run on tiny."""
    write_table(pd.concat(frames.values(), ignore_index=True), tmp_path / "tables.csv")
    (tmp_path / "run.json").write_text(json.dumps(describe_run(lab, minutes=1.25)))
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "figure4_predictions.png").write_bytes(PNG)
    return tmp_path


def test_a_folder_becomes_one_page_that_needs_nothing_else(folder, monkeypatch):
    monkeypatch.setattr("torch.nn.Module.__call__", lambda *_, **__: pytest.fail("runs a network"))
    page = write_report(folder).read_text(encoding="utf-8")
    assert "preset <code>tiny</code>" in page and "took 1.2 minutes" in page and "Mixed:" not in page
    pictures = re.findall(r'<img [^>]*src="([^"]*)"', page)
    assert len(pictures) == 11 + len(RECORDED | RECORDED_ALONE)
    assert all(source.startswith("data:image/png;base64,") for source in pictures)
    assert not re.findall(r'(?:src|href)="(?!data:)', page) and page.count("<script") == 1
    drawn = {path.stem for path in (folder / "figures").iterdir()}
    of_gmp = {"gmp_ablation", "gmp_strategies", "gmp_branches"}
    twice = RECORDED | {f"{name}_recorded" for name in RECORDED}
    assert drawn == twice | RECORDED_ALONE | of_gmp | {"figure4_predictions"}
    recorded, here = (page.index(f'alt="mIoU over test batch size M, {scale}"') for scale in ("recorded", "here"))
    assert recorded < here
    assert "GMP, recorded with the preset full" in page and page.count("Small marks are single trainings") == 3
    assert page.count("<h3>G+S+I+M → C</h3>") == 1 and "A mixed stream (Table 5): G+S+I → C+M" in page
    assert page.count('<tr class="group">') >= 4  # training methods: those here, and those that are recorded
    assert {number for number in re.findall(r'<tr class="group"><td>(\d+)\. ', page)} == {str(n) for n in range(1, 13)}
    assert "networks on" in page  # where the recorded ones were made
    assert "<code>dglab verify</code>" in page and "dglab reproduce --only backbones" in page
    for number in (1, 2, 3, 4, 8, 10):  # recorded, and as the paper's; 5, 6, 7, 9 and 11 beside this run
        assert f"<h3>Table {number}" in page
    assert "the paper: accuracy" in page and "55.52 ± 0.07" in page  # Tables 6 and 9


def test_what_a_run_leaves_to_the_record_is_shown_as_recorded(folder):
    frame = read_table(folder / "tables.csv")
    write_table(frame[~frame["study"].isin(PRESETS["quick"].as_recorded)], folder / "tables.csv")
    page = write_report(folder).read_text(encoding="utf-8")
    assert "A mixed stream (Table 5): G+S+I → C+M" in page and "<h2>One image a pass" not in page
    for picture in ("mIoU by selection policy", "mIoU and selection accuracy by queue size"):
        assert f'alt="{picture}, recorded"' in page and f'alt="{picture}, here"' not in page
    for study in ("selection_policy", "style_layer", "queue_size"):
        assert f"not run; <code>dglab reproduce --only {study}</code>" in page


def test_a_run_without_its_first_study_is_refused_and_one_without_a_curve_has_none(folder):
    frame = read_table(folder / "tables.csv")
    write_table(frame[(frame["study"] != "batch_size") | (frame["test_method"] == "bn")], folder / "tables.csv")
    assert 'alt="mIoU over test batch size M, here"' not in write_report(folder).read_text(encoding="utf-8")
    write_table(frame[frame["study"] != "ablation"], folder / "tables.csv")
    with pytest.raises(InputError, match="has no row of the study ablation, with which a report begins"):
        write_report(folder)


@pytest.mark.parametrize("field", ["machine", "versions", "minutes", "train_seeds"])
def test_a_record_that_lacks_what_the_page_says_is_refused_by_name(folder, field):
    record = json.loads((folder / "run.json").read_text())
    del record[field]
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=rf"run.json does not name preset, .* \('{field}'\)"):
        write_report(folder)


def test_results_of_another_machine_are_not_mixed_in_silence(lab, folder):
    described = describe_run(lab, minutes=1.25, reused=7)
    described["preset"]["name"] = "full"  # of which it is known where its networks were made
    (folder / "run.json").write_text(json.dumps(described))
    page = write_report(folder).read_text(encoding="utf-8")
    assert re.search(
        r"<b>Mixed:</b> 7 of the results below were not made by this run; they ship with the package: \d+ networks on "
        ".*, torch",
        page,
    )


def test_a_run_of_two_machines_and_what_its_data_do_not_allow(lab, folder):
    places = {"here with AVX2, torch 1": 3, "there with AVX512, torch 1": 2}
    needs = dict.fromkeys(("source_domains_fixed", "style_dose"), "the streets")
    described = describe_run(lab, 1.0, reused=7, places=places, impossible=needs)
    (folder / "run.json").write_text(json.dumps(described))
    (folder / "figures" / "figure4_predictions.png").unlink()  # nor is the picture there
    page = " ".join(write_report(folder).read_text(encoding="utf-8").split())
    assert "<b>Mixed:</b> 7 of the results below were not made by this run; they ship with the package." in page
    assert "not trained and tested in one place: 3 on here with AVX2, torch 1; 2 on there with AVX512, torch 1." in page
    assert "Of the studies: source_domains_fixed, style_dose: not run; it needs the streets" in page
    assert re.search(r"Claim 9 \(.*?\): not run; it needs the streets", page)
    assert "dglab reproduce --only backbones" in page and "--only source_domains_fixed" not in page
    assert "What they see" not in page and len(re.findall("<img ", page)) == 10 + len(RECORDED | RECORDED_ALONE)


def test_other_data_are_not_set_beside_the_papers(folder):
    record = json.loads((folder / "run.json").read_text())
    record["data"] = {"name": "streets", "identity": "prepared 0123"}  # a folder that is called so
    record["domains"]["X"] = "X (mine)"  # and its letters are not the paper's five
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "figures" / "figure4_predictions.png").rename(folder / "figures" / "figure4_predictions_C.png")
    page = write_report(folder).read_text(encoding="utf-8")
    assert "the paper</th>" not in page and "The paper's claims" not in page and "Table 3" not in page
    assert "<h2>Over the targets</h2>" in page and '<td class="text">MLDG+source BN - AGG+source BN</td>' in page
    assert (folder / "figures" / "figure5_batch_size_C.png").exists() and len(re.findall("<img ", page)) == 8 + len(
        OF_REAL
    )


@pytest.mark.parametrize("missing", ["tables.csv", "run.json"])
def test_what_the_page_is_made_from_is_named_where_it_is_missing(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(InputError, match=missing):
        write_report(folder)


def test_the_papers_figures_stand_beside_ours(frames):
    """Table 3: AGG 53.71 and MLDG 55.95 on G+S+I+M->C; its TN says that no M is stated."""
    rows = {(r["training"], r["test"]): r for r in ablation_table(frames["ablation"], "G+S+I+M->C", True)}
    published = {key: row["paper"] for key, row in rows.items() if row["paper"]}
    assert set(published) == {(a, b) for a in ("AGG", "MLDG") for b in ("source BN", "TN, M = 4", "SIB, M = 4")}
    assert published["AGG", "source BN"] == "53.71" and published["MLDG", "source BN"] == "55.95"
    table = {row["method"]: row["paper"] for row in policy_table(frames["selection_policy"], True)}
    assert (table["MLDG"], table["MLDG+TN, M = 1"], table["MLDG+TN, M = 4"]) == ("50.87", "", "52.04 (M not stated)")
    assert table["MLDG+SIB"] == "52.80 ± 0.14"
    assert not any(row["paper"] for row in ablation_table(frames["ablation"], "G+S+I+M->C", False))


def test_the_tables_hold_the_tables_numbers(frames):
    frame = frames["ablation"]
    scores = frame[frame["metric"] == "miou"]
    tn = scores[(scores["train_method"] == "by_domain") & (scores["batch_size"] == 4)]["value"]
    [row] = [
        row
        for row in ablation_table(frame, "G+S+I+M->C", True)
        if (row["training"], row["test"]) == ("by domain", "TN, M = 4")
    ]
    low, high = (frame[(frame["metric"] == f"miou_{end}") & (frame["train_method"] == "by_domain")
                       & (frame["batch_size"] == 4)]["value"].item() for end in ("low", "high"))  # fmt: skip
    assert low < tn.item() < high and row["ours"] == f"{tn.item():.1f} ({low:.1f} to {high:.1f})"
    assert row["order"] == ""  # one training, one order
    assert plus_minus(12.34, 0.56) == "12.3 ± 0.6" and plus_minus(12.34, float("nan")) == "12.3"


def test_three_networks_stand_above_the_papers_three():
    rows = [
        {"study": "backbones", "task": "G+S+I+M->C", "backbone": name, "train_method": method, "test_method": test,
         "statistics": "joint" if test == "sib" else None, "inner_lr": 0.1 if method == "mldg" else None,
         "train_seed": seed, "metric": "miou", "value": value + seed}
        for name, base in (("thin-fpn", 30), ("hrnet-w18", 40))
        for method, test, value in (("agg", "bn", base), ("mldg", "bn", base + 1), ("mldg", "sib", base + 2))
        for seed in (0, 1)
    ]  # fmt: skip
    table = backbones_table(pd.DataFrame(rows).reindex(columns=list(COLUMNS)).astype(TYPES))
    assert [row["network"] for row in table] == ["thin-fpn", "hrnet-w18", "the paper: ResNet-50 (dilated FCN)",
                                                 "the paper: DeepLabV3", "the paper: HRNet"]  # fmt: skip
    assert table[1] == {"network": "hrnet-w18", "AGG": "40.5 ± 0.7", "MLDG": "41.5 ± 0.7", "MLDG+TN, M = 4": "not run",
                        "MLDG+SIB": "42.5 ± 0.7", "n": "2"}  # fmt: skip
    assert table[4]["MLDG+SIB"] == "64.09 ± 0.11" and table[4]["AGG"] == ""
    assert backbones_table(pd.DataFrame(columns=list(COLUMNS))) == []


def test_no_number_rests_on_what_a_method_is_called(frames, request):
    frame = pd.concat(frames.values())

    def numbers(frame):
        tables = (
            ablation_table(frame, "G+S+I+M->C", True),
            adabn_table(frame, "G+S+I+M->C", True),
            policy_table(frame, True),
        )
        return [[{k: r.get(k) for k in ("ours", "order", "paper", "accuracy")} for r in table] for table in tables]

    before = numbers(frame)
    request.getfixturevalue("other_labels")
    assert numbers(frame.assign(method="?")) == before and all(before)


def test_the_page_of_what_ships(tmp_path, lab):
    """The README's numbers: what a reader finds there stands in the recorded table, and so on the page."""
    from dglab.experiments.recorded import recorded_table

    rows = ablation_table(recorded_table("quick"), "G+S+I+M->C", True)
    assert len(rows) == 4 * 6 and all(row["ours"] != "not run" for row in rows)
