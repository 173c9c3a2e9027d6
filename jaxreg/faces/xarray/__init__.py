"""The face of xarray: one `apply_ufunc` per function, which keeps coordinates and leaves dask lazy."""

from jaxreg.faces.xarray.discoveries import false_discovery
from jaxreg.faces.xarray.fits import fit
from jaxreg.faces.xarray.prediction import predict
from jaxreg.faces.xarray.series import detrend, residuals
from jaxreg.faces.xarray.stores import fit_to_zarr

__all__ = ["detrend", "false_discovery", "fit", "fit_to_zarr", "predict", "residuals"]
