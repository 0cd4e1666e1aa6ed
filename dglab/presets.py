"""The presets: everything that distinguishes a try-out from the paper's protocol, as plain data.

Every value of the protocol has its place in the paper or in the authors' public code, see :data:`PLACES`; ``dglab
presets`` prints it beside the value.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dglab.data.streets.size import StreetsSize
from dglab.training.config import TrainingConfig
from dglab.utils.errors import InputError


@dataclass(frozen=True)
class Preset:
    """The settings of all studies at one scale."""

    name: str
    about: str
    training: TrainingConfig  # the template of every run; method, sources, data and seed are filled in
    streets: StreetsSize
    train_seeds: tuple[int, ...]  # trainings of each method
    test_seeds: tuple[int, ...]  # orders of arrival for each trained network; the paper's ± is over these
    batch_sizes: tuple[int, ...]  # M of Figure 5
    queue_sizes: tuple[int, ...]  # Q of Table 7
    style_layers: tuple[int, ...]  # of Table 6
    in_memory: bool  # cache decoded images, if the data set fits into memory
    parallel: bool  # run several jobs at a time on a CPU
    decisive_seeds: tuple[int, ...] = ()  # trainings of the methods of the main question; empty: train_seeds
    claim_seeds: tuple[int, ...] = ()  # trainings of AGG and MLDG where a claim needs still more; empty: decisive_seeds
    control_seeds: tuple[int, ...] = ()  # trainings of the other controls; empty: train_seeds
    gmp_seeds: tuple[int, ...] = ()  # trainings in the studies of GMP; empty: train_seeds
    whole: bool = False  # every row of every table and all controls, which takes hours
    as_recorded: tuple[str, ...] = ()  # studies that are not run on the embedded streets: the recorded ones are shown
    rates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # lr, steps, ... of methods with their own
    backbones: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of Table 10 beside its own: settings
    why: Mapping[str, str] = field(default_factory=dict, compare=False)  # setting -> why it is not the paper's

    def template(self, method: str) -> TrainingConfig:
        """The settings of every run of a method; sources, data and seed are filled in."""
        return dataclasses.replace(self.training, method=method, **self.rates.get(method, {}))

    def with_seeds(self, most: int) -> "Preset":
        """The same preset with at most so many trainings of each method."""
        names = ("train_seeds", "decisive_seeds", "claim_seeds", "control_seeds", "gmp_seeds")
        return dataclasses.replace(self, **{name: getattr(self, name)[:most] for name in names})

    def reason(self, name: str, value: Any) -> str:
        """The source of a setting's value: this preset's reason, or the place in the paper; empty if there is neither.

        Args:
            name: of a field of the preset, of its training or of its streets.
            value: what it is here.
        """
        of_paper = getattr(PAPER.training, name, getattr(PAPER, name, None))
        return self.why.get(name) or (PLACES.get(name, "") if value == of_paper else "")


# The sources of the paper's settings. "code": github.com/koncle/TSMLDG. Where the paper and the code leave a setting
# open, or differ, it says so.
PLACES = {
    "backbone": "section 4.1: output stride 8, FCN head; code, resnet.py: the same with a stem of three convolutions",
    "weights": "section 4.1: ImageNet; of torchvision's the first version, the one there was",
    "steps": "section 4.1: 120 epochs; code, dg_dataset.py: 3,000 draws a domain make one, 375 iterations at B = 8",
    "batch_per_domain": "section 4.1; code, train.py: --train-size",
    "crop": "section 4.1; code, dg_dataset.py: crop_size",
    "scale": "section 4.1; code, dg_dataset.py: scale",
    "blur": "section 4.1 says random; code, transforms.py: random_gaussian_blur, half of the images",
    "lr": "section 4.1: gamma; code, train.py: --outer-lr",
    "inner_lr": "section 4.1: eta; code, train.py: --inner-lr",
    "alpha": "section 4.1, Eq. 6 (Algorithm 1 weighs the other loss; at 1 they agree)",
    "order": "code, nn_utils.py: get_updated_network takes the inner gradient as a constant; Eq. 6 as written is 2",
    "split": "section 4.1, Table 4: 2:2 of four sources; code, TSMLDG.py: cut anywhere, which is 'random' here",
    "running_stats": "code, nn_utils.py: put_theta gives the meta-test network the parameters alone",
    "momentum": "section 4.1, in swapped order with the weight decay; code, TSMLDG.py",
    "weight_decay": "section 4.1, in swapped order with the momentum; code, TSMLDG.py",
    "power": "section 4.1: poly decay; code, TSMLDG.py: PolyLR, by iteration",
    "precision": "code: nowhere less than 32 bits",
    "batchnorm": "code, TSMLDG.py: DataParallel over 4 GPUs, each by the images it has",
    "train_seeds": "one training a row: the paper prints no deviation over trainings",
    "test_seeds": "five runs of the test stage; code, eval.py (the seeds themselves are ours)",
    "batch_sizes": "Figure 5: M",
    "queue_sizes": "Table 7: Q",
    "style_layers": "Table 6",
}


TINY = Preset(
    name="tiny",
    about="seconds; checks that everything runs, learns nothing: the tests use it",
    training=TrainingConfig(backbone="thin", steps=2, batch_per_domain=1, crop=(32, 64), lr=0.1, inner_lr=0.02),
    streets=StreetsSize(32, 64, train_images=4, val_images=4),
    train_seeds=(0,),
    test_seeds=(0,),
    batch_sizes=(1, 2),
    queue_sizes=(4, 8),
    style_layers=(1, 2, 3, 4),
    in_memory=True,
    parallel=False,
    backbones={"thin-fpn": {}, "thin-fpn-ibn-a": {}},
)

_OWN_RATES = dict.fromkeys(("mldg", "mldg_mean"), {"lr": 0.2, "inner_lr": 0.04})
# the sum of two gradients, so that its step is as long as MLDG's
_OWN_RATES["projected"] = {"lr": 0.2}
_OF_GMP = {"backbone": "thin", "weights": ""}  # an encoder a modality, of one kind so far, without a decoder
# best of 0.01, 0.02, 0.05 and 0.1 on the sources' validation images, docs/tries_gmp.csv
_OWN_RATES["gmp"] = {"lr": 0.05} | _OF_GMP
# Other architectures, a third of the steps because each is many times as large: depthwise convolutions from ImageNet
# weights, whose learning rate is the best of four on the sources of CamVid (the study imagenet); and parallel
# resolutions, whose learning rate was not tuned. AGG and MLDG share them.
_OTHER_KINDS = {
    "efficientnet-lite0": {"weights": "imagenet", "lr": 0.05, "inner_lr": 0.01, "steps": 500},
    "hrnet-w18": {"lr": 0.1, "inner_lr": 0.02, "steps": 500},
}
_WHY = {
    "backbone": "an eighth of 96 rows cannot hold a pole: a decoder up to a quarter; docs/tries.csv has both",
    "lr": "best of 0.1, 0.2 and 0.4 on the validation images of the sources G, S, I and M (seeds 100 and 101, which no "
    "study uses; docs/tries.csv); MLDG: 0.2; it adds two mean losses, so that its step is as long as AGG's at 0.4. "
    "AGG2, split and by domain take AGG's rate, MLDG's variants MLDG's",
    "inner_lr": "the paper's ratio eta / gamma = 0.2",
    "steps": "as the time allows; docs/tries.csv has a learning curve",
    "scale": "at half of 96 rows a person would be three pixels high",
}

QUICK = Preset(
    name="quick",
    about="minutes on two CPU cores: a thin ResNet with a decoder on small images",
    training=TrainingConfig(
        backbone="thin-fpn",
        steps=900,
        batch_per_domain=2,
        crop=(96, 96),
        scale=(0.75, 1.5),
        lr=0.4,
        inner_lr=0.08,
        checkpoint_every=300,
    ),  # fmt: skip
    # a step of GMP takes three times as long as one of AGG, and its claims ask for five trainings of eight networks
    rates=_OWN_RATES | {"gmp": _OWN_RATES["gmp"] | {"steps": 400}},
    streets=StreetsSize(96, 192, train_images=200, val_images=48),
    train_seeds=(0, 1),
    gmp_seeds=tuple(range(10, 15)),  # as those of full, see docs/predictions.md
    test_seeds=(0, 1),
    batch_sizes=(1, 2, 4, 8, 16),
    queue_sizes=(4, 16, 64, 128),
    style_layers=(1, 2, 3, 4),
    in_memory=True,
    parallel=True,
    as_recorded=("selection_policy", "style_layer", "queue_size", "cached_statistics", "prior"),
    why=_WHY
    | {"as_recorded": "two in five core-minutes, for what two trainings cannot decide; --only runs each of them"},
)

FULL = Preset(
    name="full",
    about="every table on streets, with trainings enough to decide: hours on two CPU cores",
    training=dataclasses.replace(QUICK.training, steps=1_500, checkpoint_every=500),
    rates=_OWN_RATES,
    streets=StreetsSize(96, 192, train_images=200, val_images=256),
    train_seeds=tuple(range(10, 15)),  # 0 to 9 were seen in sketches
    test_seeds=(0, 1, 2, 3, 4),
    batch_sizes=(1, 2, 4, 8, 16, 32),
    queue_sizes=(4, 8, 16, 32, 64, 128, 256, 512),
    style_layers=(1, 2, 3, 4),
    in_memory=True,
    parallel=True,
    decisive_seeds=tuple(range(10, 20)),
    claim_seeds=tuple(range(10, 30)),
    control_seeds=tuple(range(10, 13)),
    whole=True,
    backbones=_OTHER_KINDS,
    why=_WHY,
)

REAL = Preset(
    name="real",
    about="a day on two CPU cores: five real domains, CamVid's recordings and KITTI, from ImageNet weights (--data)",
    training=dataclasses.replace(
        QUICK.training,
        backbone="efficientnet-lite0",
        weights="imagenet",
        steps=500,
        crop=(96, 128),
        lr=0.1,
        inner_lr=0.02,
        checkpoint_every=500,
    ),
    rates=dict.fromkeys(("mldg", "mldg_mean"), {"lr": 0.05, "inner_lr": 0.01})
    | {"projected": {"lr": 0.05}, "gmp": _OF_GMP},
    streets=QUICK.streets,
    train_seeds=tuple(range(10, 15)),
    test_seeds=(0, 1, 2, 3, 4),
    batch_sizes=(1, 2, 4, 8, 16),
    queue_sizes=(4, 8, 16, 32, 64, 128),  # the mixed stream of T and K has some hundred images
    style_layers=(1, 2, 3, 4),
    in_memory=True,
    parallel=True,
    control_seeds=tuple(range(10, 13)),
    whole=True,
    why={
        "backbone": "the largest with packaged ImageNet weights that two CPU cores train in minutes",
        "weights": "timm's, from a package: no download",
        "lr": "best of 0.02, 0.05 and 0.1 on the validation images of R, E, V and K as sources (seeds 100 and 101; "
        "docs/tries_real.csv), for AGG the largest of the three; MLDG: 0.05. AGG2, split and by domain take AGG's, "
        "MLDG's variants MLDG's",
        "inner_lr": "the paper's ratio eta / gamma = 0.2",
        "steps": "as the time allows: nine passes over the training images of four domains; 250 steps score less",
        "scale": "images are 180 rows high",
    },
)

STANDARD = Preset(
    name="standard",
    about="for one GPU: ResNet-50 at output stride 8 on larger images, a minute a network on an H200",
    training=TrainingConfig(
        backbone="resnet50",
        steps=800,
        batch_per_domain=4,
        crop=(256, 384),
        precision="bf16",
        channels_last=True,
        lr=0.06,
        inner_lr=0.012,
        checkpoint_every=400,
    ),
    streets=StreetsSize(256, 512, train_images=400, val_images=100),
    train_seeds=(10, 11, 12),
    test_seeds=(0, 1),
    batch_sizes=(1, 2, 4, 8, 16, 32),
    queue_sizes=(4, 8, 16, 32, 64, 128, 256, 512),
    style_layers=(1, 2, 3, 4),
    in_memory=True,
    parallel=False,
    rates={"gmp": _OF_GMP},
    backbones={"deeplabv3": {}, "hrnet": {}},
    why={
        "lr": "best of 0.02, 0.06 and 0.2 on the validation images of the four sources (seed 100; docs/tries_gpu.csv), "
        "for AGG and for MLDG alike",
        "inner_lr": "the paper's ratio eta / gamma = 0.2",
        "steps": "as a quarter of an hour allows: tries, nine networks and their tests",
        "channels_last": "the memory layout of the GPU's matrix units",
    },
)

PAPER = Preset(
    name="paper",
    about="the paper's protocol for the five real data sets",
    training=TrainingConfig(weights="imagenet"),  # the other defaults are the paper's
    streets=StreetsSize(1024, 2048, train_images=3_000, val_images=500),
    train_seeds=(0,),  # the paper trains each row once
    test_seeds=(0, 1, 2, 3, 4),
    batch_sizes=(1, 2, 4, 8, 16),
    queue_sizes=(4, 8, 16, 32, 64, 128, 256, 512),
    style_layers=(1, 2, 3, 4),
    in_memory=False,  # they do not fit
    parallel=False,
    whole=True,
    rates={"gmp": _OF_GMP},
    backbones={"deeplabv3": {}, "hrnet": {}},
)

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (TINY, QUICK, FULL, REAL, STANDARD, PAPER)}


def find_preset(name: str) -> Preset:
    """A preset by name.

    Raises:
        InputError: for an unknown name.
    """
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}; the presets are {', '.join(PRESETS)}")
    return PRESETS[name]
