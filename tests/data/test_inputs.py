import datetime

import cftime
import jax
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from jaxreg import ClosedForm, GradientDescent, Line, Linear, fit
from jaxreg.data.checks import check_options
from jaxreg.solvers.descent import check_steps

X = np.arange(5.0)
Y = np.arange(10.0).reshape(5, 2)
T = np.arange("2020-01-01", "2020-01-06", dtype="datetime64[D]")
DATES = [datetime.date(2020, 1, day) for day in range(1, 6)]
DATETIMES = [datetime.datetime(2020, 1, day) for day in range(1, 6)]
ZONED = pd.date_range("2020-01-01", periods=5, tz="Europe/Berlin")
PERIODS = pd.period_range("2020-01", periods=5, freq="M")
NOLEAP = np.array([cftime.DatetimeNoLeap(2020, 1, day) for day in range(1, 6)])


def other_cost(params, x, y, weights=None, *, ansatz=None):
    return abs(y).sum()


MISTAKES = {
    "too short x": (ValueError, r"x has shape \(4,\) and y \(5, 2\).*\(5,\).*\(5, 2\)", (X[:4], Y), {}),
    "x of other data sets": (ValueError, r"\(5, 3\).*takes x of shape", (np.ones((5, 3)), Y), {}),
    "x a number": (ValueError, r"x has shape \(\)", (1.0, Y), {}),
    "vectors for a line": (ValueError, r"\(5, 2\) and y \(5,\)", (Y, X), {}),
    "numbers for vectors": (ValueError, r"pass x\[:, None\]", (X, Y), {"ansatz": Linear()}),
    "y transposed": (ValueError, r"pass y.T", (X, Y[:, :2].T), {}),
    "one y on many x": (ValueError, r"np.broadcast_to\(y\[:, None\], x.shape\)", (Y, X), {}),
    "y a number": (ValueError, r"y has shape \(\)", (X, 1.0), {}),
    "no observations": (ValueError, r"y has shape \(0,\).*not empty", (X[:0], X[:0]), {}),
    "no data sets": (ValueError, r"y has shape \(5, 0\)", (X, Y[:, :0]), {}),
    "times": (TypeError, r"x holds times.*\(x - x\[0\]\) / np.timedelta64", (T, Y), {}),
    "durations": (TypeError, r"y holds times", (X, T - T[0]), {}),
    "complex": (TypeError, r"y holds complex128; pass real", (X, 1j * Y), {}),
    "strings": (TypeError, r"x holds <U.*pass real", (np.array(list("abcde")), Y), {}),
    "objects": (TypeError, r"y holds numbers as objects; pass float32", (X, Y.astype(object)), {}),
    "None": (TypeError, r"y holds None; pass NaN", (X, [1.0, None, 3, 4, 5]), {}),
    "anything": (TypeError, r"y holds objects \(dict\); pass real", (X, [{}, 1, 2, 3, 4]), {}),
    "ragged": (ValueError, r"y is not an array of numbers.*inhomogeneous", (X, [[1, 2], [3]]), {}),
    "dates": (TypeError, r"x holds times \(datetime.date\); pass numbers", (DATES, Y), {}),
    "datetimes": (TypeError, r"x holds times \(datetime.datetime\).*np.timedelta64\(1", (DATETIMES, Y), {}),
    "timedeltas": (
        TypeError,
        r"x holds times \(datetime.timedelta\)",
        ([d - DATES[0] for d in DATES], Y),
        {},
    ),
    "time zones": (TypeError, r"x holds times \(pandas.*Timestamp\)", (ZONED, Y), {}),
    "zoned series": (TypeError, r"x holds times \(pandas.*Timestamp\)", (pd.Series(ZONED), Y), {}),
    "periods": (TypeError, r"x holds times \(pandas.*Period\).*to_timestamp\(\)", (PERIODS, Y), {}),
    "cftime": (TypeError, r"x holds times \(cftime.*\).*cftime.date2num", (NOLEAP, Y), {}),
    "sparse x": (TypeError, r"x is a sparse csr_array", (scipy.sparse.csr_array(Y), X), {"ansatz": Linear()}),
    "sparse y": (TypeError, r"y is a sparse coo_matrix", (X, scipy.sparse.coo_matrix(Y)), {}),
    "half": (TypeError, r"y is float16.*pass y.astype\(.float32.\)", (X, Y.astype("f2")), {}),
    "half weights": (TypeError, "weights is float16", (X, Y), {"weights": X.astype("f2")}),
    "both weights": (ValueError, "weights and sigma; pass one", (X, Y), {"weights": X, "sigma": X}),
    "weights": (ValueError, r"weights has shape \(4,\).*\(5,\)", (X, Y), {"weights": X[:4]}),
    "sigma": (ValueError, r"sigma has shape \(2,\).*\(5, 2\)", (X, Y), {"sigma": X[:2]}),
    "nan_policy": (ValueError, "nan_policy is one of .*'omit'.*'drop'", (X, Y), {"nan_policy": "drop"}),
    "cov_type": (ValueError, "cov_type is one of .*nonrobust.*'HC9'", (X, Y), {"cov_type": "HC9"}),
    "block_size 0": (ValueError, "block_size is .*got 0", (X, Y), {"block_size": 0}),
    "block_size True": (ValueError, "block_size is .*got True", (X, Y), {"block_size": True}),
    "block_size word": (ValueError, "block_size is .*'all'", (X, Y), {"block_size": "all"}),
    "class of ansatz": (TypeError, r"ansatz is an object such as Line\(\)", (X, Y), {"ansatz": Line}),
    "closed form of a cost": (
        ValueError,
        r"pass Newton\(\)",
        (X, Y),
        {"cost": other_cost, "solver": ClosedForm()},
    ),
    "NaN": (ValueError, "x has NaN", (np.where(X > 3, np.nan, X), Y), {"nan_policy": "raise"}),
    "NaN weight": (
        ValueError,
        "weights has NaN",
        (X, Y),
        {"weights": np.where(X > 3, np.nan, 1), "nan_policy": "raise"},
    ),
    "lost x": (ValueError, r"x is float64 and y float32.*x - x\[0\]", (1.6e9 + X, Y.astype("f4")), {}),
    "lost whole x": (
        ValueError,
        r"x is int64 and y float32",
        (2**60 + 2**34 + np.arange(5), Y.astype("f4")),
        {},
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_at_once(mistake):
    error, message, arguments, options = MISTAKES[mistake]
    with pytest.raises(error, match=f"(?s){message}"):
        fit(*arguments, **options)


def test_two_learning_rates_are_one_too_many():
    import optax

    with pytest.raises(ValueError, match="carries its own learning rate"):
        GradientDescent(optax.adam(0.1), learning_rate=0.1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"solver": ClosedForm}, "solver is an object such as|parameter 'solver'"),
        ({"cost": "mse"}, "cost is a function.*'mse'|parameter 'cost'"),
    ],
)
def test_an_option_of_a_wrong_kind_is_named(option, message):
    """Asked of the check itself: in the tests the annotations of `fit` would speak first."""
    options = {
        "ansatz": Line(),
        "cost": other_cost,
        "solver": ClosedForm(),
        "nan_policy": "omit",
        "block_size": "auto",
    }
    with pytest.raises(TypeError, match=message):
        check_options(**(options | option))


@pytest.mark.parametrize("steps", [-1, 0.5, True])
def test_steps_of_the_solver_are_checked(steps):
    with pytest.raises(ValueError, match=f"steps.*{steps}"):
        check_steps(steps)


def test_raise_needs_values():
    with pytest.raises(ValueError, match="none under jit"):
        jax.jit(lambda y: fit(X, y, nan_policy="raise"))(Y.astype("f4"))


@pytest.mark.slow
def test_what_float32_keeps_well_enough_is_taken():
    year = np.arange(1960, 1965)
    found = fit(year, Y.astype("f4"))
    assert found.params.dtype == np.float32
    np.testing.assert_allclose(found.params[1], 2, rtol=1e-6)


@pytest.mark.slow
def test_the_arguments_are_left_as_they_were():
    x, y, w = X.copy(), np.where(Y > 7, np.nan, Y), np.ones(5)
    before = x.copy(), y.copy(), w.copy()
    fit(x, y, weights=w, nan_policy="propagate")
    for a, b in zip((x, y, w), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("size", [4, 8])
def test_the_other_order_of_bytes(rng, size):
    """As in FITS files: x, y and weights may have it, and the answer has not."""
    x, y = rng.normal(size=20), rng.normal(size=(20, 3))
    w = rng.uniform(1, 2, size=20)
    native = fit(*(a.astype(f"=f{size}") for a in (x, y)), weights=w.astype(f"=f{size}"))
    found = fit(*(a.astype(f">f{size}") for a in (x, y)), weights=w.astype(f">f{size}"))
    np.testing.assert_array_equal(found.params, native.params)
    assert found.params.dtype == f"=f{size}"


@pytest.mark.slow
def test_block_size_may_be_a_number_of_numpy(rng):
    y = rng.normal(size=(20, 30))
    np.testing.assert_array_equal(fit(y[:, 0], y, block_size=np.int64(16)).params, fit(y[:, 0], y).params)


def test_a_sigma_beyond_the_others_leaves_all_data_sets_alone(rng):
    x, y = np.arange(20, dtype="f4"), rng.normal(size=(20, 3)).astype("f4")
    sigma = np.ones((20, 3), "f4")
    plain = fit(x, y, sigma=sigma)
    sigma[3, 1] = 1e20
    found = fit(x, y, sigma=sigma)
    np.testing.assert_array_equal(found.params[:, [0, 2]], plain.params[:, [0, 2]])
    np.testing.assert_array_equal(found.nobs, 20)
    without = y.astype("f8")
    without[3, 1] = np.nan
    np.testing.assert_allclose(found.params, fit(x, without.astype("f4")).params, rtol=1e-5)


@pytest.mark.slow
def test_integers_that_float32_does_not_hold_are_fitted_in_float64():
    found = fit(np.arange(5, dtype="f4"), 2**24 + np.arange(5))
    assert found.params.dtype == np.float64
    np.testing.assert_array_equal(found.params, [2**24, 1])
    assert fit(np.arange(5, dtype="f4"), np.arange(5)).params.dtype == np.float32


def test_weights_beyond_the_range_of_y_are_named():
    x = np.arange(5, dtype="f4")
    with pytest.raises(ValueError, match="weights has values such as 1e-50, beyond the range of float32"):
        fit(x, x, weights=np.full(5, 1e-50))
