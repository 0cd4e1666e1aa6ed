"""GTA5 ("Playing for Data"): 24,966 frames of a computer game whose classes are those of Cityscapes.

**Labels are palette PNGs, and the indices are the ids.** A reader that decodes the palette gets colours, and one
that turns those into grey gets numbers that look like ids; training then stays near 1 % mIoU. Here indices are
read, and a label saved as colours is refused.

**The split is the official one**, ``split.mat``: train is trainIds (12,403 frames), val is valIds (6,382). The
6,181 testIds are not converted, so that a test set remains which nothing was tuned on. Much published work trains
on all frames instead; its figures are not comparable with these.

**60 labels differ in size from their image**, says the data set's page, without naming them. The converter
compares all sizes and refuses those pairs one by one, in ``refused.csv``. A complete source therefore ends with
exit code 2 and a domain that is complete but for them; without those files in the source it ends with 0.

Sources: Richter, Vineet, Roth and Koltun, "Playing for data: ground truth from computer games", ECCV 2016; sizes,
terms and the note on the 60 frames: download.visinf.tu-darmstadt.de/data/from_games.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from data_prep.cityscapes import LABEL_ID_TO_TRAIN_ID
from data_prep.dataset import Dataset, Domain, LabelMapping, Pair, files_by_key, matched
from dglab.classes import IGNORED
from dglab.utils.errors import InputError
from dglab.utils.extras import extras_named
from dglab.utils.files import read_bytes
from dglab.utils.images import brief, read_header, read_label

DOMAIN = Domain("gta5", "GTA5", "G", num_train=12403, num_val=6382)

_PAGE = "download.visinf.tu-darmstadt.de/data/from_games"
_FRAMES = "[0-9]" * 5 + ".png"  # 00001.png; what other tools write beside them, 00001_labelTrainIds.png, is no source

# The indices are Cityscapes' ids. An index cannot be -1, which is why the license plate has 34 here, as the readers
# of this data set know: LTTM/SELMA, datasets/gta5.py, and microsoft/ProDA, data/gta5_dataset.py, both list it as void.
_TO_TRAIN_IDS = LABEL_ID_TO_TRAIN_ID | {34: IGNORED}


def find_pairs(source: Path, mapping: str) -> list[Pair]:
    """The pairs of the official train and val split, with stems ``00001`` to ``24966``.

    A frame of the split that is not there is not an error, because the data set comes in ten parts: the number
    found stands beside the published one in the converter's report, with a warning.

    Args:
        source: the folder that holds ``images``, ``labels`` and ``split.mat``.
        mapping: not needed here.

    Raises:
        InputError: for a missing folder, a file without its partner, a missing or foreign ``split.mat``, or a frame
            that is in no part of the split.
    """
    images = files_by_key(source / "images", _FRAMES)
    labels = files_by_key(source / "labels", _FRAMES)
    found = matched(images, labels, source)
    split_of = read_split(source)
    strangers = [stem for stem in images if int(stem) not in split_of]
    if strangers:
        raise InputError(
            f"{source / 'images'}: {len(strangers)} frame(s) are in no part of split.mat: {brief(strangers)}; keep the "
            "names of the archives (00001.png to 24966.png), and the split.mat that belongs to them"
        )
    return [
        Pair(DOMAIN, split_of[int(stem)], stem, image, label)
        for stem, image, label in found
        if split_of[int(stem)] != "test"
    ]


def read_split(source: Path) -> dict[int, str]:
    """The official split: from frame number to ``"train"``, ``"val"`` or ``"test"``.

    Args:
        source: holds ``split.mat``, or the folder ``read_mapping`` with it.

    Raises:
        InputError: if the file is missing, is no such file, or puts a frame into two parts.
    """
    places = (source / "split.mat", source / "read_mapping" / "split.mat")
    path = next((place for place in places if os.path.lexists(place)), None)
    if path is None:
        raise InputError(f"{source / 'split.mat'}: is missing; it comes in read_mapping.zip, from {_PAGE}")
    parts = dict(zip(("train", "val", "test"), _numbers(path, "trainIds", "valIds", "testIds"), strict=True))
    split_of = {number: part for part, numbers in parts.items() for number in numbers}
    if len(split_of) != sum(map(len, parts.values())):
        raise InputError(f"{path}: names a frame more than once; take it from read_mapping.zip, from {_PAGE}")
    return split_of


def _numbers(path: Path, *names: str) -> list[list[int]]:
    """Arrays of a MATLAB file, read in a separate process, because some damaged files crash the reader.

    Raises:
        InputError: if there are no such arrays.
    """
    with extras_named("reading GTA5's split"):
        import scipy  # noqa: F401 - here, so that the commands on other data sets start at once
    content = read_bytes(path, empty=True)
    command = [sys.executable, "-P", "-c", _READ_ARRAYS, *names]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=_TIMEOUT)
        reason = "" if done.returncode == 0 else done.stderr.decode(errors="replace").strip()[-300:]
        failed = done.returncode != 0
    except subprocess.TimeoutExpired:
        failed, reason = True, f"not read in {_TIMEOUT} s"
    if failed:
        raise InputError(
            f"{path}: is not a split of this data set ({reason or 'its reader crashed'}); expected the arrays "
            f"{', '.join(names[:-1])} and {names[-1]}; take it from read_mapping.zip, from {_PAGE}"
        )
    return json.loads(done.stdout)


_TIMEOUT = 120  # seconds
_READ_ARRAYS = """
import io, json, sys
import numpy as np
from scipy.io import loadmat
try:
    content = loadmat(io.BytesIO(sys.stdin.buffer.read()))
    found = [np.ravel(content[name]).astype(int).tolist() for name in sys.argv[1:]]
except Exception as error:  # scipy raises nearly anything on damaged files
    sys.exit(str(error) or type(error).__name__)
print(json.dumps(found))
"""


def read_indices(path: Path) -> np.ndarray:
    """The palette indices of a label, H x W uint8.

    Raises:
        InputError: for a label in colours, or a file that :func:`dglab.utils.images.read_label` refuses.
    """
    header = read_header(path)
    if header.mode in ("RGB", "RGBA"):
        raise InputError(
            f"{path}: is a {header}; expected a palette PNG, whose indices are the ids: some tool decoded the palette "
            f"to colours, and the ids are lost; unpack the label again from the archives of {_PAGE}"
        )
    return read_label(path)


DATASET = Dataset(
    name="gta5",
    title="GTA5, 24,966 frames of a computer game (Playing for Data), 19 classes",
    download=f"https://{_PAGE}/ (no registration): 01_images.zip to 10_images.zip, 01_labels.zip to 10_labels.zip and "
    "read_mapping.zip, all unpacked into one folder",
    licence="research and educational use only; cite Richter et al. (ECCV 2016)",
    size="archives of 56 GB (images) and 0.7 GB (labels); frames of about 1914 x 1052",
    layout="images/00001.png to 24966.png, labels/ with the same names, split.mat; the 6,181 frames of its testIds are "
    "not converted, and 60 labels of another size than their image are refused",
    domains=(DOMAIN,),
    mappings={"labelids": LabelMapping(_TO_TRAIN_IDS, "Cityscapes' ids and 34, license plate; see data_prep/gta5.py")},
    find_pairs=find_pairs,
    read_label=read_indices,
)
