"""Where the authors' public code (github.com/koncle/TSMLDG) differs from the paper's text, and what we do.

``dglab presets`` prints the table. Where this kit can do the same as the code, an option is named.
"""

from typing import NamedTuple


class Deviation(NamedTuple):
    """One difference between the code and the text, or one thing that the text leaves open."""

    what: str
    paper: str
    code: str
    where: str  # in their code
    here: str
    theirs: str = ""  # the option for their way; empty if there is none


DEVIATIONS: tuple[Deviation, ...] = (
    Deviation("order of the gradient", "second (Eq. 6)", "first: the inner gradient is a constant",
              "utils/nn_utils.py, get_updated_network", "first", "the default; --order 2 is the text"),
    Deviation("weights of the two losses", "alpha on L_ds (Eq. 6), on L_dg (Algorithm 1)", "1 and 1",
              "TSMLDG.py, meta_train", "alpha on L_ds, 1", "the default"),
    Deviation("meta-train : meta-test", "2:2", "cut anywhere, anew in each step", "TSMLDG.py, meta_train", "2:2",
              "--split random"),
    Deviation("MLDG on one source", "Table 8 prints G alone, and no method",
              "its first versions cut the images into two halves, the newest fails",
              "dataset/dg_dataset.py, __getitem__; TSMLDG.py, meta_train", "refused; AGG trains on one"),
    Deviation("which images a step draws", "not said", "each at random, with replacement; 3,000 a domain and epoch",
              "dataset/dg_dataset.py", "every image once before any comes again"),
    Deviation("length of training", "120 epochs", "120 x 375 iterations of 8 images a domain",
              "dataset/dg_dataset.py, __len__", "45,000 steps", "preset paper"),
    Deviation("rotation", "none", "half of the images, up to 10 degrees", "dataset/transforms.py, RandomRotate",
              "none", "--augmentation authors"),
    Deviation("what a rotation leaves empty", "-",
              "0 in the label before its ids are mapped: class 0, road, in G and M; ignored in S, I, C",
              "dataset/transforms.py, RandomRotate", "255, ignored, with --augmentation authors, too"),
    Deviation("random scale", "0.5 to 2.0", "of a long side fixed for each data set (G 1914, S 1280, I 1280, M 2590, "
              "C 2048), whatever the image's", "dataset/natural_datasets.py, base_size", "of the image itself",
              "--augmentation authors (real data of these letters, at their full size)"),
    Deviation("place of a small image in the crop", "not said", "at its upper left",
              "dataset/transforms.py, RandomCrop", "at random"),
    Deviation("Gaussian blur", "random", "half of the images, sigma 0 to 1", "dataset/transforms.py",
              "half of the images, sigma 0.1 to 2", "--augmentation authors"),
    Deviation("stem of the ResNet", "ResNet-50", "three 3 x 3 convolutions", "network/backbone/resnet.py",
              "one of 7 x 7, as torchvision's weights"),
    Deviation("dropout in the head", "not said", "of whole channels (Dropout2d), 0.1", "resnet.py", "of values, 0.1"),
    Deviation("upsampling of the logits", "not said", "align_corners=True", "utils/nn_utils.py, make_same_size",
              "align_corners=False"),
    Deviation("BatchNorm over 4 GPUs", "not said", "each by its own images", "TSMLDG.py, DataParallel",
              "each process by its own", "the default under torchrun; --batchnorm synchronized is the other way"),
    Deviation("running statistics in MLDG", "not said", "moved by meta-train alone", "utils/nn_utils.py, put_theta",
              "moved by meta-train alone", "the default"),
    Deviation("the network that is reported", "not said", "the one that is best on the target", "TSMLDG.py, save_best",
              "the last one"),
    Deviation("images that are scored", "the validation set", "of G, S and M the first 500",
              "dataset/natural_datasets.py", "all", "evaluate --scores authors_code"),
    Deviation("pixels that are scored", "not said", "a square cut from the middle, its side the resized short one",
              "dataset/natural_datasets.py, get_transform", "whole images", "evaluate --scores authors_code"),
    Deviation("M of TN in Tables 3 and 5", "not said",
              "batches of 16 images; in the newest version 16, 8 and 1; over up to 4 GPUs",
              "eval.py, do_lots_of_exp_tests", "4, with 1 and 16 beside it", "--batch-size M"),
    Deviation("runs of the test stage", "five", "five; one where M = 1", "eval.py, test_one_run",
              "five orders of arrival; one where M = 1", "the default"),
    Deviation("Image Bank", "section 3.4", "none, so Tables 5 to 7 cannot be run from it", "-", "as in the text"),
)  # fmt: skip


def as_text() -> str:
    """The table for a terminal: a block of lines each."""
    blocks = []
    for one in DEVIATIONS:
        lines = [one.what, f"  paper    {one.paper}", f"  code     {one.code} ({one.where})", f"  here     {one.here}"]
        blocks.append("\n".join([*lines, *([f"  theirs   {one.theirs}"] if one.theirs else [])]))
    return "\n".join(["differences from the authors' code (github.com/koncle/TSMLDG):", *blocks])
