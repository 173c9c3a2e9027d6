"""What algebra says of every fit, on data that hypothesis makes up."""

import os

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxreg import Line, Linear, Polynomial, Status, closed_form, fit, moments

pytestmark = pytest.mark.either_mode

# Few shapes, since each is compiled; the numbers in them are hypothesis's.
N, M = 12, 3
EXAMPLES = int(os.environ.get("EXAMPLES", "8"))  # EXAMPLES=500 pytest tests/test_properties.py
PROPERTY = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
FIELDS = ("params", "bse", "cost", "ssr", "nobs", "df_resid", "status", "digits")
ANSAETZE = [Line(), *(pytest.param(a, marks=pytest.mark.slow) for a in (Polynomial(2), Linear()))]


@st.composite
def regressions(draw, ansatz):
    """x, y and weights of M data sets, of any scale and offset, with gaps."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = 10.0 ** draw(st.integers(-6, 6))
    offset = draw(st.sampled_from([0.0, 1.0, 100.0])) * scale
    x = offset + scale * rng.uniform(-1, 1, size=(N, 3) if ansatz.x_is_vector else N)
    y = rng.normal(size=(N, M)) * 10.0 ** draw(st.integers(-6, 6))
    y[rng.random(y.shape) < draw(st.sampled_from([0.0, 0.2]))] = np.nan
    return x, y, rng.integers(0, 3, size=(N, M)).astype(float)


def for_all_regressions(test):
    """`test(ansatz, x, y, w, draw)` for every ansatz and what hypothesis draws of it."""

    def check(ansatz, draw):
        test(ansatz, *draw.draw(regressions(ansatz)), draw)

    check.__name__ = check.__qualname__ = test.__name__
    check = PROPERTY(given(draw=st.data())(check))
    return pytest.mark.parametrize("ansatz", ANSAETZE, ids=str)(check)


def assert_same(a, b, fields=FIELDS, **tolerance):
    for name in fields:
        left, right = np.asarray(getattr(a, name)), np.asarray(getattr(b, name))
        if tolerance:
            np.testing.assert_allclose(left, right, **tolerance, err_msg=name)
        else:
            np.testing.assert_array_equal(left, right, err_msg=name)


@for_all_regressions
def test_a_change_of_the_units_of_y_by_a_power_of_2_is_exact(ansatz, x, y, w, draw):
    k = draw.draw(st.integers(-20, 20))
    plain, scaled = fit(x, y, ansatz=ansatz), fit(x, y * 2.0**k, ansatz=ansatz)
    np.testing.assert_array_equal(scaled.params, np.asarray(plain.params) * 2.0**k)
    np.testing.assert_array_equal(scaled.bse, np.asarray(plain.bse) * 2.0**k)
    np.testing.assert_array_equal(scaled.ssr, np.asarray(plain.ssr) * 4.0**k)
    assert_same(plain, scaled, ("nobs", "status", "digits"))


@pytest.mark.slow
@for_all_regressions
def test_an_affine_change_of_y_moves_the_params(ansatz, x, y, w, draw):
    a, b = draw.draw(st.floats(0.1, 10)), draw.draw(st.floats(-10, 10))
    scale = np.nanstd(y)
    plain, moved = fit(x, y / scale, ansatz=ansatz), fit(x, a * (y / scale) + b, ansatz=ansatz)
    expected = a * np.asarray(plain.params)
    expected[0] += b
    solved = np.asarray(plain.status) <= Status.exact_fit
    error = 1e-11 * (np.abs(plain.bse) + np.abs(expected)) * (1 + abs(b))
    error = np.where(np.isnan(error), 1e-8 * np.abs(expected).max(), error)
    assert (np.abs(moved.params - expected)[:, solved] <= error[:, solved]).all()


@PROPERTY
@given(draw=st.data())
def test_an_affine_change_of_x_moves_the_line(draw):
    x, y, _ = draw.draw(regressions(Line()))
    k, shift = draw.draw(st.integers(-10, 10)), draw.draw(st.integers(-8, 8))
    unit = 2.0 ** np.ceil(np.log2(np.ptp(x)))
    t = np.round(x / unit * 2**20) / 2**20  # so that the moved x is exact
    plain, moved = fit(t, y), fit((t + shift) * 2.0**k, y)
    slope = np.asarray(plain.params[1])
    np.testing.assert_allclose(np.asarray(moved.params[1]) * 2.0**k, slope, rtol=1e-11)
    intercept = plain.params[0] - slope * shift
    size = np.abs(plain.params[0]) + np.abs(slope * shift)
    assert (np.abs(moved.params[0] - intercept) <= 1e-11 * size)[np.isfinite(slope)].all()


@pytest.mark.slow
@for_all_regressions
def test_weight_2_is_the_row_twice(ansatz, x, y, w, draw):
    w = np.maximum(w, 1)
    twice_y = np.concatenate([y, np.where(w == 2, y, np.nan)])
    weighted, doubled = (
        fit(x, y, weights=w, ansatz=ansatz),
        fit(np.concatenate([x, x]), twice_y, ansatz=ansatz),
    )
    solved = np.asarray(weighted.status) == Status.ok
    for name in ("params", "cost", "ssr"):
        a, b = (np.asarray(getattr(f, name))[..., solved] for f in (weighted, doubled))
        np.testing.assert_allclose(a, b, rtol=1e-9, err_msg=name)


@for_all_regressions
def test_weight_0_is_a_row_that_is_missing(ansatz, x, y, w, draw):
    missing = np.where(w == 0, np.nan, y)
    assert_same(fit(x, y, weights=w, ansatz=ansatz), fit(x, missing, weights=np.maximum(w, 1), ansatz=ansatz))


@pytest.mark.slow
@for_all_regressions
def test_the_order_of_observations_moves_the_last_digits_alone(ansatz, x, y, w, draw):
    order = np.array(draw.draw(st.permutations(range(N))))
    plain = fit(x, y, weights=w, ansatz=ansatz)
    other = fit(x[order], y[order], weights=w[order], ansatz=ansatz)
    assert_same(plain, other, ("nobs", "status"))
    solved = np.asarray(plain.status) == Status.ok
    np.testing.assert_allclose(plain.params[:, solved], other.params[:, solved], rtol=1e-10)


@pytest.mark.slow
@for_all_regressions
def test_the_order_of_data_sets_is_that_of_the_results(ansatz, x, y, w, draw):
    order = np.array(draw.draw(st.permutations(range(M))))
    plain, other = (
        fit(x, y, weights=w, ansatz=ansatz),
        fit(x, y[:, order], weights=w[:, order], ansatz=ansatz),
    )
    for name in FIELDS:
        np.testing.assert_array_equal(np.asarray(getattr(plain, name))[..., order], getattr(other, name))


@pytest.mark.slow
@for_all_regressions
def test_moments_of_two_halves_are_those_of_the_whole(ansatz, x, y, w, draw):
    half = N // 2
    whole = moments(x, y, w, ansatz=ansatz)
    merged = moments(x[:half], y[:half], w[:half], ansatz=ansatz) + moments(
        x[half:], y[half:], w[half:], ansatz=ansatz
    )
    np.testing.assert_array_equal(merged.nobs, whole.nobs)
    np.testing.assert_allclose(merged.weight, whole.weight, rtol=1e-15)
    scale = np.sqrt(np.asarray(whole.square))
    for name in ("gram", "cross", "square"):
        np.testing.assert_allclose(
            getattr(merged, name), getattr(whole, name), rtol=1e-10, atol=1e-12 * scale.max()
        )
    solved = np.asarray(fit(x, y, weights=w, ansatz=ansatz).status) == Status.ok
    a, b = (np.asarray(closed_form(m))[:, solved] for m in (merged, whole))
    np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.slow
@for_all_regressions
def test_compiled_is_eager(ansatz, x, y, w, draw):
    x, y, w = (a.astype("f4") for a in (x, y, w))
    assert_same(fit(x, y, weights=w, ansatz=ansatz), compiled(x, y, w, ansatz))


compiled = jax.jit(lambda x, y, w, ansatz: fit(x, y, weights=w, ansatz=ansatz), static_argnums=3)
