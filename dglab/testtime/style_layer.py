"""The layer whose output gives the style: finding it, and computing its output."""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from dglab.models.batchnorm import batchnorm_layers
from dglab.testtime.override import normalizing_with
from dglab.utils.errors import InputError
from dglab.utils.interrupts import interrupt_safe_contextmanager


def find_style_layer(model: nn.Module, style_layer: str | int | None) -> str:
    """The path of the module whose output gives the style.

    Args:
        model: a network; ``model.stages`` may list the module paths of its stages, else modules called ``layer1``,
            ``layer2``, ... (torchvision's ResNets, wherever they sit in the model) are its stages.
        style_layer: a module path, a stage number from 1, or None for the first stage.

    Raises:
        InputError: naming the layers to choose from.
    """
    modules = dict(model.named_modules())
    if isinstance(style_layer, str) and style_layer in modules and style_layer:
        return style_layer
    stages = _declared(model, modules)
    stages = stages or [name for i in range(1, 5) for name in modules if name.split(".")[-1] == f"layer{i}"]
    number = 1 if style_layer is None else style_layer
    if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= len(stages):
        return stages[number - 1]
    if stages:
        choice = f"its stages are {', '.join(f'{i} = {s}' for i, s in enumerate(stages, 1))}"
    elif len(modules) == 1:
        choice = f"{type(model).__name__} has no module inside whose path it could be; wrap it in nn.Sequential"
    else:
        paths = _parts(model) or [path for path in modules if path]
        choice = f"{type(model).__name__} declares no stages; name a module path, early in the network, for example "
        choice += f"one of {', '.join(paths[:20])}"
    raise InputError(f"style_layer is {style_layer!r}; {choice}")


def _declared(model: nn.Module, modules: Mapping[str, nn.Module]) -> list[str]:
    """The module paths that ``model.stages`` lists; empty if the attribute is something else, as in some libraries."""
    stages = getattr(model, "stages", None)
    declares = isinstance(stages, (list, tuple)) and all(isinstance(s, str) and s in modules for s in stages)
    return list(stages) if declares else []


def _parts(model: nn.Module) -> list[str]:
    """The paths of the largest modules with at most half of the BatchNorm layers each: candidates for stages."""
    layers = list(batchnorm_layers(model))

    def within(path: str) -> int:
        return sum(name == path or name.startswith(path + ".") for name in layers)

    half = len(layers) / 2
    return [
        path
        for path, _ in model.named_modules()
        if path and 0 < within(path) <= half and ("." not in path or within(path.rpartition(".")[0]) > half)
    ]


def features_of(model: nn.Module, images: Tensor, layer: str) -> Tensor:
    """The output of a module, N x C x H x W, in a pass with source statistics that ends there.

    Raises:
        InputError: for a layer that does not run, or whose output is no N x C x H x W tensor.
    """
    try:
        with normalizing_with(model, lambda name, x, source: source), _stopping_after(model.get_submodule(layer)):
            model(images)
    except _StageReached as reached:
        features = reached.features
    else:
        raise InputError(f"style layer {layer!r} did not run in the model's forward pass; choose another layer")
    if not isinstance(features, Tensor) or features.ndim != 4:
        raise InputError(f"style layer {layer!r} returns no N x C x H x W tensor; choose another layer")
    return features


class _StageReached(Exception):
    """Ends the forward pass after the style layer and carries its output: the layers behind it need not run."""

    def __init__(self, features: Tensor) -> None:
        self.features = features


@interrupt_safe_contextmanager
def _stopping_after(layer: nn.Module) -> Iterator[None]:
    """Within the block, a forward pass ends after this layer, with :class:`_StageReached`."""

    def stop(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        raise _StageReached(output)

    handle = layer.register_forward_hook(stop)
    try:
        yield
    finally:
        handle.remove()
