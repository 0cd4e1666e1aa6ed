"""The log of a run: one line of ``log.jsonl`` per step, TensorBoard's curves, a progress bar."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from dglab.training.distributed import is_writer
from dglab.training.losses import Losses
from dglab.utils.errors import InputError
from dglab.utils.extras import extras_named
from dglab.utils.files import parse_json, read_text, writing

if TYPE_CHECKING:
    import pandas as pd

LOG, TENSORBOARD = "log.jsonl", "tensorboard"
Line = dict[str, Any]  # step, lr, ds, dg, total; None where there is no value


def log_line(step: int, lr: float, losses: Losses) -> Line:
    """What is recorded of a step."""
    values = {name: value if math.isfinite(value) else None for name, value in losses._asdict().items()}
    return {"step": step, "lr": lr, **values}


@contextmanager
def recording(folder: Path, start: int, *, tensorboard: bool) -> Iterator[Callable[[Line], None]]:
    """A function that records one step, on disk at once, so that a run can be followed from elsewhere.

    The log is always complete; a kill may lose the last ten seconds of TensorBoard's curves. With several processes
    only the writer records; the function of the others does nothing.

    Args:
        folder: of the run.
        start: the first step to be recorded. TensorBoard hides what it has of later ones, from before a resumption.
        tensorboard: also write ``folder/tensorboard``; needs the package of this name.
    """
    if not is_writer():
        yield lambda line: None
    elif not tensorboard:
        yield lambda line: _append(folder, line)
    else:
        with extras_named("tensorboard=True"):
            from torch.utils.tensorboard import SummaryWriter  # imported here because the package is optional

        curves = SummaryWriter(folder / TENSORBOARD, purge_step=start, flush_secs=10)

        def record(line: Line) -> None:
            _append(folder, line)
            for name in ("lr", "ds", "dg", "total"):
                if line[name] is not None:
                    curves.add_scalar(name, line[name], line["step"])

        try:
            yield record
        finally:
            with suppress(OSError):  # a full disk, which writing the log has reported already
                curves.close()


@contextmanager
def reporting(
    folder: Path, start: int, bar: tqdm, images: int, tensorboard: bool, on_log: Callable[[Line], None] | None
) -> Iterator[Callable[[Line], None]]:
    """A function that records one step and shows it.

    Args:
        folder, start, tensorboard: as in :func:`recording`.
        bar, images: as in :func:`show`.
        on_log: called with each line.
    """
    with recording(folder, start, tensorboard=tensorboard) as record:

        def report(line: Line) -> None:
            record(line)
            show(bar, line, images)
            if on_log is not None:
                on_log(line)

        yield report


def _append(folder: Path, line: Line) -> None:
    with writing(folder / LOG), open(folder / LOG, "a") as file:
        file.write(json.dumps(line) + "\n")


def read_log(run: Path | str) -> "pd.DataFrame":
    """The log of a run, finished or not: one row per step with columns step, lr, ds, dg, total (nan: no value).

    A last line that is half written, as in a run that is training or was killed, is left out.

    Args:
        run: its folder, or its log alone.

    Raises:
        InputError: for a file that cannot be read, or is no log.
    """
    with extras_named("read_log"):
        import pandas as pd  # imported here because training does without

    path = Path(run) / LOG if Path(run).is_dir() else Path(run)
    lines = read_text(path, empty=True).splitlines(keepends=True)
    try:
        values = [parse_json(line) for line in lines if line.endswith("\n")]
        return pd.DataFrame(values, columns=["step", "lr", "ds", "dg", "total"]).astype(float).astype({"step": int})
    except Exception as error:  # pandas raises nearly anything on what it cannot convert
        raise InputError(f"{path}: is not the log of a run ({error}); expected the {LOG} of dglab train") from error


def show(bar: tqdm, line: Line, images: int) -> None:
    """Losses, learning rate and speed beside the bar.

    Args:
        bar: whose unit is a step.
        line: of the last step.
        images: in a step, of all processes.
    """
    values = {name: f"{line[name]:.3f}" for name in ("ds", "dg") if line[name] is not None}
    rate = bar.format_dict["rate"]  # steps a second, once it is known
    speed = {"images/s": f"{images * rate:.1f}"} if rate else {}
    bar.set_postfix({**values, "lr": f"{line['lr']:.1e}", **speed}, refresh=False)  # drawn at the bar's own pace
