"""Pictures; each function draws into the axes it is given and returns them (extra `plot`)."""

try:
    import matplotlib  # noqa: F401
except ModuleNotFoundError:
    raise ModuleNotFoundError('jaxreg.plot needs matplotlib: python -m pip install "jaxreg[plot]"') from None

from jaxreg.faces.plot._axes import axes
from jaxreg.faces.plot.fits import fit, lines, pvalues, residuals
from jaxreg.faces.plot.maps import trend_map
from jaxreg.faces.plot.mechanics import amplitude, descent, phase_portrait
from jaxreg.faces.plot.surface import cost_surface

__all__ = [
    "amplitude",
    "axes",
    "cost_surface",
    "descent",
    "fit",
    "lines",
    "phase_portrait",
    "pvalues",
    "residuals",
    "trend_map",
]
