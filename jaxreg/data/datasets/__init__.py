"""Example data that come with the package."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray


def pacific_sst() -> xarray.Dataset:
    """Winter sea surface temperature anomalies of the Pacific, winters ending 1963 to 2012.

    Returns:
        A dataset with the variable `sst` (year 50, lat 18, lon 30) in K, float32, NaN on land.

    Raises:
        ModuleNotFoundError: if xarray or netCDF4 is not installed (extra `xarray`).

    Source: example data of the Python package eofs 2.0.0, November to March means.

    >>> sst = pacific_sst().sst
    >>> sst.shape, sst.units
    ((50, 18, 30), 'K')
    """
    try:
        import xarray
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'pacific_sst needs xarray: python -m pip install "jaxreg[xarray]"'
        ) from None
    with as_file(files("jaxreg.data.datasets") / "pacific_sst.nc") as path:
        return xarray.load_dataset(path, engine="netcdf4")
