"""Put what lessons need to open without training into the package: ``python -m dglab.experiments.ship``.

Three trained networks of the quick preset, and the figures of its studies (mIoU and what stands beside it), all as
``dglab reproduce --preset quick`` has left them in ``results/quick``; and the picture of the README. The figures of
lesson 06 come from ``results/quick-camvid``, where ``dglab reproduce --preset quick --data <root>/camvid`` leaves them.
"""

import shutil

from dglab.experiments.lab import SHIPPED, Lab, open_lab
from dglab.experiments.reproduce import find_lessons
from dglab.experiments.studies import VARIANTS, main_tasks, mixed_task, read_tidy
from dglab.training.checkpoints import written_whole
from dglab.training.config import TrainingConfig
from dglab.training.trainer import CHECKPOINT

METRICS = ("miou", "selection_accuracy", "agreement", "absent_classes")
REAL = "camvid"  # the name of the prepared root that lesson 06 tells of


def shipped_trainings(lab: Lab) -> list[TrainingConfig]:
    """The networks that the lessons show: AGG and MLDG on the main task, MLDG on the mixed one, first seed each."""
    seed = lab.preset.train_seeds[0]
    main, mixed = main_tasks(lab)[0], mixed_task(lab)
    return [lab.training(task.sources, seed, **VARIANTS[name])
            for task, name in ((main, "AGG"), (main, "MLDG"), (mixed, "MLDG"))]  # fmt: skip


def main() -> None:
    """Copy networks and figures."""
    lab = open_lab("quick", use_shipped=False)
    folder = SHIPPED / lab.preset.name
    for old in folder.glob("*.safetensors"):  # of other settings
        old.unlink()
    for training in shipped_trainings(lab):
        with written_whole(folder / f"{training.address}.safetensors") as beside:
            shutil.copyfile(lab.out / "runs" / training.address / CHECKPOINT, beside)
    for data, out in (("streets", lab.out), (REAL, lab.out.with_name(f"{lab.out.name}-{REAL}"))):
        if (out / "tables.csv").exists():
            frame = read_tidy(out / "tables.csv")
            with written_whole(folder / f"{data}.csv") as beside:
                frame[frame["metric"].isin(METRICS)].to_csv(beside, index=False, float_format="%.4f")
    overview = find_lessons()[0].parents[1] / "docs" / "overview.png"
    with written_whole(overview) as beside:
        shutil.copyfile(lab.out / "figures" / "figure4_predictions.png", beside)
    for path in (*sorted(folder.iterdir()), overview):
        print(f"{path.name}: {path.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
