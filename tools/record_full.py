"""Put what the preset full has computed so far into the package: ``python -m tools.record_full [RESULTS]``.

Rows of the trials that are done, merged with those recorded before, and for each network where and how long; the
networks of GMP in a file of their own. A run that is stopped may be recorded; ``dglab reproduce --preset full
--reuse-recorded`` resumes from there, on any machine.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from dglab.experiments.record import write_networks
from dglab.experiments.recorded import SHIPPED, WHOLE_METRICS, write_studies
from dglab.experiments.runner import Lab, open_lab, recorded
from dglab.experiments.table import tidy
from dglab.experiments.trials import Study, studies_of
from dglab.report.gmp_tables import STUDIES as GMP_STUDIES


def main(results: str | None = None) -> None:
    """Record what lies in a results folder; None takes ``results/full``."""
    lab = open_lab("full", results=results and Path(results), use_shipped=False)
    studies = studies_of(lab)
    of_gmp = [studies.pop(name) for name in GMP_STUDIES]
    record(lab, studies.values(), WHOLE_METRICS, "streets", "networks.csv")
    record(lab, of_gmp, WHOLE_METRICS, "streets", "networks_gmp.csv")


def record(lab: Lab, studies: Iterable[Study], metrics: Sequence[str], data: str, networks: str) -> None:
    """Write the rows of the studies' trials, and where their networks were made; what was recorded before stays.

    Args:
        lab: with the results.
        studies: that the table holds.
        metrics: that it holds of them.
        data: the name of the record.
        networks: the name of the file about them, in the preset's folder.
    """
    trials = list(dict.fromkeys(trial for study in studies for trial in study(lab)))
    known = recorded(lab, trials)
    done = [trial for trial in trials if lab.score_path(trial).exists()]
    own = dict(zip(done, tidy_each(lab, done), strict=True))
    frames = [own.get(trial, known.get(trial)) for trial in trials if trial in own or trial in known]
    frame = pd.concat(frames, ignore_index=True)
    folder = SHIPPED / lab.preset.name
    write_studies(frame[frame["metric"].isin(metrics)], folder / data)
    write_networks(lab.out / "scores", folder / networks, {trial.training.address for trial in trials})
    print(f"{len(frames)} of {len(trials)} trials: {len(own)} of this run, {len(frames) - len(own)} recorded before")


def tidy_each(lab: Lab, trials: list) -> list[pd.DataFrame]:
    """The rows of each trial."""
    frame = tidy(lab, lab.results(trials))
    number = frame["metric"].eq("miou").cumsum()  # each trial's rows begin with it
    return [group for _, group in frame.groupby(number)]


if __name__ == "__main__":
    main(*sys.argv[1:])
