"""All settings of a training run, as one plain dataclass, from which its address and its record are made."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from dglab.data.augmentation import AUGMENTATIONS
from dglab.data.streets.size import StreetsSize
from dglab.models.weights import is_recorded
from dglab.utils.errors import InputError
from dglab.utils.files import parse_json

PRECISIONS = ("32", "bf16")
LARGEST = torch.finfo(torch.float32).max
MOST_STEPS = 10**12
BATCHNORMS = ("process", "synchronized")


@dataclass(frozen=True)
class TrainingConfig:
    """The settings of one training run. Defaults are the paper's where it has them (section 4.1)."""

    method: str = "agg"  # a key of dglab.training.methods.METHODS
    sources: tuple[str, ...] = ()  # letters of the source domains
    data: str | StreetsSize = "streets"  # which data, so that runs on other data have another address
    backbone: str = "resnet50"
    weights: str = ""  # initial ones: "" random, "imagenet" (the publisher's), or the digest of a file's content
    seed: int = 0
    steps: int = 45_000  # 120 epochs of 375 iterations in the authors' code
    batch_per_domain: int = 8  # B
    crop: tuple[int, int] = (600, 600)  # pixels, H x W
    scale: tuple[float, float] = (0.5, 2.0)
    blur: float = 0.5  # probability; the paper says "random"
    lr: float = 5e-3  # gamma, of the outer optimizer
    inner_lr: float = 1e-3  # eta
    alpha: float = 1.0  # weight of L_ds, Eq. 6
    order: int = 1  # 1 as in the authors' code, 2 as in Eq. 6
    split: str = "half"  # meta-train : meta-test; 2:2 of four sources
    modalities: tuple[str, ...] = ("rgb", "depth")  # of GMP, in the order in which the network stacks them
    variant: str = "gmp"  # of GMP: a key of dglab.training.gmp.VARIANTS, or torchjd:PCGrad
    alpha_k: float = 0.5  # of GMP: how much a modality that is ahead in classification is slowed, 0 to 1; ours
    alpha_p: float = 0.5  # of GMP: the same in domain invariance
    running_stats: str = "meta_train"  # which passes of MLDG update BatchNorm's running statistics
    momentum: float = 0.9  # the paper's text swaps momentum and weight decay
    weight_decay: float = 5e-4
    power: float = 0.9  # of the poly schedule
    precision: str = "32"
    processes: int = 1  # that share each batch; BatchNorm averages over the images of one process
    micro_batches: int = 1  # parts of each process's batch; BatchNorm averages over the images of one part
    batchnorm: str = "process"  # or "synchronized": over all processes; CUDA, order 1
    channels_last: bool = False  # memory layout, faster on GPUs
    activation_checkpointing: bool = False  # stage by stage: less memory, more time
    compile: bool = False  # by torch.compile; order 1
    checkpoint_every: int = 500  # steps; a killed run repeats at most so many
    domains_per_pass: int = 0  # of AGG: K domains in each forward pass of four images; 0: one pass for the batch
    augmentation: str = "paper"  # or "authors": also what their code does and the paper does not mention

    def __post_init__(self) -> None:
        for name in ("steps", "batch_per_domain", "checkpoint_every", "processes", "micro_batches"):
            self._expect(name, lambda value: value >= 1, "1 or more")
        self._expect("steps", lambda steps: steps <= MOST_STEPS, f"{MOST_STEPS} or fewer")
        self._expect("domains_per_pass", lambda count: count >= 0, "1 or more, or 0 for the whole batch in one pass")
        for name in ("lr", "inner_lr", "alpha", "weight_decay", "power"):
            self._expect(name, lambda value: 0 <= value < math.inf, "a finite number of 0 or more")
            self._expect(name, lambda value: value <= LARGEST, f"a number that a weight can be, up to {LARGEST:.2g}")
        for name in ("blur", "momentum", "alpha_k", "alpha_p"):
            self._expect(name, lambda value: 0 <= value <= 1, "a number from 0 to 1")
        # the blur's kernel reaches two pixels beyond the edge, which are mirrored
        self._expect("crop", lambda crop: len(crop) == 2 and min(crop) >= 3, "height and width, each 3 or more")
        self._expect(
            "scale",
            lambda scale: len(scale) == 2 and 0 < scale[0] <= scale[1] < math.inf,
            "the smallest and the largest factor, both above 0",
        )
        self._expect("augmentation", lambda name: name in AUGMENTATIONS, f"one of {', '.join(AUGMENTATIONS)}")
        self._expect("precision", lambda precision: precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}")
        self._expect("weights", is_recorded, "imagenet, nothing for random ones, or a digest (sha256: and 16 digits)")
        self._expect("batchnorm", lambda batchnorm: batchnorm in BATCHNORMS, f"one of {', '.join(BATCHNORMS)}")
        parts = self.processes * self.micro_batches
        self._expect(
            "batch_per_domain",
            lambda batch: batch % parts == 0,
            f"a multiple of {parts}, for {self.processes} process(es) with {self.micro_batches} micro-batch(es) each",
        )
        self._expect(
            "compile",
            lambda chosen: not (chosen and self.activation_checkpointing),
            "False together with activation_checkpointing",
        )
        self._expect("sources", lambda sources: len(set(sources)) == len(sources), "each domain once")

    def _expect(self, name: str, fits: Callable[[Any], bool], expected: str) -> None:
        value = getattr(self, name)
        if not fits(value):
            raise InputError(f"{name} is {value!r}; expected {expected}")

    def to_json(self) -> str:
        """One line of JSON with sorted keys: equal settings, equal text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "TrainingConfig":
        """The settings back from :meth:`to_json`.

        Raises:
            ValueError: for text that is no JSON object, and InputError for settings out of range.
            TypeError: for settings that this version does not know.
        """
        values = parse_json(text)
        if not isinstance(values, dict):
            raise ValueError(f"the settings of a run are a JSON object, got {text!r}")
        if isinstance(values.get("data"), dict):
            values["data"] = _checked(StreetsSize(**values["data"]), {})
        return _checked(cls(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}), _TYPES)

    @property
    def address(self) -> str:
        """A readable name of the run: method, sources, seed, and a hash of all settings that are not the default.

        A setting that a later version adds does not change the addresses of finished runs. (If a default changes,
        :func:`dglab.training.train` notices, because it compares the settings themselves.)
        """
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}
        digest = hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode()).hexdigest()[:10]
        return f"{self.method}_{'+'.join(self.sources)}_seed{self.seed}_{digest}"


_TYPES: dict[str, Any] = {  # type by field, (type,) for a tuple of them; fields not named here are integers
    **{f.name: int | float for f in dataclasses.fields(TrainingConfig) if isinstance(f.default, float)},
    **{f.name: type(f.default) for f in dataclasses.fields(TrainingConfig) if isinstance(f.default, str | bool)},
    "data": str | StreetsSize,
    "sources": (str,),
    "modalities": (str,),
    "crop": (int,),
    "scale": (int | float,),
}


def _checked(read: Any, types: dict[str, Any]) -> Any:
    """Check the types of a dataclass read from a file; fields that ``types`` does not name are integers."""
    for name, value in vars(read).items():
        kind = types.get(name, int)
        alone = not isinstance(kind, tuple)
        if not (alone or isinstance(value, tuple)):
            raise TypeError(f"{name} is {value!r}, expected several values")
        for one in [value] if alone else value:
            kind_of_one = kind if alone else kind[0]
            if not isinstance(one, kind_of_one) or (isinstance(one, bool) and kind_of_one is not bool):
                raise TypeError(f"{name} is {value!r}, expected {kind_of_one}")
    return read


def differences(a: TrainingConfig, b: TrainingConfig) -> str:
    """Which settings differ, in words: ``steps (300 and 400), lr (0.05 and 0.1)``; empty if none does."""
    pairs = ((f.name, getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    return ", ".join(f"{name} ({x} and {y})" for name, x, y in pairs if x != y)
