"""Every kind of corruption, planted among healthy data sets, which must not feel it."""

import numpy as np
import pytest

from jaxreg import ClosedForm, FitError, Line, Linear, Polynomial, Status, fit

N, M = 24, 40
WITHOUT_DIGITS = ("constant y",)  # a slope that is 0
TINY, HUGE = {"float32": (1e-30, 1e30), "float64": (1e-300, 1e150)}, {"float32": 3e38, "float64": 1.7e308}


def corruptions(dtype):
    """name → (function of (x, y, w) of one data set, its status)."""
    low, high = TINY[dtype.name]
    subnormal = np.finfo(dtype).smallest_subnormal * 5
    huge = HUGE[dtype.name]
    sign = np.where(np.arange(N) % 2, -1, 1)

    def change(x=None, y=None, w=None):
        def apply(data):
            for part, new in zip(data, (x, y, w), strict=True):
                if new is not None:
                    part[...] = new(part.copy())

        return apply

    def put(value, where=slice(3, 4)):
        def of(a):
            a[where] = value
            return a

        return of

    return {
        "one NaN in y": (change(y=put(np.nan)), Status.ok),
        "one NaN in x": (change(x=put(np.nan)), Status.ok),
        "inf in y": (change(y=put(np.inf)), Status.invalid_data),
        "-inf in x": (change(x=put(-np.inf)), Status.invalid_data),
        "all y missing": (change(y=put(np.nan, slice(None))), Status.no_observations),
        "all x missing": (change(x=put(np.nan, slice(None))), Status.no_observations),
        "one observation": (change(y=put(np.nan, slice(1, None))), Status.too_few_observations),
        "two observations": (change(y=put(np.nan, slice(2, None))), Status.exact_fit),
        "constant x": (change(x=put(0.1, slice(None))), Status.rank_deficient),
        "constant y": (change(y=put(0.1, slice(None))), Status.ok),
        "zero weights": (change(w=put(0, slice(None))), Status.no_observations),
        "one zero weight": (change(w=put(0)), Status.ok),
        "a negative weight": (change(w=put(-1)), Status.invalid_data),
        "a NaN weight": (change(w=put(np.nan)), Status.invalid_data),
        "an infinite weight": (change(w=put(np.inf)), Status.invalid_data),
        "a subnormal x": (change(x=put(subnormal)), Status.ok),
        "subnormal y": (change(y=lambda y: y * 0 + subnormal), Status.ok),
        "x in a tiny range": (change(x=lambda x: x * dtype.type(low)), Status.ok),
        "x in a huge range": (change(x=lambda x: x * dtype.type(high)), Status.ok),
        "y near overflow": (change(y=lambda y: huge / 2 * sign * (1 - 0.1 * np.arange(N) / N)), Status.ok),
        "x near overflow": (change(x=lambda x: huge / 2 * np.linspace(-1, 1, N)), Status.out_of_range),
    }


@pytest.fixture
def healthy(rng, dtype):
    x = rng.normal(size=(N, M)).astype(dtype)
    y = (1 + 2 * x + rng.normal(size=(N, M))).astype(dtype)
    w = rng.uniform(0.5, 2, size=(N, M)).astype(dtype)
    return x, y, w


FIELDS = ("params", "bse", "cost", "ssr", "nobs", "df_resid", "status", "digits")


def assert_same_bits(a, b, columns):
    for name in FIELDS:
        np.testing.assert_array_equal(
            np.asarray(getattr(a, name))[..., columns],
            np.asarray(getattr(b, name))[..., columns],
            err_msg=name,
        )


@pytest.mark.slow_in("float64")
def test_every_corruption_stays_in_its_data_set(healthy, dtype):
    x, y, w = (a.copy() for a in healthy)
    wanted = {}
    for i, (apply, status) in enumerate(corruptions(dtype).values()):
        column = 1 + i if i % 2 else M - 1 - i
        apply(tuple(a[:, column] for a in (x, y, w)))
        wanted[column] = status
    found, clean = fit(x, y, weights=w), fit(*healthy[:2], weights=healthy[2])
    assert_same_bits(found, clean, [i for i in range(M) if i not in wanted])
    names = dict(zip(wanted, corruptions(dtype), strict=True))
    for column, status in wanted.items():
        assert found.status[column] == status, names[column]
        has_params = Status(status).has_params
        assert np.isfinite(found.params[:, column]).all() == has_params, names[column]
        assert np.isnan(found.params[:, column]).all() != has_params, names[column]
        if status not in (Status.ok,):
            assert np.isnan(found.bse[:, column]).all(), names[column]
        assert (found.digits[column] > 0) == has_params or names[column] in WITHOUT_DIGITS, names[column]


@pytest.mark.slow
def test_a_shared_design_keeps_its_healthy_data_sets(rng, dtype):
    """Gaps and infinities of y in a design of several columns that all data sets share."""
    x = rng.normal(size=(N, 6)).astype(dtype)
    y = rng.normal(size=(N, M)).astype(dtype)
    clean = fit(x, y, ansatz=Linear())
    broken = y.copy()
    broken[2, 3], broken[0, 7], broken[:, 11], broken[5:, 17] = np.inf, np.nan, np.nan, np.nan
    found = fit(x, broken, ansatz=Linear())
    assert_same_bits(found, clean, [i for i in range(M) if i not in (3, 7, 11, 17)])
    assert [Status(int(found.status[i])).name for i in (3, 7, 11, 17)] == [
        "invalid_data",
        "ok",
        "no_observations",
        "too_few_observations",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("ansatz", [Linear(), Linear(intercept=False), Polynomial(30)])
def test_more_params_than_observations_are_too_few_observations(rng, dtype, ansatz):
    x = rng.normal(size=(20, 25) if ansatz.x_is_vector else 20).astype(dtype)
    found = fit(x, rng.normal(size=(20, 3)).astype(dtype), ansatz=ansatz)
    assert (found.status == Status.too_few_observations).all()
    assert np.isnan(found.params).all()
    assert found.params.shape[1] == 3
    assert (found.digits == 0).all()


@pytest.mark.slow
def test_duplicate_columns_are_rank_deficient_in_every_data_set(rng, dtype):
    a = rng.normal(size=(N, 2, M)).astype(dtype)
    a[:, 1, 5] = a[:, 0, 5]
    found = fit(a, rng.normal(size=(N, M)).astype(dtype), ansatz=Linear())
    assert found.status[5] == Status.rank_deficient
    assert (np.delete(np.asarray(found.status), 5) == Status.ok).all()


def test_raise_for_status_names_how_many_and_which(rng):
    y = rng.normal(size=(N, 3, 5))
    y[:, 1, 2] = np.nan
    y[4, 2, 0] = np.inf
    found = fit(np.arange(float(N)), y)
    with pytest.raises(FitError, match=r"2 of 15 data sets failed") as error:
        found.raise_for_status()
    assert "1 no_observations at (1, 2): not one valid" in str(error.value)
    assert "1 invalid_data at (2, 0): an infinite" in str(error.value)
    assert found[0].raise_for_status().shape == (5,)


def test_raise_for_status_names_the_first_few_of_many():
    with pytest.raises(FitError, match=r"20 no_observations at 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …:"):
        fit(np.arange(3.0), np.full((3, 20), np.nan)).raise_for_status()
    with pytest.raises(FitError, match=r"1 of 1 data sets failed\n1 no_observations: not"):
        fit(np.arange(3.0), np.full(3, np.nan)).raise_for_status()


def test_params_beyond_the_range_of_the_dtype_have_no_digits():
    x, y = np.linspace(0, 1, 20, dtype="f4"), np.linspace(0, 1, 20, dtype="f4") ** 2
    assert fit(x * np.float32(1e-30), y * np.float32(1e10)).digits == 0
    assert fit(x * np.float32(1e30), y * np.float32(1e-12)).digits == 0


UNITS = {  # of x and y, and whether a slope of 2 has digits in them
    "float64": [(1e-160, 1e160, False), (1e160, 1e-160, False), (1e-300, 1e10, False), (1e-150, 1e150, True)],
    "float32": [(1e-30, 1e30, False), (1e30, 1e-30, False), (1e-36, 1e5, False), (1e-15, 1e15, True)],
}
ANSATZE = {"Line": Line(), "Linear": Linear(), "Polynomial": Polynomial(2)}


@pytest.mark.slow_in("float64")
@pytest.mark.parametrize("name", ANSATZE)
@pytest.mark.parametrize(
    "precision", ["auto", *(pytest.param(p, marks=pytest.mark.slow) for p in ("fast", "certified"))]
)
def test_params_beyond_the_range_of_the_dtype_are_out_of_range(rng, dtype, name, precision):
    t = np.linspace(0, 1, N)
    y = 1 + 2 * t + 0.1 * rng.normal(size=N)
    slope = np.polyfit(t, y, 1)[0]
    x_unit, y_unit = np.transpose([units[:2] for units in UNITS[dtype.name]])
    x, scaled = (t[:, None] * x_unit).astype(dtype), (y[:, None] * y_unit).astype(dtype)
    x = x[:, None] if name == "Linear" else x
    of_all = fit(x, scaled, ansatz=ANSATZE[name], solver=ClosedForm(precision=precision))
    for found, (x_unit, y_unit, fits) in zip(of_all, UNITS[dtype.name], strict=True):
        if fits and name != "Polynomial":
            assert found.status == Status.ok
            assert found.digits > 5
            np.testing.assert_allclose(found.params[1], slope * (y_unit / x_unit), rtol=1e-5)
        else:
            assert found.status == Status.out_of_range
            assert found.digits == 0
            assert np.isnan(found.params).all()
            assert np.isnan(found.bse).all()


@pytest.mark.parametrize("precision", ["auto", "fast", pytest.param("certified", marks=pytest.mark.slow)])
def test_a_power_of_x_that_overflows_is_out_of_range(rng, precision):
    x, y = np.linspace(0, 1, N), rng.normal(size=N)
    assert (
        fit(1e200 * x, y, ansatz=Polynomial(2), solver=ClosedForm(precision=precision)).status
        == Status.out_of_range
    )
    assert fit(1e100 * x, y, ansatz=Polynomial(2), solver=ClosedForm(precision=precision)).status == Status.ok


@pytest.mark.parametrize(("unit", "weight"), [(1e22, 1e-30), (1e-22, 1e30)])
def test_a_sum_of_squares_that_is_a_float32_is_found_though_the_squares_are_none(rng, unit, weight):
    x, y = np.arange(20, dtype="f4"), rng.normal(size=20).astype("f4")
    found = fit(x, y * np.float32(unit), weights=np.full(20, weight, "f4"))
    np.testing.assert_allclose(found.ssr, float(fit(x, y).ssr) * unit**2 * weight, rtol=1e-5)


@pytest.mark.slow_in("float64")
@pytest.mark.parametrize("precision", ["auto", "fast", pytest.param("certified", marks=pytest.mark.slow)])
def test_invalid_data_sets_count_what_is_there(rng, dtype, precision):
    x, y = np.arange(20, dtype=dtype), rng.normal(size=(20, 2)).astype(dtype)
    y[3], y[4, 1] = np.inf, np.nan
    found = fit(x, y, solver=ClosedForm(precision=precision))
    np.testing.assert_array_equal(found.nobs, [20, 19])
    np.testing.assert_array_equal(found.status, Status.invalid_data)
