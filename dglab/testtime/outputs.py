"""What a model returns for several images, of any structure: taken apart and put together again.

Which parts have one row per image cannot be seen from their length: five class prototypes beside the outputs of five
images do not. It is found out once, from what changes with the number of images.
"""

import argparse
import copy
import dataclasses
import types
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import SUPPORTED_NODES

from dglab.testtime.override import normalizing_with
from dglab.utils.errors import InputError

NAMESPACES = (types.SimpleNamespace, argparse.Namespace)
FORMS = "tensors, alone or in lists, tuples, dictionaries, dataclasses or namespaces"


class Rows:
    """Which parts of a model's output have one row per image, and along which dimension.

    Args:
        model: the network.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._known: dict[tuple, dict[str, int]] = {}  # by structure of the output: batch dimension of each part

    def first(self, output: Any, images: Tensor) -> Any:
        """A model's output for N images, cut down to the first of them; N = 1 changes nothing."""
        along = self.along(output, images)

        def cut(path: str, part: Any) -> Any:
            if path not in along or part.shape[along[path]] == 1:
                return part
            return part.narrow(along[path], 0, 1).clone()  # a view would keep the others in memory

        return mapped(cut, output)

    def joined(self, outputs: Sequence[Any], image: Tensor) -> Any:
        """Concatenate outputs for one image each; parts without rows are those of the last output.

        Args:
            outputs: one or more.
            image: any of the images, 1 x 3 x H x W.
        """
        if len(outputs) == 1:
            return outputs[0]
        along, all_parts = self.along(outputs[-1], image), [parts_of(output) for output in outputs]
        if any(parts.keys() != all_parts[0].keys() for parts in all_parts):
            raise InputError("the model returns other parts for some images than for others; pass one at a time")
        return mapped(
            lambda path, part: torch.cat([ps[path] for ps in all_parts], along[path]) if path in along else part,
            outputs[-1],
        )

    def along(self, output: Any, images: Tensor) -> dict[str, int]:
        """The batch dimension of each part that has one row per image, by the part's path.

        Args:
            output: what the model returned.
            images: what it was given, N x 3 x H x W.

        Raises:
            InputError: naming a part that cannot be split, or that depends on the number of images in another way.
        """
        form = tuple((path, part.ndim) for path, part in parts_of(output).items() if isinstance(part, Tensor))
        if form not in self._known:
            self._known[form] = _evident(output, len(images)) or self._found_out(images[:1], form)
        return self._known[form]

    def _found_out(self, image: Tensor, form: tuple) -> dict[str, int]:
        """Found by running the model on one image, and on two copies of it."""
        with normalizing_with(self.model, lambda name, x, source: source):
            one, two = parts_of(self.model(image)), parts_of(self.model(torch.cat([image, image])))
        other = (one.keys() ^ two.keys()) | ({path for path, _ in form} - one.keys())
        if other:
            raise InputError(
                f"the model returns {_named(min(other))} for some numbers of images and not for others, so that its "
                f"output cannot be taken apart; let it return the same {FORMS}"
            )
        along = {path: dim for path in one if (dim := _dimension(path, one[path], two[path])) is not None}
        if not along:
            raise InputError("the model returns nothing that has a row for each image, so that there is no prediction")
        return along


def _evident(output: Any, count: int) -> dict[str, int]:
    """For a single tensor: the only dimension that is as long as the number of images, if there is just one."""
    dims = [dim for dim, length in enumerate(output.shape) if length == count] if isinstance(output, Tensor) else []
    return {"": dims[0]} if len(dims) == 1 else {}


def _dimension(path: str, one: Any, two: Any) -> int | None:
    """The batch dimension of a part, judged by its value for one and for two images; None if it has none."""
    if _size(one) == _size(two):
        return None
    if isinstance(one, Tensor) and isinstance(two, Tensor) and one.ndim == two.ndim:
        changed = [dim for dim in range(one.ndim) if one.shape[dim] != two.shape[dim]]
        if len(changed) == 1 and (one.shape[changed[0]], two.shape[changed[0]]) == (1, 2):
            return changed[0]
    raise InputError(
        f"{_named(path)} of the model's output is {_size(one)} for one image and {_size(two)} for two: it changes with "
        f"their number and has not one row for each, so that it cannot be taken apart; let the model return {FORMS}, "
        "with one row for each image"
    )


def _size(part: Any) -> Any:
    """What of a part may depend on the number of images: its shape, its length, or the value of an integer."""
    if hasattr(part, "shape"):
        return tuple(part.shape)
    if isinstance(part, int) and not isinstance(part, bool):
        return part
    return f"{len(part)} long" if hasattr(part, "__len__") and not isinstance(part, (str, bytes)) else None


def _named(path: str) -> str:
    return f"part {path!r}" if path else "all"


def parts_of(output: Any) -> dict[str, Any]:
    """The leaves of an output by path: ``"aux.0"`` is the first element of a list ``aux``."""
    parts: dict[str, Any] = {}
    mapped(lambda path, part: parts.setdefault(path, part), output)
    return parts


def mapped(function: Callable[[str, Any], Any], value: Any, path: str = "") -> Any:
    """An output of the same structure, in which each leaf is ``function(path, leaf)``.

    Raises:
        InputError: for a container that holds tensors and cannot be taken apart or put together.
    """

    def below(key: Any, part: Any) -> Any:
        return mapped(function, part, f"{path}.{key}" if path else str(key))

    if value is None or isinstance(value, (Tensor, str, bytes, int, float, complex)):
        return function(path, value)
    if isinstance(value, MutableMapping):
        return _with_items(value, {key: below(key, part) for key, part in value.items()}, path)
    if isinstance(value, (list, tuple)):
        return _with_elements(value, [below(key, part) for key, part in enumerate(value)], path)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
        return _with_attributes(value, {name: below(name, getattr(value, name)) for name in names}, path)
    if isinstance(value, NAMESPACES):
        return _with_attributes(value, {name: below(name, part) for name, part in vars(value).items()}, path)
    if type(value) in SUPPORTED_NODES:  # registered with torch
        parts, context = SUPPORTED_NODES[type(value)].flatten_fn(value)
        new = [below(key, part) for key, part in enumerate(parts)]
        return SUPPORTED_NODES[type(value)].unflatten_fn(new, context)
    if _holds_tensors(value):
        raise _refused(value, path)
    return function(path, value)


def _with_items(old: MutableMapping, items: dict[Any, Any], path: str) -> Any:
    """A copy of a mapping, of the same class and with its other attributes, with new values."""
    own = getattr(old, "__dict__", {})
    if own is not old:  # some are their own attributes
        _refuse_hidden(old, {name: part for name, part in own.items() if old.get(name) is not part}, path)
    new = copy.copy(old)
    if own is old:
        new.__dict__ = new
    for key, part in items.items():
        new[key] = part
        if own is not old and key in own:
            own_of_new = vars(new)
            own_of_new[key] = part
    return new


def _with_elements(old: Sequence, parts: list[Any], path: str) -> Any:
    """A list or tuple of the same class, with new elements."""
    _refuse_hidden(old, getattr(old, "__dict__", {}), path)
    try:
        return type(old)._make(parts) if hasattr(old, "_make") else type(old)(parts)
    except TypeError as error:
        raise _refused(old, path) from error


def _with_attributes(old: Any, attributes: dict[str, Any], path: str) -> Any:
    """A copy of an object, of the same class, with new attributes; works for frozen ones, too."""
    others = {name: part for name, part in getattr(old, "__dict__", {}).items() if name not in attributes}
    _refuse_hidden(old, others, path)
    new = copy.copy(old)
    for name, part in attributes.items():
        object.__setattr__(new, name, part)
    return new


def _refuse_hidden(value: Any, attributes: Mapping[str, Any], path: str) -> None:
    """Refuse tensors in other attributes than the class is known to have."""
    if any(_holds_tensors(part) for part in attributes.values()):
        raise _refused(value, path)


def _refused(value: Any, path: str) -> InputError:
    where = f", in {path!r}," if path else ""
    return InputError(
        f"the model returns{where} a {type(value).__name__}, which holds tensors and cannot be taken apart and put "
        f"together again; let it return {FORMS}"
    )


def _holds_tensors(value: Any, depth: int = 3) -> bool:
    """Whether an object is a tensor or holds one, down to ``depth`` levels."""
    if isinstance(value, Tensor) or depth == 0:
        return isinstance(value, Tensor)
    inside = list(getattr(value, "__dict__", {}).values())
    inside += [getattr(value, name, None) for kind in type(value).__mro__ for name in _slots(kind)]
    if isinstance(value, Mapping):
        inside += value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        inside += value
    return any(_holds_tensors(part, depth - 1) for part in inside)


def _slots(kind: type) -> Sequence[str]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)
