"""Put what the studies of GMP have given with the preset quick into the package: ``python -m tools.record_gmp``.

``python -m tools.record_gmp RESULTS`` takes another folder than ``results/quick``. Each study is computed by its name,
``dglab reproduce --preset quick --only gmp_ablation``, and they share networks. A run that is stopped may be recorded.
"""

import sys
from pathlib import Path

from dglab.experiments.runner import open_lab
from dglab.experiments.trials import EXTRA_STUDIES
from dglab.report.gmp_tables import STUDIES
from tools.record_full import record

METRICS = ("miou", "category_miou", "absent_classes")


def main(results: str | None = None) -> None:
    """Record what lies in a results folder; None takes ``results/quick``."""
    lab = open_lab("quick", results=results and Path(results), use_shipped=False)
    studies = [EXTRA_STUDIES[name] for name in (*STUDIES, "domain_conflict")]
    record(lab, studies, METRICS, "streets", "networks_gmp.csv")


if __name__ == "__main__":
    main(*sys.argv[1:])
