"""Regressions of the rows of a data frame: per group, and in windows (extra `frame`)."""

try:
    import narwhals  # noqa: F401
except ModuleNotFoundError:
    raise ModuleNotFoundError('jaxreg.frame needs narwhals: python -m pip install "jaxreg[frame]"') from None

from jaxreg.faces.frame.fits import fit
from jaxreg.faces.frame.windows import expanding, rolling

__all__ = ["expanding", "fit", "rolling"]
