"""The figure of dose and response, drawn from a small table made by hand."""

import numpy as np
import pandas as pd

from dglab.report import figures
from dglab.report.figures.base import GREY

COLUMNS = ["trained with", "test", "dose", "gain", "low", "high", "trainings"]


def test_each_gain_stands_at_its_dose():
    """SIB was not run with AGG; its colour is the same in the other panel, and it is in the legend."""
    found = [("AGG", "TN, M = 4"), ("AGG", "AdaBN"), ("MLDG", "TN, M = 4"), ("MLDG", "SIB"), ("MLDG", "AdaBN")]
    rows = [(*one, dose, 4 * dose - 2, 4 * dose - 3, 4 * dose - 1, 3) for one in found for dose in (0.0, 1.0, 1.5)]
    fig = figures.dose_response(pd.DataFrame(rows, columns=COLUMNS))
    assert [axis.get_title() for axis in fig.axes] == ["AGG", "MLDG"]
    curves = [[line for line in axis.lines if line.get_color() != GREY] for axis in fig.axes]
    first = curves[0][0]
    assert first.get_label() == "TN, M = 4" and first.get_xydata().tolist() == [[0, -2], [1, 2], [1.5, 4]]
    band = fig.axes[0].collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (-3, 5)
    assert fig.axes[0].get_ylabel().startswith("gain over source BN") and fig.axes[1].get_xlabel().startswith("dose")
    colours = {line.get_label(): line.get_color() for panel in curves for line in panel}
    assert len(set(colours.values())) == 3
    assert all(line.get_color() == colours[line.get_label()] for panel in curves for line in panel)
    assert {text.get_text() for text in fig.legends[0].get_texts()} == set(colours)


def test_a_single_training_has_no_band():
    rows = [("AGG", "AdaBN", dose, 1.0, -np.inf, np.inf, 1) for dose in (0.0, 1.0)]
    assert not figures.dose_response(pd.DataFrame(rows, columns=COLUMNS)).axes[0].collections
