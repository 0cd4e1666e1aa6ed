"""What the figures draw: labels, titles, lines, marks, pictures and legends, looked up in the axes."""

import inspect
import io
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from dglab.classes import CLASS_NAMES, PALETTE, colorize
from dglab.evaluation import ConfusionMatrix
from dglab.report import figures
from dglab.report.figures import base

H, W = 4, 6


def picture(seed=0):
    """3 x H x W, uint8."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, H, W), np.uint8))


def label_map(*ids):
    """H x W of the given ids in turn."""
    return torch.tensor(ids).repeat(H * W)[: H * W].reshape(H, W)


def legend(owner):
    """The words of an axis's or a figure's only legend."""
    [found] = [owner.get_legend()] if hasattr(owner, "get_legend") else owner.legends
    return [text.get_text() for text in found.texts]


def ticks(axis, which="x"):
    return [text.get_text() for text in getattr(axis, f"get_{which}ticklabels")()]


def texts(axis):
    return [text.get_text() for text in axis.texts]


def named(axis):
    """The lines that a legend would list, by name."""
    return {line.get_label(): line for line in axis.lines if not line.get_label().startswith("_")}


def xy(line):
    return np.column_stack(line.get_data()).tolist()


def drawn(axis):
    """The array of an axis's only picture."""
    [image] = axis.images
    return np.asarray(image.get_array())


def draws(fig):
    """That a figure can be drawn at all; matplotlib finds mistakes in formulas only then."""
    fig.savefig(io.BytesIO(), format="png", dpi=30)
    return fig


@pytest.fixture(autouse=True)
def leaves_nothing_open():
    yield
    assert plt.get_fignums() == []  # a notebook would show it twice


# ------------------------------------------------------------------------------------------- every one is tested


def test_every_public_function_is_tested():
    """Here, in test_gmp_figures.py, or in test_tables.py those that draw the tidy table."""
    here = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*figures.py"))
    functions = {name: getattr(figures, name) for name in figures.__all__}
    assert all(inspect.isfunction(function) for function in functions.values())
    elsewhere = {name for name, function in functions.items() if function.__module__ == "dglab.report.figures.tables"}
    assert elsewhere and not [name for name in functions if name not in elsewhere and f"figures.{name}(" not in here]


# -------------------------------------------------------------------------------------------------------- base


def test_the_look_is_set_inside_and_gone_outside():
    before = dict(mpl.rcParams)
    with figures.style():
        assert mpl.rcParams["figure.constrained_layout.use"] and not mpl.rcParams["axes.spines.top"]
        assert mpl.rcParams["axes.prop_cycle"].by_key()["color"][0] == base.BLUE
    assert dict(mpl.rcParams) == before
    fig, axes = figures.figure(2, 3, (5, 4), sharex=True)
    assert axes.shape == (2, 3) and fig.get_size_inches().tolist() == [5, 4] and fig.get_constrained_layout()


def test_pictures_of_either_layout_become_rows_columns_colours():
    image = picture()
    assert np.array_equal(figures.as_picture(image), image.permute(1, 2, 0))
    assert np.array_equal(figures.as_picture(image.permute(1, 2, 0).numpy()), image.permute(1, 2, 0))


def test_an_image_and_a_label_map_are_shown_without_axes():
    _, (left, right) = figures.figure(1, 2)
    figures.show(left, picture(), "a street")
    figures.show(right, label_map(0, 13, 255), label=True)
    assert np.array_equal(drawn(left), picture().permute(1, 2, 0)) and left.get_title() == "a street"
    assert np.array_equal(drawn(right), colorize(label_map(0, 13, 255).numpy())) and right.get_title() == ""
    assert not left.axison and not right.axison and right.images[0].get_interpolation() == "nearest"


def test_the_legend_of_classes():
    fig, _ = figures.figure()
    figures.class_legend(fig)
    assert legend(fig) == list(CLASS_NAMES)
    some, _ = figures.figure()
    figures.class_legend(some, [13, 0])
    assert legend(some) == ["car", "road"]
    colors = [patch.get_facecolor()[:3] for patch in some.legends[0].get_patches()]
    assert colors == [tuple(np.array(PALETTE[i]) / 255) for i in (13, 0)]


def test_domains_look_different_and_the_looks_come_round():
    looks = [tuple(figures.domain_look(i).values()) for i in range(10)]
    assert len(set(looks)) == 10 and len({marker for _, marker in looks}) == 10
    assert figures.domain_look(60) == figures.domain_look(0)


def test_a_logarithmic_axis_has_plain_numbers():
    _, axis = figures.figure()
    axis.set(xscale="log", xlim=(0.04, 30))
    figures.plain_log(axis)
    assert ticks(axis) == ["0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10", "20"]


def test_a_figure_of_photographs_becomes_a_jpeg():
    fig, axis = figures.figure()
    figures.show(axis, picture())
    shown = figures.as_jpeg(fig)
    with Image.open(io.BytesIO(shown.data)) as image:
        assert image.format == "JPEG" and image.width > 300
    assert shown.format == "jpeg" and len(figures.as_jpeg(fig, quality=20).data) < len(shown.data)


# ---------------------------------------------------------------------------------------------------- pictures


def test_a_gallery_has_images_over_their_labels():
    rows = {
        "G, game": [(picture(i), label_map(i)) for i in range(3)],
        "S, another": [(picture(i + 3), label_map(i + 3)) for i in range(2)],
    }
    fig = draws(figures.gallery(rows))
    axes = np.array(fig.axes).reshape(4, 3)
    assert [[len(axis.images) for axis in row] for row in axes] == [[1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 1, 0]]
    assert axes[0, 0].get_title() == "G, game" and axes[2, 0].get_title() == "S, another"
    assert np.array_equal(drawn(axes[2, 1]), picture(4).permute(1, 2, 0))
    assert np.array_equal(drawn(axes[3, 1]), colorize(label_map(4).numpy()))
    assert legend(fig) == list(CLASS_NAMES)


def test_predictions_stand_side_by_side():
    columns = {
        "image": [picture(0), picture(1)],
        "AGG": [label_map(0), label_map(1)],
        "ground truth": [label_map(2), label_map(3, 255)],
    }
    fig = draws(figures.predictions(columns))
    axes = np.array(fig.axes).reshape(2, 3)
    assert [axis.get_title() for axis in axes[0]] == list(columns)
    assert [axis.get_title() for axis in axes[1]] == [""] * 3
    assert np.array_equal(drawn(axes[1, 0]), picture(1).permute(1, 2, 0))
    assert np.array_equal(drawn(axes[1, 2]), colorize(label_map(3, 255).numpy()))
    assert len(legend(fig)) == 19


def test_a_grid_of_pictures_names_its_rows_and_columns():
    rows = {"source": [picture(0), picture(1)], "labels": [label_map(0, 255), label_map(13)]}
    fig = draws(figures.picture_grid(rows, ["near", "far"], labels=["labels"]))
    axes = np.array(fig.axes).reshape(2, 2)
    assert [axis.get_title() for axis in axes.flat] == ["near", "far", "", ""]
    assert [texts(axis) for axis in axes.flat] == [["source"], [], ["labels"], []]
    assert np.array_equal(drawn(axes[1, 0]), colorize(label_map(0, 255).numpy()))
    assert legend(fig) == ["road", "car"]  # what occurs, without the ignored
    assert figures.picture_grid({"source": rows["source"]}, ["near", "far"]).legends == []


def test_small_label_maps_have_their_classes_written_in():
    fig = draws(figures.small_label_maps({"truth": [[0, 13], [255, 0]], "prediction": np.array([[0, 0, 1]])}))
    left, right = fig.axes
    assert (left.get_title(), right.get_title()) == ("truth", "prediction")
    assert texts(left) == ["road\n0", "car\n13", "ignored\n255", "road\n0"] and texts(right)[2] == "sidewalk\n1"
    assert left.texts[2].get_color() == "white"  # on black
    assert len(left.lines) == 2 and len(right.lines) == 2  # between 2 x 2, and 1 x 3


def test_depth_has_an_image_a_label_and_metres():
    metres = np.linspace(3, 400, H * W).reshape(H, W)
    fig = draws(figures.depth(picture(), label_map(0), metres, farthest=50))
    image, label, depth, bar = fig.axes
    assert [axis.get_title() for axis in (image, label, depth)] == ["image", "label", "depth"]
    assert drawn(depth).max() == 50 and drawn(depth).min() == 3
    assert bar.get_ylabel() == "metres, log scale" and ticks(bar, "y") == ["5", "10", "20", "50"]


# ----------------------------------------------------------------------------------------------------- domains


def test_class_frequencies_have_one_kind_of_mark_a_domain():
    shares = pd.DataFrame({"G": [30.0, 1.5, 0.2], "S": [28.0, 2.0, 0.1]}, index=["road", "car", "pole"])
    [axis] = draws(figures.class_frequencies(shares)).axes
    assert axis.get_xscale() == "log" and axis.get_xlabel() == "share of labelled pixels (%)"
    assert ticks(axis, "y") == ["road", "car", "pole"] and axis.yaxis_inverted()
    assert legend(axis) == ["G", "S"] and axis.get_legend().get_title().get_text() == "domain"
    assert [line.get_marker() for line in axis.lines] == ["o", "s"]
    assert xy(axis.lines[1]) == [[28, 0], [2, 1], [0.1, 2]]


def test_a_matrix_of_distances_has_its_numbers():
    distances = pd.DataFrame([[0.0, 1.5], [1.5, 0.0]], index=list("GS"), columns=list("GS"))
    axis, bar = draws(figures.distance_matrix(distances, "how far", "Eq. 10")).axes
    assert texts(axis) == ["0.00", "1.50", "1.50", "0.00"] and axis.get_title() == "how far"
    assert ticks(axis) == ticks(axis, "y") == ["G", "S"] and bar.get_ylabel() == "Eq. 10"


def test_strips_of_values_have_a_bar_at_their_mean():
    panels = {"before": {"a": [1.0, 3.0], "b": [2.0]}, "after": {"a": [5, 7], "b": [9]}, "later": {"a": [0], "b": [1]}}
    fig = draws(figures.value_strips(panels, "points"))
    assert [axis.get_title() for axis in fig.axes] == list(panels)
    first, second, third = fig.axes
    values, mean = first.lines[:2]
    assert xy(values) == [[1, 0], [3, 0]] and set(mean.get_xdata()) == {2} and values.get_color() == mean.get_color()
    assert len(first.lines) == 4 and ticks(first, "y") == ["a", "b"] and first.get_xlabel() == "points"
    assert second.get_xlim() == third.get_xlim() != first.get_xlim()


def test_ranges_of_settings_have_a_panel_each():
    settings = {
        name: {"G": (0.0, 1.0), "S": (i, i + 1)} for i, name in enumerate(["fog", "sun", "rain", "hue", "noise"])
    }
    fig = draws(figures.setting_ranges(settings, {name: f"unit of {name}" for name in settings}))
    axes = fig.axes
    assert len(axes) == 8 and [axis.axison for axis in axes] == [True] * 5 + [False] * 3
    assert [axis.get_title() for axis in axes[:5]] == list(settings) and axes[4].get_xlabel() == "unit of noise"
    assert xy(axes[3].lines[1]) == [[3, 1], [4, 1]] and ticks(axes[0], "y") == ["G", "S"]


def test_statistics_of_channels_have_means_and_deviations():
    frame = pd.DataFrame([
        {"domain": domain, "channel": channel, "mean": mean + shift, "deviation": 0.25}
        for domain, mean in (("G", 0.4), ("S", 0.6)) for channel in ("red", "green", "blue") for shift in (-0.1, 0.1)
    ])  # fmt: skip
    fig = draws(figures.channel_statistics(frame))
    left, right = fig.axes
    assert left.get_title().startswith("mean") and right.get_title().startswith("deviation")
    assert left.get_xlabel() == "value of a pixel, 0 to 1" and ticks(left, "y") == ["G", "S"]
    assert legend(right) == ["red", "green", "blue"] and right.get_legend().get_title().get_text() == "channel"
    assert [line.get_xdata().tolist() for line in left.lines if line.get_marker() in "os^Dv"][0] == pytest.approx(
        [0.4, 0.6]
    )
    assert len(left.containers) == 3 and all(bar.has_xerr for bar in left.containers)


def test_images_between_their_own_domain_and_the_others():
    frame = pd.DataFrame({"domain": list("GGSS"), "own": [1.0, 3.0, 2.0, 2.0], "others": [4.0, 6.0, 20.0, 40.0]})
    fig = draws(figures.own_and_others(frame))
    own, others = fig.axes
    assert own.get_title().endswith("to its own domain") and others.get_title().endswith("to the other domains")
    assert own.get_xscale() == "log" and own.get_xlabel() == "style distance, Eq. 10"
    images, mean = others.lines[2:]
    assert images.get_xdata().tolist() == [20, 40] and mean.get_xdata().tolist() == [30]
    assert np.abs(images.get_ydata() - 1).max() < 0.25 and mean.get_ydata().tolist() == [1]
    assert ticks(own, "y") == ["G", "S"] and "10" in ticks(own)


def test_styles_in_a_plane():
    places = pd.DataFrame({"domain": list("GGS"), "first": [1.0, 2.0, 3.0], "second": [4.0, 5.0, 6.0]})
    [axis] = draws(figures.style_plane(places, [0.61, 0.2])).axes
    assert (
        axis.get_xlabel() == "first principal component (61 % of the variance)" and axis.get_ylabel() == "second (20 %)"
    )
    assert legend(axis) == ["G", "S"] and xy(named(axis)["G"]) == [[1, 4], [2, 5]] and xy(named(axis)["S"]) == [[3, 6]]
    assert len({line.get_marker() for line in axis.lines}) == 2


def test_style_against_content_has_a_line_where_nothing_changes():
    table = pd.DataFrame({"content": [1.0, 2.0], "style": [5.0, 6.0], "both": [7.0, 8.0]}, index=["S", "I"])
    table.attrs["within"] = 0.5
    [axis] = draws(figures.style_against_content(table, "G")).axes
    assert legend(axis) == ["content", "style", "both", "nothing: within G"]
    assert named(axis)["style"].get_xdata().tolist() == [5, 6]
    assert set(named(axis)["nothing: within G"].get_xdata()) == {0.5}
    assert axis.get_xlabel() == "mean distance to the images of G, Eq. 10" and axis.get_ylabel() == "other domain"
    assert ticks(axis, "y") == ["S", "I"] and axis.get_xscale() == "log"


# ---------------------------------------------------------------------------------------------------- training


def log(steps, dg):
    step = np.arange(steps)
    return pd.DataFrame({"step": step, "lr": 0.1 - 0.01 * step, "ds": 3.0 - step, "dg": dg, "total": 1.0}).astype(float)


def test_loss_curves_of_several_runs():
    fig = draws(figures.loss_curves({"AGG": log(3, np.nan), "MLDG": log(3, 2.0)}, window=2))
    left, right = fig.axes
    assert legend(left) == ["AGG", "MLDG, $L_{ds}$", "MLDG, $L_{dg}$"]
    assert [line.get_linestyle() for line in left.lines] == ["-", "-", "--"]
    assert left.lines[0].get_ydata().tolist() == [3, 2.5, 1.5] and left.lines[2].get_ydata().tolist() == [2, 2, 2]
    assert (left.get_xlabel(), left.get_ylabel()) == ("step", "cross-entropy (mean of 2 steps)")
    assert left.get_yscale() == "log" and right.get_ylabel() == "learning rate" and len(right.lines) == 2


def test_the_curve_of_one_run_is_raw_and_averaged():
    fig = draws(figures.training_curve(log(3, np.nan), window=2, steps=10))
    left, right = fig.axes
    assert [line.get_ydata().tolist() for line in left.lines] == [[3, 2, 1], [3, 2.5, 1.5]]
    assert legend(left) == ["$L_{ds}$"] and left.get_title() == "each step, and the mean of 2"
    assert left.get_xlim() == right.get_xlim() == (0, 10) and right.lines[0].get_ydata()[2] == pytest.approx(0.08)
    assert len(figures.training_curve(log(3, 2.0)).axes[0].lines) == 4


def test_cosines_over_the_inner_learning_rate():
    [axis] = draws(figures.cosine_curve([0.01, 0.1, 1], {"new": [1, 0.9, 0.5], "trained": [1, 0.8, 0.1]}, 0.1)).axes
    assert legend(axis) == ["new", "trained", "in use"] and axis.get_xscale() == "log"
    assert xy(named(axis)["trained"]) == [[0.01, 1], [0.1, 0.8], [1, 0.1]]
    assert set(named(axis)["in use"].get_xdata()) == {0.1} and axis.get_xlabel() == "inner learning rate $\\eta$"


# -------------------------------------------------------------------------------------------------- test time


def test_shifts_by_depth():
    shifts = {"S": {"stem.1": 0.1, "layer1.bn": 0.2}, "C": {"stem.1": 0.5, "layer1.bn": 0.9}}
    [axis] = draws(figures.shift_by_depth(shifts, "where it shows")).axes
    assert axis.get_title() == "where it shows" and legend(axis) == ["S", "C"]
    assert ticks(axis) == ["stem.1", "layer1.bn"] and xy(named(axis)["C"]) == [[0, 0.5], [1, 0.9]]
    assert axis.get_ylabel().startswith("shift of the mean")


def test_curves_over_the_prior():
    grid = pd.DataFrame([
        {"domain": domain, "train_method": method, "inner_lr": inner_lr, "batch_size": m, "prior": prior,
         "miou": 40 + 10 * prior + seed}
        for domain in "IC" for method, inner_lr in (("agg", np.nan), ("mldg", 0.1))
        for m in (1, 8) for prior in (0.0, 0.5, 1.0) for seed in (0, 2)
    ])  # fmt: skip
    fig = draws(figures.prior_curves(grid, {"I": "unseen I", "C": "unseen C"}))
    left, right = fig.axes
    assert [axis.get_title() for axis in fig.axes] == ["unseen I", "unseen C"]
    assert legend(fig) == ["AGG, M = 1", "AGG, M = 8", "MLDG, M = 1", "MLDG, M = 8"]
    assert xy(named(right)["MLDG, M = 8"]) == [[0, 41], [0.5, 46], [1, 51]]
    assert [named(left)[f"AGG, M = {m}"].get_linestyle() for m in (1, 8)] == ["-", "--"]
    assert len(left.collections) == 2  # the deviations, where M = 1
    assert left.get_ylabel() == "mIoU (%)" and left.get_xlabel().startswith("prior: share of source statistics")


def test_doses_and_gains():
    index = pd.MultiIndex.from_product([["unseen", "a source"], ["dark", "haze"], [0.0, 0.5]],
                                       names=["scene", "shift", "dose"])  # fmt: skip
    fig = draws(figures.gain_over_dose(pd.DataFrame({"TN": range(8), "guarded": range(10, 18)}, index=index)))
    assert [axis.get_title() for axis in fig.axes] == [
        "dark, scene: unseen", "haze, scene: unseen", "dark, scene: a source", "haze, scene: a source",
    ]  # fmt: skip
    assert legend(fig) == ["TN", "guarded"]
    assert xy(named(fig.axes[0])["TN"]) == [[0, 0], [0.5, 1]]
    assert xy(named(fig.axes[3])["guarded"]) == [[0, 16], [0.5, 17]]
    assert fig.axes[0].get_ylabel() == "gain over source BN\n(points of mIoU)"
    assert fig.axes[3].get_xlabel() == "dose (0: as it is)"


def test_gains_under_photometric_shifts():
    frame = pd.DataFrame([
        {"trained with": method, "shift": shift, "dose": dose, "gain": gain + number}
        for number, method in enumerate(("AGG", "MLDG"))
        for shift in ("dark", "haze", "noise", "blur")
        for dose, gain in ((0.5, 1.0), (1.0, 3.0))
    ])  # fmt: skip
    fig = draws(figures.photometric(frame, "gain of TN"))
    assert [axis.get_title() for axis in fig.axes] == ["dark", "haze", "noise", "blur", "", ""]
    assert legend(fig) == ["AGG", "MLDG"] and xy(named(fig.axes[3])["MLDG"]) == [[0.5, 2], [1, 4]]
    assert fig.axes[0].get_ylabel() == "gain of TN\n(points of mIoU)" and not fig.axes[5].axison


def test_gains_over_signals():
    frame = pd.DataFrame({
        "domain": list("GGC"), "seen": [True, True, False], "gain": [1.0, -2.0, 3.0],
        "style_distance": [0.1, 0.2, 5.0], "entropy": [1.0, 2.0, 3.0],
    })  # fmt: skip
    correlations = pd.DataFrame([
        {"signal": signal, "scope": scope, "rho": 0.5, "low": -0.25, "high": 0.75}
        for signal in ("style_distance", "entropy") for scope in ("all images", "within domains")
    ])  # fmt: skip
    names = {"style_distance": "how far", "entropy": "how unsure"}
    fig = draws(figures.signals_and_gain(frame, correlations, names))
    left, right = fig.axes
    assert [axis.get_xlabel() for axis in fig.axes] == ["how far", "how unsure"] and left.get_xscale() == "log"
    assert right.get_xscale() == "linear" and legend(fig) == ["G (source)", "C (unseen)"]
    assert left.get_title() == "all images: ρ = +0.50 [-0.25, +0.75]\nwithin domains: ρ = +0.50 [-0.25, +0.75]"
    assert [points.get_offsets().tolist() for points in right.collections] == [[[1, 1], [2, -2]], [[3, 3]]]
    assert "points of mIoU" in left.get_ylabel()


def test_iou_by_class_leaves_absent_ones_out():
    first, second = ConfusionMatrix(), ConfusionMatrix()
    first.update(torch.tensor([0, 0, 13]), torch.tensor([0, 13, 13]))  # 1/2 and 1/2
    second.update(torch.tensor([0, 13]), torch.tensor([0, 13]))
    [axis] = draws(figures.per_class({"AGG": first, "MLDG": second})).axes
    assert legend(axis) == ["AGG: mIoU 50.0", "MLDG: mIoU 100.0"] and ticks(axis) == list(CLASS_NAMES)
    values = axis.lines[0].get_ydata()
    assert values[[0, 13]].tolist() == [50, 50] and np.isnan(np.delete(values, [0, 13])).all()
    assert axis.get_ylim() == (0, 100) and axis.get_ylabel() == "IoU (%)"


# -------------------------------------------------------------------------------------------------- diagrams


def test_adaptation_sees_the_target_and_generalization_does_not():
    fig = draws(figures.adaptation_and_generalization())
    adaptation, generalization = fig.axes
    assert adaptation.get_title() == "domain adaptation" and generalization.get_title() == "domain generalization"
    for axis in fig.axes:
        assert {"training time", "test time", "training", "source 3\nimages + labels"} <= set(texts(axis))
    assert texts(adaptation).count("target\nimages, no labels") == 2
    assert texts(generalization).count("target\nimages, no labels") == 1
    assert "nothing of\nthe target" in texts(generalization) and "nothing of\nthe target" not in texts(adaptation)
    assert len(adaptation.patches) == len(generalization.patches) + 2  # one box and one arrow


def test_the_framework_in_two_rows_of_five():
    fig = draws(figures.framework())
    assert [axis.get_title(loc="left") for axis in fig.axes] == [
        "training: MLDG (Eq. 3-6)", "test time: the style-based Image Bank (SIB)"
    ]  # fmt: skip
    assert [len(axis.patches) for axis in fig.axes] == [9, 9]  # five boxes and the arrows between them
    assert texts(fig.axes[0])[4].startswith("outer step on") and "Eq. 10" in texts(fig.axes[1])[2]
    edges = [to_rgb(patch.get_edgecolor()) for patch in fig.axes[0].patches[:2]]
    assert edges == [to_rgb(base.GREY), to_rgb(base.BLUE)]


def test_the_box_stands_where_two_predictions_differ_most():
    first = np.zeros((6, 9), int)
    second = first.copy()
    second[0, 0] = 1  # one pixel here,
    second[4:6, 5:8] = 1  # six there
    assert figures.pictures.most_different(first, second) == (4, 5, 2, 3)
    maps = {"image": [np.zeros((3, 6, 9), np.uint8)], "AGG": [first], "ours": [second]}
    fig = figures.predictions(maps, compared=("AGG", "ours"))
    for axis in fig.axes:
        outer, inner = axis.patches
        assert outer.get_bbox().bounds == inner.get_bbox().bounds == (4.5, 3.5, 3, 2)
    assert not figures.predictions(maps).axes[0].patches
