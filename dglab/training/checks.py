"""Checks of MLDG's settings."""

from torch import nn

from dglab.utils.errors import InputError

RUNNING_STATS = ("meta_train", "both", "none")  # the passes that update BatchNorm's running statistics


def check_mldg(model: nn.Module, order: int, running_stats: str) -> None:
    """Refuse a variant of MLDG that does not exist, or that this model does not support.

    Raises:
        InputError: with what was got and what is expected.
    """
    check_variant(order, running_stats)
    if order == 2:
        check_uncompiled(model)


def check_variant(order: int, running_stats: str) -> None:
    """Refuse a variant of MLDG that does not exist.

    Raises:
        InputError: with what was got and what is expected.
    """
    if order not in (1, 2):
        raise InputError(f"order is {order!r}; expected 1 (first order) or 2 (second order)")
    if running_stats not in RUNNING_STATS:
        raise InputError(f"running_stats is {running_stats!r}; expected one of {', '.join(RUNNING_STATS)}")


def check_uncompiled(model: nn.Module) -> None:
    """Refuse a model that cannot be differentiated twice because it, or a part of it, is compiled.

    Raises:
        InputError: naming the compiled module.
    """
    for name, module in model.named_modules():
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            raise InputError(
                f"order 2 differentiates twice, which compiled modules cannot, and {name or 'the model'} is compiled; "
                "pass the model as it was before torch.compile, or order=1"
            )
