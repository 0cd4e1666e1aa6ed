"""When target statistics help: signals, rank correlations and the grid over the share of source statistics."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from dglab.analysis.signals import SIGNALS, image_signals, prior_grid, rank_correlations
from dglab.evaluation import ConfusionMatrix, evaluate
from dglab.experiments.methods import AGG, MLDG
from dglab.experiments.trials import mixed_task
from dglab.report import figures
from dglab.testtime import SourceNormalization, TargetNormalization
from dglab.utils.machine import keep_freed_memory


def invented(gains, signal, domains):
    return pd.DataFrame({"domain": domains, "gain": gains, "entropy": signal})


def test_over_all_images_it_is_spearmans_correlation():
    generator = np.random.default_rng(3)
    x = generator.integers(0, 8, 40).astype(float)  # with ties
    frame = invented(x + generator.normal(0, 3, 40), x, ["A"] * 40)
    found = rank_correlations(frame, ["entropy"], draws=200).set_index("scope")
    expected = spearmanr(frame["entropy"], frame["gain"]).statistic
    assert found["rho"].tolist() == pytest.approx([expected] * 2)  # with one domain both scopes are the same
    assert (found["low"] < expected).all() and (expected < found["high"]).all()


def test_within_domains_a_signal_that_only_tells_domains_apart_says_nothing():
    signal = [1.0, 2, 3, 4, 101, 102, 103, 104]
    gains = [1.0, 3, 4, 2, 11, 13, 14, 12]  # B gains more; within each, by hand: sum of d^2 = 6, rho = 1 - 36 / 60
    found = rank_correlations(invented(gains, signal, list("AAAABBBB")), ["entropy"], draws=50).set_index("scope")
    assert found.loc["within domains", "rho"] == pytest.approx(0.4)
    assert found.loc["all images", "rho"] > 0.8
    opposite = rank_correlations(invented([-g for g in gains], signal, list("AAAABBBB")), ["entropy"], draws=50)
    assert opposite["rho"].tolist() == pytest.approx((-found["rho"]).tolist())


def test_a_constant_signal_has_no_correlation():
    found = rank_correlations(invented([1.0, 2, 3], [5.0, 5, 5], list("AAA")), ["entropy"], draws=0)
    assert found["rho"].isna().all()


def test_an_image_without_labels_is_left_out():
    signal, gains = [1.0, 2, 3, 4, 9], [1.0, 3, 4, 2, np.nan]
    found = rank_correlations(invented(gains, signal, list("AAAAA")), ["entropy"], draws=0)
    assert found["rho"].tolist() == pytest.approx([0.4, 0.4])


def test_signals_of_an_image_by_hand(lab):
    task = mixed_task(lab)
    training = lab.training(task.sources, 0, **AGG.settings)
    frame = image_signals(lab.trained(training), lab.domains, task.sources)
    assert len(frame) == sum(len(domain.val) for domain in lab.domains.values())
    assert set(frame.loc[frame["seen"], "domain"]) == set(task.sources)
    assert frame["entropy"].between(0, math.log(19)).all() and frame["agreement"].between(0, 100).all()
    assert (frame["style_distance"] > 0).all()
    model = lab.trained(training)
    image, label = lab.domains[task.targets[0]].val[1]
    row = frame[frame["domain"] == task.targets[0]].iloc[1]
    logits = [p(image[None] / 255) for p in (SourceNormalization(model), TargetNormalization(model))]
    miou = []
    for out in logits:
        matrix = ConfusionMatrix()
        matrix.update(out.argmax(1), label[None])
        miou.append(matrix.miou())
    assert row["gain"] == pytest.approx(100 * (miou[1] - miou[0]))
    p = logits[0].softmax(1)
    assert row["entropy"] == pytest.approx(-(p * p.log()).sum(1).mean().item(), rel=1e-4)
    assert row["agreement"] == pytest.approx(100 * (logits[0].argmax(1) == logits[1].argmax(1)).float().mean().item())


def test_the_nearest_style_of_a_training_image_is_its_own(lab):
    """A source image that is among the references has one distance of zero among the four."""
    from dglab.analysis.signals import style_index
    from dglab.testtime import Style, styles_of

    training = lab.training(mixed_task(lab).sources, 0, **AGG.settings)
    model = lab.trained(training)
    images = torch.stack([lab.domains["G"].train[i][0] for i in range(4)]) / 255
    index = style_index(model, "layer1", [images[:2], images[2:]])
    style = styles_of(model, images[2:], "layer1")
    slots, distances = index.nearest(Style(style.mean[:1], style.deviation[:1]), torch.arange(4), 4)[0]
    assert slots[0] == 2 and distances[0] == pytest.approx(0, abs=1e-9) and distances == sorted(distances)


def test_a_curve_over_the_shares_rests_on_the_same_networks(frames):
    """Another training has been tested under source BN alone so far."""
    frame = frames["prior"]
    begun = frame[frame["test_method"] == "bn"].assign(train_seed=7, value=99.0).astype(frame.dtypes)
    assert prior_grid(pd.concat([frame, begun])).equals(prior_grid(frame))


def test_the_grid_ends_at_tn_and_at_source_bn(lab, frames):
    grid = prior_grid(frames["prior"])
    task = mixed_task(lab)
    assert set(grid["domain"]) == set(task.targets) and set(grid["train_method"]) == {"agg", "mldg"}
    assert sorted(grid["prior"].unique()) == [0, 0.25, 0.5, 0.75, 1] and set(grid["batch_size"]) == {1, 4}
    model = lab.trained(lab.training(task.sources, 0, **MLDG.settings))
    rows = grid[(grid["domain"] == "C") & (grid["train_method"] == "mldg") & (grid["batch_size"] == 1)]
    for prior, predictor in ((0.0, TargetNormalization(model)), (1.0, SourceNormalization(model))):
        expected = 100 * evaluate(predictor, lab.target_set(("C",))).miou()
        assert rows.loc[rows["prior"] == prior, "miou"].item() == pytest.approx(expected, abs=1e-6)
    figures.prior_curves(grid, {"C": "C", "M": "M"})
    frame = image_signals(model, lab.domains, task.sources)
    figures.signals_and_gain(frame, rank_correlations(frame, draws=20), SIGNALS)


def test_kept_memory_changes_no_result():
    before = torch.ones(5) * 2
    keep_freed_memory()
    assert torch.equal(before, torch.ones(5) * 2)
