"""What the page for a projector shows: all explorers, below one another."""

from typing import Any

import ipywidgets

from dglab.experiments.runner import Lab, open_lab
from dglab.experiments.trials import mixed_task
from dglab.teaching import explorers
from dglab.utils.errors import InputError


def demonstration(preset: str = "quick", data: str = "streets", results: str | None = None) -> ipywidgets.Widget:
    """The explorers below one another, on the networks that ship with the package.

    Args:
        preset, data, results: as of :func:`~dglab.experiments.runner.open_lab`.

    Raises:
        InputError: for data without a mixed task.
    """
    lab = open_lab(preset, data, results=results)
    models, references = networks(lab)
    task = mixed_task(lab)
    stream = lab.target_set(task.targets)
    size = (lab.preset.streets.height, lab.preset.streets.width)
    parts = {
        "Batch size": ("TN normalizes an image together with others. How many does it need?",
                       explorers.explore_batch_size(models, stream)),
        "Image bank": ("Images of two domains arrive one at a time. Which ones should help the next?",
                       explorers.explore_arrivals(models, stream, lab.preset.queue_sizes, lab.preset.style_layers,
                                                  references=references)),
        "Style mixer": ("The same scene in any blend of two styles: labels stay, statistics move.",
                        explorers.explore_styles(models, size, references)),
        "Dose": ("The gap on a slider. When do the target's own statistics win?",
                 explorers.explore_dose(models, lab.domains, references)),
        "MLDG": ("Two parameters: a step on meta-train, the gradient of meta-test there, the step that counts.",
                 explorers.explore_mldg()),
        "GMP": ("Two tasks pull at one encoder: drag their gradients apart. Which one gives way?",
                explorers.explore_projection()),
        "Your picture": ("A photograph of yours: what do these small networks, trained on drawn streets, make of it?",
                         explorers.explore_picture(models, references)),
    }  # fmt: skip
    if data != "streets":
        del parts["Style mixer"]  # only drawn scenes can be painted anew
    for _, explorer in parts.values():
        explorer.update()  # now: a page asks a kernel for all widgets as it loads, and cannot wait for one that draws
    top = ipywidgets.HTML(_navigation(list(parts)))
    sections = [
        ipywidgets.VBox([ipywidgets.HTML(_title(number, name, lead)), explorer])
        for number, (name, (lead, explorer)) in enumerate(parts.items())
    ]
    return ipywidgets.VBox([top, *sections])


def networks(lab: Lab) -> tuple[dict[str, Any], dict[str, Any]]:
    """AGG and MLDG of the mixed task, and their references.

    Raises:
        InputError: for data without a mixed task.
    """
    task = mixed_task(lab)
    if task is None:
        raise InputError("the demonstration needs two target domains and two or more sources; these data have fewer")
    seed = lab.preset.train_seeds[0]
    trainings = {name.upper(): lab.training(task.sources, seed, method=name) for name in ("agg", "mldg")}
    models = {name: lab.trained(training) for name, training in trainings.items()}
    return models, {name: lab.reference(training) for name, training in trainings.items()}


def _navigation(names: list[str]) -> str:
    links = " · ".join(f'<a href="#dglab-{number}">{name}</a>' for number, name in enumerate(names))
    return (
        "<h1>Domain generalization, to be touched</h1>"
        '<p class="dglab-lead">Networks trained on drawn streets meet domains that they never saw. Every picture is '
        f"computed as you move. Tab goes to a control, arrow keys move it.</p><nav>{links}</nav>"
    )


def _title(number: int, name: str, lead: str) -> str:
    return f'<h2 class="dglab-title" id="dglab-{number}">{name}</h2><p class="dglab-lead">{lead}</p>'
