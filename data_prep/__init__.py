"""Public data sets, each brought into the one prepared layout that :mod:`dglab.data.prepared` reads.

One module a data set, one shared converter (:mod:`data_prep.convert`); the command line is ``python -m
data_prep``. A new data set is a module with a ``DATASET`` (:class:`data_prep.dataset.Dataset`) and a line in
``MODULES``.
"""

from types import ModuleType

from data_prep import bdd100k, camvid, cityscapes, folder, gta5, idd, kitti, mapillary, synthia

MODULES: dict[str, ModuleType] = {
    "cityscapes": cityscapes,
    "gta5": gta5,
    "synthia": synthia,
    "idd": idd,
    "mapillary": mapillary,
    "bdd100k": bdd100k,
    "camvid": camvid,
    "kitti": kitti,
    "folder": folder,
}
