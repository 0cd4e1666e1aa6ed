"""The report without a kernel, opened as a file."""

import json

import pandas as pd
import pytest

from dglab.experiments.record import describe_run
from dglab.experiments.recorded import recorded_table
from dglab.experiments.table import write_table
from dglab.report.moving import SHIFTS
from dglab.report.page import write_report


def test_the_report_moves(page, lab, barriers, shot, tmp_path):
    """Each slider marks the column whose numbers are the tidy table's."""
    frame = recorded_table("quick")
    write_table(frame, tmp_path / "tables.csv")
    (tmp_path / "run.json").write_text(json.dumps(describe_run(lab, minutes=1.0)))
    (tmp_path / "figures").mkdir()
    page.goto(write_report(tmp_path).as_uri())
    assert page.locator(".moving").count() >= 5 + 3  # of M, Q, layer and prior; of doses on real streets
    dose = page.locator(".moving", has=page.get_by_role("heading", name="dose of dark"))
    dose.get_by_role("slider").focus()
    page.keyboard.press("End")
    shipped = pd.read_csv(SHIFTS).set_index(["shift", "images", "test", "dose"])["miou"]
    last = dose.locator("tbody tr", has_text="KITTI, unseen: source BN").locator("td.at")
    assert last.inner_text().startswith(f"{shipped['dark', 'KITTI, unseen', 'source BN', 0.75]:.1f} ± ")
    m = page.locator(".moving").first
    slider = m.get_by_role("slider")
    slider.focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert m.locator("output").inner_text() == "4"
    rows = frame[(frame["study"] == "batch_size") & (frame["metric"] == "miou") & (frame["train_method"] == "agg")]
    mean = rows[rows["batch_size"] == 4].groupby("train_seed")["value"].mean().mean()
    row = m.locator("tbody tr", has_text="AGG, TN")
    assert row.locator("td.at").inner_text().startswith(f"{mean:.1f} ± ")
    wide = row.locator(".bar i").evaluate("bar => bar.getBoundingClientRect().width / bar.parentElement.clientWidth")
    largest = max(float(v) for v in m.locator("td[data-value]").evaluate_all("all => all.map(c => c.dataset.value)"))
    assert wide == pytest.approx(mean / largest, abs=0.15)  # the cell has padding
    slider.evaluate("input => { input.value = 0; input.dispatchEvent(new Event('input')); }")
    assert m.locator("output").inner_text() == "1" and m.locator("th.at").inner_text() == "1"
    page.emulate_media(media="print")
    assert not m.locator(".move").is_visible() and m.locator("table").is_visible()
    page.emulate_media(media="screen")
    assert barriers(page) == []
    shot(page, "report")
