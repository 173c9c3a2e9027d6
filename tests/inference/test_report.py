import jax
import numpy as np
import pytest

from jaxreg import Line, Linear, Status, fit


@pytest.fixture
def grid(rng):
    x, y = np.arange(20.0), rng.normal(size=(20, 2, 3)).astype("f4")
    y[:, 1, 2] = np.nan
    return x.astype("f4"), y


def test_the_summary_of_one_data_set_has_the_numbers(grid):
    x, y = grid
    found = fit(x, y[:, 0, 0], cov_type="HC1")
    text = found.summary(alpha=0.1)
    for value in (
        found.params[1],
        found.bse[1],
        found.rsquared,
        found.fvalue,
        found.llf,
        *found.conf_int(0.1)[:, 0],
    ):
        assert f"{float(value):.4g}" in text
    for word in ("slope", "intercept", "HC1", "P>|z|", "[0.05", "0.95]", "ok"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_summary_of_many_counts(grid):
    found = fit(*grid)
    text = found.summary()
    assert "5 ok" in text
    assert "1 no_observations at" in text or "1 no_observations" in text
    assert f"{np.nanquantile(found.params[1], 0.5):.4g}" in text
    below = int((np.asarray(found.pvalues[1]) < 0.05).sum())
    assert f"slope: P < 0.05 in {below} of 5 data sets" in text


def test_a_table_of_pandas(grid):
    found = fit(*grid)
    table = found.to_pandas()
    assert table.shape[0] == 6
    np.testing.assert_array_equal(table["slope_bse"], np.asarray(found.bse[1]).ravel())
    assert table.loc[(1, 2), "status"] == Status.no_observations
    one = found[0, 1].to_pandas()
    assert list(one.index) == ["intercept", "slope"]
    np.testing.assert_array_equal(one["pvalue"], found.pvalues[:, 0, 1])


def test_a_dataset_of_xarray(grid):
    found = fit(*grid)
    ds = found.to_xarray(("lat", "lon"), {"lat": [0.0, 1.0]})
    assert ds.slope.dims == ("lat", "lon")
    np.testing.assert_array_equal(ds.slope_pvalue, found.pvalues[1])
    np.testing.assert_array_equal(ds.rsquared, found.rsquared)
    assert "rank_deficient" in ds.status.flag_meanings
    assert ds.cov_type == "nonrobust"
    with pytest.raises(ValueError, match="name 1 axes"):
        found.to_xarray(("cell",))


@pytest.mark.slow
def test_names_of_many_columns(rng):
    x, y = rng.normal(size=(20, 3)), rng.normal(size=20)
    found = fit(x, y, ansatz=Linear())
    assert all(name in found.summary() for name in found.names)
    assert isinstance(found.ansatz, Linear)
    assert not isinstance(found.ansatz, Line)


def test_there_is_no_table_of_what_is_traced(grid):
    with pytest.raises(TypeError, match="summary needs concrete values"):
        jax.jit(lambda x, y: fit(x, y).summary())(*grid)
