"""Fits along a dimension of DataArrays, with coordinates, times, units and dask (extra `xarray`)."""

try:
    import xarray  # noqa: F401
except ModuleNotFoundError:
    raise ModuleNotFoundError('jaxreg.xarray needs xarray: python -m pip install "jaxreg[xarray]"') from None

from jaxreg.faces.xarray import detrend, false_discovery, fit, fit_to_zarr, predict, residuals

__all__ = ["detrend", "false_discovery", "fit", "fit_to_zarr", "predict", "residuals"]
