"""Put what lessons need to open without training into the package: ``python -m tools.ship_results [DATA]``.

Without DATA: five trained networks of the quick preset with their references, the figures of its studies (mIoU and what
stands beside it) as ``dglab reproduce --preset quick`` has left them in ``results/quick``, those of the studies that it
shows as recorded and of the two orders of MLDG, and the picture of the README. With the prepared root of CamVid as
DATA: the figures that lesson 06 tells of.
"""

import shutil
import sys
from pathlib import Path

import pandas as pd

from dglab.experiments.methods import AGG, BY_DOMAIN, MLDG
from dglab.experiments.record import write_networks
from dglab.experiments.recorded import SHIPPED, write_studies
from dglab.experiments.runner import Lab, open_lab, run
from dglab.experiments.table import read_table
from dglab.experiments.trials import EXTRA_STUDIES, STUDIES, main_tasks, mixed_task, studies_of
from dglab.teaching.execution import find_lessons
from dglab.testtime.of_sources import REFERENCE
from dglab.training.config import TrainingConfig
from dglab.training.log import LOG
from dglab.training.state import CHECKPOINT
from dglab.utils.files import written_whole

METRICS = ("miou", "category_miou", "iou", "selection_accuracy", "agreement", "absent_classes")


def shipped_trainings(lab: Lab) -> list[TrainingConfig]:
    """AGG, by domain and MLDG on the main task, AGG and MLDG on the mixed one, each of the first seed."""
    seed = lab.preset.train_seeds[0]
    main, mixed = main_tasks(lab)[0], mixed_task(lab)
    pairs = ((main, AGG), (main, BY_DOMAIN), (main, MLDG), (mixed, AGG), (mixed, MLDG))
    return [lab.training(task.sources, seed, **method.settings) for task, method in pairs]


def main(data: str = "streets") -> None:
    """Copy networks and figures; what the run has not left is computed now."""
    lab = open_lab("quick", data, use_shipped=False)
    others = {name: study for name, study in STUDIES.items() if name not in studies_of(lab)}
    name = "order" if data == "streets" else "imagenet"
    more = run(lab, [trial for study in (*others.values(), EXTRA_STUDIES[name]) for trial in study(lab)])
    frame = pd.concat([read_table(lab.out / "tables.csv"), more], ignore_index=True)
    folder = SHIPPED / lab.preset.name
    write_studies(frame[frame["metric"].isin(METRICS)], folder / lab.data_name)
    if data == "streets":
        _copy_networks(lab, folder)
        names = {trial.training.address for study in (*STUDIES.values(), EXTRA_STUDIES[name]) for trial in study(lab)}
        write_networks(lab.out / "scores", folder / "networks.csv", names)
    for path in sorted(folder.iterdir()):
        print(f"{path.name}: {path.stat().st_size / 2**20:.2f} MiB")


def _copy_networks(lab: Lab, folder: Path) -> None:
    for old in (*folder.glob("*.safetensors"), *folder.glob("*.jsonl")):  # of other settings
        old.unlink()
    for training in shipped_trainings(lab):
        for name, ending in ((CHECKPOINT, "safetensors"), (LOG, "jsonl")):
            with written_whole(folder / f"{training.address}.{ending}") as beside:
                shutil.copyfile(lab.out / "runs" / training.address / name, beside)
        lab.reference(training).save(folder / f"{training.address}.{REFERENCE}")
    with written_whole(find_lessons()[0].parents[1] / "docs" / "overview.png") as beside:
        shutil.copyfile(lab.out / "figures" / "figure4_predictions.png", beside)


if __name__ == "__main__":
    main(*sys.argv[1:])
