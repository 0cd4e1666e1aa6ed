"""Put what lessons need to open without training into the package: ``python -m tools.ship_results [DATA]``.

Without DATA: three trained networks of the quick preset, the figures of its studies (mIoU and what stands beside it) as
``dglab reproduce --preset quick`` has left them in ``results/quick``, those of the two orders of MLDG, and the picture
of the README. With the prepared root of CamVid as DATA: the figures that lesson 06 tells of.
"""

import shutil
import sys
from pathlib import Path

import pandas as pd

from dglab.experiments.lab import SHIPPED, Lab, open_lab
from dglab.experiments.reproduce import find_lessons
from dglab.experiments.studies import VARIANTS, main_tasks, mixed_task, read_tidy, run_study
from dglab.training.config import TrainingConfig
from dglab.training.state import CHECKPOINT
from dglab.utils.files import written_whole

METRICS = ("miou", "selection_accuracy", "agreement", "absent_classes")


def shipped_trainings(lab: Lab) -> list[TrainingConfig]:
    """The networks that the lessons show: AGG and MLDG on the main task, MLDG on the mixed one, first seed each."""
    seed = lab.preset.train_seeds[0]
    main, mixed = main_tasks(lab)[0], mixed_task(lab)
    return [lab.training(task.sources, seed, **VARIANTS[name])
            for task, name in ((main, "AGG"), (main, "MLDG"), (mixed, "MLDG"))]  # fmt: skip


def main(data: str = "streets") -> None:
    """Copy networks and figures; what an extra study needs is computed now."""
    lab = open_lab("quick", data, use_shipped=False)
    extra = "order" if data == "streets" else "imagenet"
    frame = pd.concat([read_tidy(lab.out / "tables.csv"), run_study(lab, extra)], ignore_index=True)
    folder = SHIPPED / lab.preset.name
    with written_whole(folder / f"{lab.data_name}.csv") as beside:
        frame[frame["metric"].isin(METRICS)].to_csv(beside, index=False, float_format="%.4f")
    if data == "streets":
        _copy_networks(lab, folder)
    for path in sorted(folder.iterdir()):
        print(f"{path.name}: {path.stat().st_size / 2**20:.2f} MiB")


def _copy_networks(lab: Lab, folder: Path) -> None:
    for old in folder.glob("*.safetensors"):  # of other settings
        old.unlink()
    for training in shipped_trainings(lab):
        with written_whole(folder / f"{training.address}.safetensors") as beside:
            shutil.copyfile(lab.out / "runs" / training.address / CHECKPOINT, beside)
    with written_whole(find_lessons()[0].parents[1] / "docs" / "overview.png") as beside:
        shutil.copyfile(lab.out / "figures" / "figure4_predictions.png", beside)


if __name__ == "__main__":
    main(*sys.argv[1:])
