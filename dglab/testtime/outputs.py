"""What a model returns for several images, taken apart."""

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map


def first_row(output: Any, count: int) -> Any:
    """A model's output for ``count`` images, cut down to the first of them."""
    return tree_map(lambda part: part[:1] if is_rows(part, count) else part, output)


def is_rows(value: Any, count: int) -> bool:
    """Whether a part of a model's output has a row for each of ``count`` images: class prototypes have not."""
    return isinstance(value, Tensor) and value.ndim >= 1 and len(value) == count
