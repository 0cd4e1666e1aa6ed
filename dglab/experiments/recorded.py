"""Results that ship with the package: tidy tables in a compact form, one row per trial and one file per study."""

from pathlib import Path

import pandas as pd

from dglab.classes import CLASS_NAMES
from dglab.data.streets.size import StreetsSize
from dglab.experiments.table import COLUMNS, LABELS, OF_GMP, TYPES, with_empty_columns
from dglab.utils.errors import InputError
from dglab.utils.files import read_json, written_whole

SHIPPED = Path(__file__).parents[1] / "shipped"  # PRESET/DATA/STUDY.csv
AGAIN = SHIPPED / "full" / "again_sse41.csv"  # twenty networks on other instructions: tools/record_stability.py
INFERENCE_TIME = SHIPPED / "testtime.json"  # dglab bench testtime --model resnet50 --size 256x512 --json
ON_GPU = SHIPPED / "standard" / "inference.csv"  # the same on a GPU, by python -m tools.gpu inference
REAL = "camvid_kitti"  # the record of the preset real: CamVid's four recordings and KITTI
WHOLE_METRICS = (  # classes and intervals over images, too
    "miou", "miou_low", "miou_high", "category_miou", "iou", "absent_classes", "selection_accuracy", "agreement"
)  # fmt: skip
OF_TRIAL = [*LABELS, "method"]
_CLASS = "iou "  # and the name of the class: a column
_VALUES = ("miou", "category_miou", "absent_classes", "miou_low", "miou_high", "selection_accuracy", "agreement",
           *(_CLASS + name for name in CLASS_NAMES))  # fmt: skip


def write_recorded(frame: pd.DataFrame, path: Path) -> None:
    """Write a tidy table with one row per trial and one column per value, which takes a tenth of its size.

    Args:
        frame: a tidy table.
        path: of the file. Values have four decimals at most, the IoU of single classes two; GMP's columns are left out
            if they are empty.
    """
    named = frame["metric"].where(frame["class"].isna(), _CLASS + frame["class"])
    trial = frame.groupby(OF_TRIAL, dropna=False, sort=False).ngroup()
    values = pd.DataFrame({"trial": trial, "name": named, "value": frame["value"]})
    wide = values.pivot(index="trial", columns="name", values="value")
    wide = wide[[name for name in _VALUES if name in wide]]
    shown = wide.apply(lambda v: v.round(2 if v.name.startswith(_CLASS) else 4).map("{:.15g}".format).where(v.notna()))
    empty = [column for column in OF_GMP if frame[column].isna().all()]
    labels = frame[OF_TRIAL].drop(columns=empty).groupby(trial, sort=True).head(1).set_axis(sorted(trial.unique()))
    with written_whole(path) as beside:
        labels.join(shown).to_csv(beside, index=False)


def read_recorded(path: Path) -> pd.DataFrame:
    """Read what :func:`write_recorded` has written, as a tidy table.

    Raises:
        InputError: for a missing file, or one of another version.
    """
    return _tidy(_read_trials(path))


def _read_trials(path: Path) -> pd.DataFrame:
    """A record as it is stored, one row per trial; a setting that a later version has added is empty."""
    if not path.is_file():
        raise InputError(f"there is no record {path}")
    wide = pd.read_csv(path, dtype={name: kind for name, kind in TYPES.items() if name in OF_TRIAL})
    wide = with_empty_columns(wide, [*OF_TRIAL, *(c for c in wide if c not in OF_TRIAL)])
    foreign = {name for name in wide.columns if name not in (*OF_TRIAL, *_VALUES)}
    if foreign or not {"study", "task", "miou"} <= set(wide.columns):
        raise InputError(f"{path} is not a record of this version; reinstall dglab")
    return wide.reindex(columns=[*OF_TRIAL, *_VALUES])


def _tidy(wide: pd.DataFrame) -> pd.DataFrame:
    """One row per value, from one row per trial."""
    frame = wide.melt(OF_TRIAL, var_name="name", ignore_index=False).dropna(subset="value")
    frame = frame.sort_index(kind="stable").reset_index(drop=True)  # by trial, its values in the order of the columns
    of_class = frame["name"].str.startswith(_CLASS)
    frame["metric"] = frame["name"].where(~of_class, "iou")
    frame["class"] = frame["name"].str.removeprefix(_CLASS).where(of_class)
    return frame[list(COLUMNS)].astype(TYPES)


def write_studies(frame: pd.DataFrame, folder: Path) -> None:
    """Write a tidy table, one file per study; files of other studies stay.

    Args:
        frame: a tidy table.
        folder: of the record, ``SHIPPED / preset / data``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for study, rows in frame.groupby("study", sort=False):
        write_recorded(rows, folder / f"{study}.csv")


def recorded_table(preset: str, data: str = "streets") -> pd.DataFrame | None:
    """The table that ships with the package for a preset and data; None if there is none."""
    tables = [_read_trials(path) for path in sorted((SHIPPED / preset / data).glob("*.csv"))]
    return _tidy(pd.concat(tables, ignore_index=True)) if tables else None


def record_of(preset: str, identity: str | StreetsSize) -> str | None:
    """The name of the record of a preset on these data, for :func:`recorded_table`; None if there is none.

    Results on other data are other results: the record of a prepared root, in the folder ``NAME``, has beside it
    ``NAME.json`` with the fingerprint of the images that it was made on.

    Args:
        preset: its name.
        identity: of the data, see :func:`dglab.data.identity`.
    """
    if isinstance(identity, StreetsSize):
        return "streets"
    described = sorted((SHIPPED / preset).glob("*.json"))
    return next((path.stem for path in described if read_json(path)["identity"] == identity), None)
