"""Names, dimensions and coordinates come through a fit, and tables of pandas and polars go into it."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from jaxreg import Features, Fit, Linear, fit, load

pytestmark = pytest.mark.either_mode  # dtypes come from the data
X = np.arange(8.0)
Y = np.random.default_rng(5).normal(size=(8, 2, 3)) + X[:, None, None]
GRID = xr.DataArray(
    Y,
    dims=("time", "lat", "lon"),
    coords={
        "time": X,
        "lat": [10.0, 20.0],
        "lon": [1, 2, 3],
        "land": (("lat", "lon"), np.eye(2, 3, dtype=bool)),
    },
)
TABLE = pd.DataFrame({"age": X, "dose": X**2 / 8})


def test_coordinates_of_y_are_those_of_the_results():
    result = fit(GRID.time, GRID)
    dataset = result.to_xarray()
    assert dataset.slope.dims == ("lat", "lon")
    assert set(dataset.coords) == {"lat", "lon", "land"}  # time is the observation
    xr.testing.assert_identical(dataset.lat, GRID.lat.drop_attrs())
    np.testing.assert_array_equal(dataset.land, np.eye(2, 3))
    table = result.to_pandas()
    assert table.index.names == ["lat", "lon"]
    assert float(table.loc[(20.0, 3), "slope"]) == result.params[1, 1, 2]
    renamed = result.to_xarray(("row", "column"))
    assert renamed.slope.dims == ("row", "column")
    assert not renamed.coords


@pytest.mark.parametrize(
    ("index", "dims"),
    [
        (1, {"lat": 1}),
        ((slice(None), 2), {"lon": 2}),
        (slice(None, None, -1), {"lat": slice(None, None, -1)}),
        ((0, slice(1, 3)), {"lat": 0, "lon": slice(1, 3)}),
        ((1, 2), {"lat": 1, "lon": 2}),
        ((..., 2), {"lon": 2}),
        ([1], {"lat": [1]}),
        ((slice(None), np.array([True, False, True])), {"lon": [0, 2]}),
        ((..., np.array([2, 0])), {"lon": [2, 0]}),
    ],
)
def test_an_index_takes_the_coordinates_along(index, dims):
    result, expected = fit(X, GRID)[index], GRID.isel(time=0, drop=True).isel(dims)
    assert result.shape == expected.shape
    assert result.labels.dims == expected.dims
    xr.testing.assert_identical(xr.Dataset(coords=result.labels.coords), xr.Dataset(coords=expected.coords))


def test_slices_of_an_axis_with_many_data_sets():
    y = xr.DataArray(Y.reshape(8, 6), dims=("time", "cell"), coords={"cell": list("abcdef")})
    result = fit(X, y)
    for index, cells in ((slice(2, 5), list("cde")), (slice(None, None, -1), list("fedcba")), (3, "d")):
        _, cell = result[index].labels.coords["cell"]
        assert cell.tolist() == cells
        np.testing.assert_array_equal(result[index].params, result.params[:, index])
    assert result.to_pandas().index.tolist() == list("abcdef")
    pairs = result[np.array([[4, 5]])]  # an index that makes an axis drops the labels
    np.testing.assert_array_equal(pairs.params, result.params[:, None, 4:])
    assert pairs.labels.dims is None


def test_an_empty_index_is_an_empty_fit():
    assert fit(X, GRID)[[]].shape == (0, 3)


def test_an_index_that_moves_axes_drops_the_labels():
    y = xr.DataArray(Y.reshape(8, 2, 1, 3), dims=("time", "a", "b", "c"))
    result = fit(X, y)[0, :, np.array([2, 0])]
    assert result.shape == (2, 1)
    assert result.labels.dims is None


def test_levels_of_stacked_dimensions_are_coordinates(tmp_path):
    y = GRID.drop_vars("land").stack(cell=("lat", "lon"))
    fit(X, y).save(tmp_path / "fit.npz")
    dataset = load(tmp_path / "fit.npz").to_xarray()
    assert set(dataset.coords) == {"lat", "lon"}
    xr.testing.assert_identical(
        dataset.slope.set_index(cell=["lat", "lon"]).unstack("cell"),
        fit(X, GRID.drop_vars("land")).to_xarray().slope,
    )


def test_a_dimension_with_the_name_of_a_param_is_an_error():
    y = GRID.drop_vars("land").rename(lat="slope")
    with pytest.raises(ValueError, match=r"slope is a dimension or coordinate .*pass other dims"):
        fit(X, y).to_xarray()
    assert fit(X, y).to_xarray(("lat", "lon")).slope.dims == ("lat", "lon")


def test_coordinates_of_concatenated_fits():
    result = fit(X, GRID)
    both = Fit.concatenate([result[:, :1], result[:, 1:]])
    assert both.labels == result.labels
    np.testing.assert_array_equal(both.params, result.params)
    relabeled = fit(X, GRID.assign_coords(lat=[30.0, 40.0]).drop_vars("land"))
    coords = Fit.concatenate([result, relabeled], axis=-1).labels.coords
    assert set(coords) == {"lon"}  # lat differs, land is missing
    assert coords["lon"][1].tolist() == [1, 2, 3, 1, 2, 3]
    assert Fit.concatenate([result, fit(X, Y)]).labels.dims is None


def test_observations_on_another_axis_are_an_error():
    with pytest.raises(
        ValueError, match=r"x runs along 'time', which is axis 1 of y .*pass y.transpose\('time'"
    ):
        fit(GRID.time, GRID.transpose("lat", "time", "lon"))
    with pytest.raises(ValueError, match=r"weights has dimensions .*pass weights.transpose\(\*y.dims\)"):
        fit(GRID.time, GRID, weights=xr.ones_like(GRID).transpose("time", "lon", "lat"))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_of_a_table_give_the_names(library):
    pytest.importorskip(library)
    table = TABLE if library == "pandas" else pytest.importorskip("polars").from_dict(TABLE.to_dict("list"))
    result = fit(table, Y, ansatz=Linear())
    assert result.names == result[0].names == ("intercept", "age", "dose")
    data_sets = fit(X, table)
    assert data_sets.labels.dims == ("data_set",)
    assert data_sets.labels.coords["data_set"][1].tolist() == ["age", "dose"]
    np.testing.assert_allclose(data_sets.params[1, 0], 1, rtol=1e-12)
    names = fit(table, Y, ansatz=Linear(names=("a", "b"))).names  # names of the ansatz come first
    assert names == ("intercept", "a", "b")


def test_columns_of_a_table_to_predict_are_those_of_the_fit():
    result = fit(TABLE, Y, ansatz=Linear())
    np.testing.assert_array_equal(result.predict(TABLE), result.predict(TABLE.to_numpy()))
    with pytest.raises(ValueError, match=r"columns of x are dose, age, .* pass x\[\['age', 'dose'\]\]"):
        result.predict(TABLE[["dose", "age"]])
    with pytest.raises(ValueError, match=r"columns of x are a, b, .* pass x with these names, or x.to_numpy"):
        result.predict(TABLE.set_axis(["a", "b"], axis=1))


def test_names_are_as_many_as_columns():
    with pytest.raises(ValueError, match=r"Linear with 3 names .* takes x of shape \(n, 3\)"):
        fit(TABLE, Y, ansatz=Linear(names=("a", "b", "c")))
    with pytest.raises(ValueError, match="names must differ"):
        Linear(names=("a", "a"))
    with pytest.raises(TypeError, match="names"):
        Linear(names="ab")
    with pytest.raises(ValueError, match="one string for each function"):
        Features(lambda x: (x,), ())
    with pytest.raises(ValueError, match=r"one array for each of \('a', 'b'\); got 1"):
        fit(X, Y, ansatz=Features(lambda x: (x,), names=("a", "b")))


def test_contrasts_by_name_are_those_by_number():
    result = fit(TABLE, Y, ansatz=Linear())
    for text, contrast, value in (
        ("age = dose", [0, 1, -1], 0),
        ("dose = 1", [0, 0, 1], 1),
        ("2 * age + dose = 0.5", [0, 2, 1], 0.5),
    ):
        by_name, by_number = result.t_test(text), result.t_test(contrast, value)
        for a, b in zip(by_name, by_number, strict=True):
            np.testing.assert_array_equal(a, b)
    by_name, by_number = result.f_test("age = dose, dose = 1"), result.f_test([[0, 1, -1], [0, 0, 1]], [0, 1])
    np.testing.assert_array_equal(by_name.fvalue, by_number.fvalue)
    with pytest.raises(ValueError, match="names 'x1', but the params are intercept, age, dose"):
        result.t_test("x1 = dose")


def test_residuals_and_fitted_values_are_those_of_numpy():
    y = np.where(np.arange(48).reshape(Y.shape) % 11 == 0, np.nan, Y)
    result = fit(TABLE, y, ansatz=Linear())
    expected = np.einsum("nk,kij->nij", np.column_stack([np.ones(8), TABLE]), result.params)
    np.testing.assert_allclose(result.fittedvalues(TABLE), expected, rtol=1e-12)
    np.testing.assert_array_equal(result.fittedvalues(TABLE), result.predict(TABLE))
    np.testing.assert_allclose(result.resid(TABLE, y), y - expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(np.isnan(result.resid(TABLE, y)), np.isnan(y))
    with pytest.raises(
        ValueError, match=r"resid takes y of shape \(n, 2, 3\), as it was fitted; got \(8, 2\)"
    ):
        result.resid(TABLE, Y[:, :, 0])


NULLABLE = {
    "Int64": pd.Series([3, None, 1, 4, 1, 5, 9, 2], dtype="Int64"),
    "Float64": pd.Series([3, None, 1, 4, 1, 5, 9, 2], dtype="Float64"),
    "boolean": pd.Series([True, None, False, True] * 2, dtype="boolean"),
    "array": pd.array([3, None, 1, 4, 1, 5, 9, 2], dtype="Int64"),
}


@pytest.mark.parametrize("kind", NULLABLE)
def test_missing_values_of_pandas_are_gaps(kind):
    y = NULLABLE[kind]
    numbers = np.array([np.nan if value is pd.NA else float(value) for value in y])
    np.testing.assert_array_equal(fit(X, y).params, fit(X, numbers).params)
    np.testing.assert_array_equal(fit(y, X).params, fit(numbers, X).params)
    table = pd.DataFrame({"a": y, "b": X**2 / 8})
    columns = np.column_stack([numbers, X**2 / 8])
    np.testing.assert_array_equal(fit(X, table).params, fit(X, columns).params)
    result = fit(table, X, ansatz=Linear())
    assert (result.names, result.nobs) == (("intercept", "a", "b"), np.isfinite(numbers).sum())
    np.testing.assert_array_equal(result.params, fit(columns, X, ansatz=Linear()).params)


def test_tables_with_other_contents_are_refused():
    with pytest.raises(TypeError, match="y holds <NA>; pass NaN for missing values"):
        fit(X, [pd.NA, *X[1:]])
    with pytest.raises(TypeError, match=r"y holds objects \(str\); pass real numbers"):
        fit(X, pd.DataFrame({"a": list("abcdefgh"), "b": X}))


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_half_precision_is_refused_for_every_argument(dtype):
    half = X.astype(dtype)
    line = fit(X, X)
    for name, call in (
        ("x", lambda: fit(half, X)),
        ("x", lambda: fit(jnp.asarray(half), X)),
        ("y", lambda: fit(X, half)),
        ("y", lambda: fit(X, np.ma.masked_array(half, half > 5))),
        ("weights", lambda: fit(X, X, weights=half)),
        ("sigma", lambda: fit(X, X, sigma=half)),
        ("x", lambda: line.predict(half)),
        ("x", lambda: line.resid(half, X)),
        ("y", lambda: line.resid(X, half)),
        ("weights", lambda: line.predict(X, "prediction", weights=half)),
    ):
        with pytest.raises(
            TypeError, match=rf'^{name} is b?float16; fits are in .* pass {name}.astype\("float32"\)'
        ):
            call()
