"""Every figure of the lessons and the report, by subject: functions of plain data that return a matplotlib Figure."""

from dglab.report.figures.base import as_jpeg, as_picture, class_legend, domain_look, figure, plain_log, show, style
from dglab.report.figures.diagrams import adaptation_and_generalization, framework
from dglab.report.figures.domains import (
    channel_statistics,
    class_frequencies,
    distance_matrix,
    own_and_others,
    setting_ranges,
    style_against_content,
    style_plane,
    value_strips,
)
from dglab.report.figures.doses import dose_response, photometric
from dglab.report.figures.gmp import gmp_ablation, gmp_branches, gmp_strategies, gradient_conflicts, modality_race
from dglab.report.figures.pictures import depth, gallery, picture_grid, predictions, small_label_maps
from dglab.report.figures.tables import (
    ablation,
    batch_size,
    domains_per_pass,
    gain_by_domain,
    gain_explained,
    normalizations,
    selection_policy,
    source_and_target,
    sweep,
)
from dglab.report.figures.testtime import gain_over_dose, per_class, prior_curves, shift_by_depth, signals_and_gain
from dglab.report.figures.training import cosine_curve, loss_curves, training_curve

__all__ = [
    "ablation",
    "adaptation_and_generalization",
    "as_jpeg",
    "as_picture",
    "batch_size",
    "channel_statistics",
    "class_frequencies",
    "class_legend",
    "cosine_curve",
    "depth",
    "distance_matrix",
    "domain_look",
    "domains_per_pass",
    "dose_response",
    "figure",
    "framework",
    "gain_by_domain",
    "gain_explained",
    "gain_over_dose",
    "gallery",
    "gmp_ablation",
    "gmp_branches",
    "gmp_strategies",
    "gradient_conflicts",
    "loss_curves",
    "modality_race",
    "normalizations",
    "own_and_others",
    "per_class",
    "photometric",
    "picture_grid",
    "plain_log",
    "predictions",
    "prior_curves",
    "selection_policy",
    "setting_ranges",
    "shift_by_depth",
    "show",
    "signals_and_gain",
    "small_label_maps",
    "source_and_target",
    "style",
    "style_against_content",
    "style_plane",
    "sweep",
    "training_curve",
    "value_strips",
]
