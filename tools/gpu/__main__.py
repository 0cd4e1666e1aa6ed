"""A quarter of an hour on one GPU, offline: ``python -m tools.gpu [STEP ...] --out DIR``; see tools/gpu/README.md.

Each step resumes where an earlier call has stopped: what is in DIR is not done again. Exit code 0: all is done and has
passed; 1: a check has failed; 2: wrong use; 3: time is up, the same command resumes.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from dglab.utils.errors import InputError
from tools.gpu.environment import describe, install_missing, use_site, write_environment

STEPS = ("checks", "inference", "draw", "choose", "study")  # after the environment, which every call begins with


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of {', '.join(STEPS)}; none runs all")
    parser.add_argument("--out", type=Path, default=os.environ.get("OUT"), help="results; default the variable OUT")
    parser.add_argument("--work", type=Path, default=Path("results/gpu-work"), help="scenes and networks, gigabytes")
    parser.add_argument("--wheels", type=Path, help="folder of wheels of what is missing")
    parser.add_argument("--minutes", type=float, default=9.0, help="that this call may take")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    options = parser.parse_args(arguments)
    if unknown := [step for step in options.steps if step not in STEPS]:
        parser.error(f"there is no step {unknown[0]!r}; the steps are {', '.join(STEPS)}")
    if options.out is None:
        parser.error("--out is missing: give a folder for the results, or set the variable OUT")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the steps; the exit code."""
    until = time.monotonic()
    options = parse(arguments)
    until += 60 * options.minutes
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA begins: a check asks for determinism
    try:
        return run(options, until)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2


def run(options: argparse.Namespace, until: float) -> int:
    """The environment, then the steps."""
    out, work = options.out.resolve(), options.work.resolve()
    out.mkdir(parents=True, exist_ok=True)
    use_site(work / "site")
    about = describe(install_missing(work / "site", options.wheels))
    write_environment(out, about)
    print(f"{about['machine']}, torch {about['versions']['torch']}", flush=True)

    from dglab.utils.machine import choose_device
    from tools.gpu import checks, inference, plan, study  # only now: they need what was installed
    from tools.gpu.tables import read_rows

    device = choose_device(options.device)
    device = device if device == "cuda" else "cpu"
    book = plan.Book(plan.ON_GPU if device == "cuda" else plan.TRY_OUT, device, out, work, until)
    run_step = {
        "checks": checks.run_checks, "inference": inference.time_inference, "draw": study.draw_scenes,
        "choose": study.choose_rates, "study": study.run_study,
    }  # fmt: skip
    unfinished = []
    for step in options.steps or STEPS:
        start = time.monotonic()
        if not run_step[step](book):
            unfinished.append(step)
        print(f"{step}: {time.monotonic() - start:.0f} s{', unfinished' * (step in unfinished)}", flush=True)
        if unfinished:
            break
    here = (about["machine"], about["versions"]["torch"])
    of_here = [row for row in read_rows(out / "checks.csv") if (row["machine"], row["torch"]) == here]
    failed = [row["check"] for row in of_here if row["verdict"] == "failed"]
    if failed:
        print(f"failed: {'; '.join(failed)}")
    if (out / study.TABLE).exists():
        print(study.summary(book))
    return 3 if unfinished else 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
