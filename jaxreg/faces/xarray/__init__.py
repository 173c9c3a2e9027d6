"""The face of xarray: one `apply_ufunc` per function, which keeps coordinates and leaves dask lazy."""

from jaxreg.faces.xarray.discoveries import false_discovery
from jaxreg.faces.xarray.fits import fit
from jaxreg.faces.xarray.prediction import predict
from jaxreg.faces.xarray.series import detrend, residuals

__all__ = ["detrend", "false_discovery", "fit", "predict", "residuals"]
