import sys

import numpy as np
import pytest

from jaxreg import datasets


def test_pacific_sst_is_what_its_docstring_says():
    found = datasets.pacific_sst()
    assert found.sst.dims == ("year", "lat", "lon")
    assert found.sst.shape == (50, 18, 30)
    assert found.sst.dtype == np.float32
    assert found.sst.units == "K"
    year = found[found.sst.dims[0]].values
    np.testing.assert_array_equal(year, np.arange(1963, 2013))


def test_land_is_missing_and_water_complete_and_anomalous():
    sst = datasets.pacific_sst().sst.values
    missing = np.isnan(sst).sum(axis=0)
    assert set(np.unique(missing)) == {0, 50}
    water = sst[:, missing == 0]
    assert np.abs(water).max() < 10
    assert abs(water.mean()) < 0.5


def test_each_caller_gets_a_copy():
    datasets.pacific_sst().sst[:] = 0
    assert float(np.nanmax(datasets.pacific_sst().sst)) > 0


def test_without_xarray_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ModuleNotFoundError, match=r"jaxreg\[xarray\]"):
        datasets.pacific_sst()
