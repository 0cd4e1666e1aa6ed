"""The tables of ``docs/guard.md`` and ``docs/when_to_use.md``, from ``docs/guard.csv``, ``docs/guard_design.csv`` and
``docs/advice.csv``.

A setting is (data, training method, left out, tested, shift, dose, M), the mean over its networks; points of mIoU over
source BN. *Of the best*: the mean gain over the mean of what labels would choose, setting by setting.
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

DOCS = Path(__file__).parents[1] / "docs"
SETTING = ["data", "train_method", "left_out", "tested", "shift", "dose", "batch_size"]
NETWORK = [*SETTING, "train_seed"]
CHOICES = ("source BN", "TN", "prior 0.5", "prior 0.8", "prior 0.9")  # the best of which labels could choose
DESIGN_CHOICES = ("source BN", "TN", *(f"prior {p:.2f}" for p in (0.25, 0.5, 0.65, 0.8, 0.9)))
TEST = "camvid_kitti"  # the data of the test
SEEDS = 201  # its first: earlier ones are the design's
BEST = "best"  # the choice with labels
LEAST = 0.5  # points that must be there to gain for a share of them to say anything
ROWS = {  # of the tables: test -> what it is called there
    "TN": "TN",
    "prior 0.5": "fixed prior 0.5",
    "prior 0.8": "fixed prior 0.8",
    "prior 0.9": "fixed prior 0.9",
    "prior 0.8, cross term": "fixed prior 0.8, cross term",
    "moving (DUA)": "moving statistics (DUA)",
    "instance-aware (IABN)": "instance-aware (IABN)",
    "adaptive mix (AdaMixBN)": "adaptive mix (AdaMixBN)",
    "entropy-weighted (InTEnt)": "entropy-weighted (InTEnt)",
    "SIB": "SIB, cached",
    "guarded": "**guarded**",
    BEST: "best of source BN, TN and fixed priors, with labels",
}
DESIGN_ROWS = {
    "TN": "TN",
    "prior 0.80": "fixed prior 0.8",
    "prior 0.90": "fixed prior 0.9",
    "guarded": "**guarded**",
    "guarded without home": "guarded, home = 0",
    BEST: "best of source BN, TN and five fixed priors, with labels",
}


def read(name: str) -> pd.DataFrame:
    """A recorded table; what is empty stays an empty word."""
    return pd.read_csv(DOCS / name, keep_default_na=False)


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """Points over source BN: a row a network in a setting, a column a test."""
    whole = table.pivot(index=NETWORK, columns="test", values="miou")
    return whole.sub(whole["source BN"], axis=0)


def where(part: pd.DataFrame, choices: tuple[str, ...]) -> Callable[[str, bool], str]:
    """What a cell says of some networks' gains: of a test, with or without its mean, or nothing where it was not run.

    Returns:
        (test, short) -> ``mean, share of the best, worst (worst network, if settings have several)``; if short the
        worst alone. Where labels would gain less than half a point no share is told. ``BEST`` is what labels choose.
    """
    settings = part.groupby(SETTING).mean()
    best = settings[[c for c in choices if c in settings]].max(axis=1).mean() if len(settings) else 0.0

    def cell(test: str, short: bool) -> str:
        if test == BEST and len(settings) and not short:
            return f"{best:+.2f}"
        if test not in part or not part[test].notna().all() or not len(part):
            return ""
        worst = f"{settings[test].min():+.2f}"
        if len(part) > len(settings):
            worst += f" ({part[test].min():+.2f})"
        share = f", {100 * settings[test].mean() / best:.0f} %" if best >= LEAST else ""
        return worst if short else f"{settings[test].mean():+.2f}{share}, {worst}"

    return cell


def worst_cases(
    table: pd.DataFrame,
    columns: dict[str, tuple[Callable[[pd.DataFrame], pd.Series], bool]],
    rows: dict[str, str],
    choices: tuple[str, ...] = CHOICES,
) -> list[dict[str, object]]:
    """A table of worst cases: a row a test and M, a column a group of settings.

    Args:
        table: rows of a recorded table.
        columns: title -> which rows of the index belong to it, and whether the worst alone is told.
        rows: test -> its title.
        choices: what labels could choose from.
    """
    found = gains(table)
    index = found.index.to_frame(index=False)
    lines: list[dict[str, object]] = []
    for m in sorted(index["batch_size"].unique()):
        parts = {title: found[(belongs(index) & (index["batch_size"] == m)).to_numpy()]
                 for title, (belongs, _) in columns.items() if belongs(index).any()}  # fmt: skip
        cells = {title: where(part, choices) for title, part in parts.items()}
        for test, name in rows.items():
            line = {f"{title}, {parts[title].groupby(SETTING).ngroups}": cells[title](test, short)
                    for title, (_, short) in columns.items() if title in parts}  # fmt: skip
            if any(line.values()):
                lines.append({"": f"M = {m}: {name}", **line})
    return lines


def _of(letters: str, *, unseen: bool, shifted: bool = False) -> Callable[[pd.DataFrame], pd.Series]:
    """Which rows of the index test these domains, left out or as sources, with or without a photometric shift."""
    return lambda index: (
        index["tested"].isin(list(letters))
        & ((index["tested"] == index["left_out"]) == unseen)
        & ((index["shift"] != "") == shifted)
    )


def test_table() -> list[dict[str, object]]:
    """The test's settings, images as they are."""
    table = read("guard.csv").query("data == @TEST")
    columns = {
        "KITTI unseen": (_of("K", unseen=True), False),
        "KITTI a source": (_of("K", unseen=False), True),
        "CamVid's recordings unseen": (_of("TREV", unseen=True), False),
        "CamVid's recordings as sources": (_of("TREV", unseen=False), True),
    }
    return worst_cases(table, columns, ROWS)


def streets_table() -> list[dict[str, object]]:
    """The streets, with the test's seeds: each of the five domains left out in turn."""
    table = read("guard.csv").query("data == 'streets' and train_seed >= @SEEDS")
    columns = {
        "streets unseen": (_of("GSIMC", unseen=True), False),
        "streets as sources": (_of("GSIMC", unseen=False), True),
    }
    return worst_cases(table, columns, ROWS)


def photometric_table() -> list[dict[str, object]]:
    """The photometric series: three shifts, three doses."""
    table = read("guard.csv").query("data == @TEST")
    columns = {
        "KITTI unseen, shifted": (_of("K", unseen=True, shifted=True), False),
        "KITTI a source, shifted": (_of("K", unseen=False, shifted=True), False),
        "V unseen, shifted": (_of("V", unseen=True, shifted=True), False),
        "V a source, shifted": (_of("V", unseen=False, shifted=True), False),
    }
    return worst_cases(table, columns, ROWS)


def design_table() -> list[dict[str, object]]:
    """The settings that the constants were chosen on."""
    table = read("guard_design.csv")

    def of(data: str, unseen: bool) -> Callable[[pd.DataFrame], pd.Series]:
        return lambda index: (index["data"] == data) & ((index["tested"] == index["left_out"]) == unseen)

    columns = {
        f"{title} {place}": (of(data, place == "unseen"), place != "unseen")
        for data, title in (("streets", "streets"), ("camvid", "CamVid"))
        for place in ("unseen", "sources")
    }
    return worst_cases(table, columns, DESIGN_ROWS, DESIGN_CHOICES)


def dose_table() -> list[dict[str, object]]:
    """Mean gain by place, shift and dose, M = 4: what the figure of doses shows."""
    return [
        {"scene": scene, "shift": shift, "dose": f"{dose:g}", **{name: f"{value:+.1f}" for name, value in row.items()}}
        for (scene, shift, dose), row in doses().iterrows()
    ]


def doses(m: int = 4) -> pd.DataFrame:
    """Mean gain over the test's networks on KITTI's and V's images, by whether the scene is a source's, shift and dose.

    Dose 0, images as they are, begins the curve of every shift. A column a test.
    """
    table = read("guard.csv").query("data == @TEST and tested in ['K', 'V'] and batch_size == @m")
    tested = table.loc[table["shift"] != "", ["train_method", "left_out", "tested", "train_seed"]].drop_duplicates()
    found = gains(table.merge(tested))[["TN", "prior 0.8", "guarded"]].reset_index()
    found["scene"] = (found["tested"] == found["left_out"]).map({True: "unseen", False: "a source"})
    plain = found["shift"] == ""
    found = pd.concat([found[~plain], *(found[plain].assign(shift=s, dose=0) for s in found["shift"].unique() if s)])
    found["dose"] = found["dose"].astype(float)
    means = found.groupby(["scene", "shift", "dose"])[["TN", "prior 0.8", "guarded"]].mean()
    return means.sort_index(level="scene", ascending=False, sort_remaining=False).rename(
        columns=ROWS | {"guarded": "guarded"}
    )


def shift_means() -> pd.DataFrame:
    """mIoU on KITTI (unseen) and on V (a source) by shift, dose and test, M = 4: what the report's sliders move over.

    Means over the three ways to train; the deviation is that of these means over the trainings.
    """
    tests = ["source BN", "prior 0.8", "TN", "guarded"]
    table = read("guard.csv").query(
        "data == @TEST and left_out == 'K' and tested in ['K', 'V'] and batch_size == 4 and test in @tests"
    )
    table["images"] = table["tested"].map({"K": "KITTI, unseen", "V": "CamVid's V, a source"})
    plain = table["shift"] == ""
    shifts = [shift for shift in table["shift"].unique() if shift]
    table = pd.concat([*(table[plain].assign(shift=shift, dose="0") for shift in shifts), table[~plain]])
    by_training = (
        table.astype({"dose": float}).groupby(["shift", "images", "test", "dose", "train_seed"])["miou"].mean()
    )
    found = by_training.groupby(level=[0, 1, 2, 3]).agg(["mean", "std"]).round(2)
    found = found.rename(columns={"mean": "miou", "std": "deviation"}).reset_index()
    found["test"] = pd.Categorical(found["test"], tests)  # in this order
    keys = ["shift", "images", "test", "dose"]
    return found.sort_values(keys, ascending=[True, False, True, True], ignore_index=True).astype({"test": str})


def causes_table() -> list[dict[str, object]]:
    """KITTI and the sources as they are, cut and coloured: means over networks."""
    table = read("guard_causes.csv")
    table["images"] = table["tested"].eq("K").map({True: "KITTI, unseen", False: "CamVid's recordings, sources"})
    found = table.groupby(["images", "change"])[["distance", "source BN", "TN"]].mean()
    order = {"none": "as they are", "cut": "cut", "coloured": "coloured", "cut, coloured": "cut and coloured"}
    return [
        {
            "images": images,
            "changed": words,
            "D": f"{found.loc[(images, change), 'distance']:.1f}",
            "source BN": f"{found.loc[(images, change), 'source BN']:.1f}",
            "TN, M = 4": f"{found.loc[(images, change), 'TN']:.1f}",
        }
        for images in reversed(found.index.levels[0])
        for change, words in order.items()
        if (images, change) in found.index
    ]


def tables() -> dict[str, Callable[[], list[dict[str, object]]]]:
    """What can stand between the marks, by name."""
    return {
        "guard_test": test_table,
        "guard_streets": streets_table,
        "guard_photometric": photometric_table,
        "guard_design": design_table,
        "guard_doses": dose_table,
        "guard_causes": causes_table,
    }
