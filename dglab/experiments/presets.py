"""The presets: everything that distinguishes a try-out from the paper's protocol, as plain data."""

from dataclasses import dataclass

from dglab.errors import InputError
from dglab.training.config import TrainingConfig


@dataclass(frozen=True)
class StreetsSize:
    """How large the embedded data set is drawn: pixels, and images in each of the five domains."""

    height: int
    width: int
    train_images: int
    val_images: int

    @property
    def identity(self) -> str:
        """What a run on these streets records as its data."""
        return f"streets {self.height}x{self.width}, {self.train_images} training images a domain"


@dataclass(frozen=True)
class Preset:
    """One scale of the whole study."""

    name: str
    about: str
    training: TrainingConfig  # the template of every run; method, sources, data and seed are filled in
    streets: StreetsSize
    train_seeds: tuple[int, ...]  # trainings of each method
    test_seeds: tuple[int, ...]  # orders of arrival for each trained network; the paper's ± is over these
    batch_sizes: tuple[int, ...]  # M of Figure 5
    queue_sizes: tuple[int, ...]  # Q of Table 7
    style_layers: tuple[int, ...]  # of Table 6
    in_memory: bool  # keep decoded images: for data sets that fit
    parallel: bool  # run several jobs at a time on a CPU


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
)

QUICK = Preset(
    name="quick",
    about="minutes on two CPU cores: a thin ResNet on small images",
    # lr is the best of 0.02, 0.05, 0.1 and 0.2 on the validation images of G, S, I and M (AGG trained on G+S+I+M, seeds
    # 100 and 101, which no study uses), as are batch and steps at a given time. M is a target of the mixed task: the
    # scores on G, S and I alone, sources in every task, lead to the same choice;
    # inner_lr keeps the paper's ratio eta / gamma = 0.2; scale: at half of 96 rows a person would be three pixels high
    training=TrainingConfig(
        backbone="thin",
        steps=450,
        batch_per_domain=2,
        crop=(96, 96),
        scale=(0.75, 1.5),
        lr=0.1,
        inner_lr=0.02,
        checkpoint_every=150,
    ),  # fmt: skip
    streets=StreetsSize(96, 192, train_images=200, val_images=48),
    train_seeds=(0, 1, 2),
    test_seeds=(0, 1),
    batch_sizes=(1, 2, 4, 8, 16),
    queue_sizes=(4, 16, 64, 128),
    style_layers=(1, 2, 3, 4),
    in_memory=True,
    parallel=True,
)

STANDARD = Preset(
    name="standard",
    about="for one GPU: ResNet-50 at output stride 8 on larger images",
    training=TrainingConfig(
        backbone="resnet50", steps=2_000, batch_per_domain=4, crop=(256, 384), precision="bf16", lr=0.01, inner_lr=0.002
    ),
    streets=StreetsSize(256, 512, train_images=1_000, val_images=250),
    train_seeds=(0, 1, 2),
    test_seeds=(0, 1, 2, 3, 4),
    batch_sizes=(1, 2, 4, 8, 16, 32),
    queue_sizes=(4, 8, 16, 32, 64, 128, 256, 512),
    style_layers=(1, 2, 3, 4),
    in_memory=True,
    parallel=False,
)

PAPER = Preset(
    name="paper",
    about="the paper's settings (section 4.1) for the five real data sets; ImageNet weights are not loaded yet",
    training=TrainingConfig(),  # its defaults are the paper's
    streets=StreetsSize(1024, 2048, train_images=3_000, val_images=500),
    train_seeds=(0,),  # the paper trains each row once
    test_seeds=(0, 1, 2, 3, 4),
    batch_sizes=(1, 2, 4, 8, 16),
    queue_sizes=(4, 8, 16, 32, 64, 128, 256, 512),
    style_layers=(1, 2, 3, 4),
    in_memory=False,
    parallel=False,
)

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (TINY, QUICK, STANDARD, PAPER)}


def find_preset(name: str) -> Preset:
    """A preset by name.

    Raises:
        InputError: for an unknown name.
    """
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}; the presets are {', '.join(PRESETS)}")
    return PRESETS[name]
