"""What the README shows works as pasted."""

import re
from pathlib import Path

import torch
from torchvision.models.segmentation import fcn_resnet50

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_example_for_a_network_of_ones_own_runs_as_pasted():
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    model = fcn_resnet50(weights=None, weights_backbone=None, num_classes=19)
    images = torch.rand(8, 1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    names = {"model": model, "source_images": images[:4, 0], "stream": images[4:]}
    exec(example, names)
    assert names["output"]["out"].shape == (1, 19, 64, 96)
    assert len(names["guard"].distances) == 54 and 0 <= names["guard"].share < 1


def test_the_lessons_and_files_it_names_are_there():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    missing = [link for link in links if "://" not in link and not (Path(__file__).parents[2] / link).exists()]
    assert links and not missing
