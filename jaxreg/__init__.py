"""Millions of small regressions in one call, with gradients through the fit.

In reading order: what is fitted, how, the fit and its inference, and regression as mechanics after the paper
"Machine Learning for the eager theorist", whose equation numbers docstrings give as of the seed paper.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxreg import frame as frame
    from jaxreg import physics as physics
    from jaxreg import plot as plot
    from jaxreg import sklearn as sklearn
    from jaxreg import widget as widget
    from jaxreg import xarray as xarray
    from jaxreg.public import *  # noqa: F403
    from jaxreg.public import __all__ as __all__

    __version__: str

FACES = (
    "frame",
    "physics",
    "plot",
    "sklearn",
    "widget",
    "xarray",
)  # imported when they are used: each needs an extra


def __dir__() -> list[str]:
    return [*import_module("jaxreg.public").__all__, *FACES, "__version__"]


def __getattr__(name: str) -> Any:
    """Import what is used, so that the program starts, and can be interrupted, before JAX is there."""
    if name in FACES:
        return import_module(f"jaxreg.{name}")
    if name == "__version__":
        return import_module("importlib.metadata").version("jaxreg")
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module 'jaxreg' has no attribute {name!r}")
    public = import_module("jaxreg.public")
    if name != "__all__" and name not in public.__all__:
        raise AttributeError(f"module 'jaxreg' has no attribute {name!r}")
    return getattr(public, name)
