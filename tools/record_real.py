"""Put what the preset real has computed so far into the package: ``python -m tools.record_real ROOT [RESULTS]``.

ROOT holds CamVid's four recordings and KITTI, see docs/data.md. Beside the rows lies the fingerprint of its images:
they are taken for those images alone (``dglab reproduce --preset real --data ROOT --reuse-recorded``). A run that is
stopped may be recorded.
"""

import json
import sys

from dglab.experiments.recorded import REAL, SHIPPED, WHOLE_METRICS
from dglab.experiments.runner import open_lab
from dglab.experiments.trials import studies_of
from dglab.utils.files import written_whole
from tools.record_full import record


def main(root: str, results: str | None = None) -> None:
    """Record what lies in a results folder; None takes ``results/real-`` and the name of the root."""
    lab = open_lab("real", root, results=results, use_shipped=False)
    folder = SHIPPED / lab.preset.name
    folder.mkdir(exist_ok=True)
    record(lab, studies_of(lab).values(), WHOLE_METRICS, REAL, "networks.csv")
    with written_whole(folder / f"{REAL}.json") as beside:
        beside.write_text(json.dumps({"identity": lab.identity, "domains": lab.names}, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
