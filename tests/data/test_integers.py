"""Integers as x and y, whose digits floats do not hold, beside a line in exact fractions."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from jaxreg import Linear, fit

N = 40
SECONDS, NANOSECONDS = 1_700_000_000, 1_700_000_000_123_456_789


def exact_line(x, y):
    """Slope, standard error of it, and the value at the first x, of integers or floats as they are."""
    x, y = ([Fraction(v) for v in a.tolist()] for a in (x, y))
    n, x_mean, y_mean = len(x), sum(x) / len(x), sum(y) / len(y)
    sxx = sum((a - x_mean) ** 2 for a in x)
    slope = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True)) / sxx
    ssr = sum((b - y_mean - slope * (a - x_mean)) ** 2 for a, b in zip(x, y, strict=True))
    return float(slope), float(ssr / (n - 2) / sxx) ** 0.5, float(y_mean + slope * (x[0] - x_mean))


def given_as(kind, a):
    if kind == "DataArray":
        return xr.DataArray(a, dims="time")
    return jnp.asarray(a) if kind == "JAX" else a


@pytest.fixture
def nanoseconds(rng):
    return NANOSECONDS + np.cumsum(rng.integers(30, 200, N))


@pytest.fixture
def seconds(rng):
    return (SECONDS + np.cumsum(rng.integers(1, 20, N))).astype(np.int32)


@pytest.mark.parametrize("kind", ["NumPy", "DataArray"])
@pytest.mark.parametrize("wide", [np.int64, np.uint64])
def test_nanoseconds_as_x(rng, nanoseconds, kind, wide):
    x, y = nanoseconds.astype(wide), 1e-3 * (nanoseconds - nanoseconds[0]) + rng.normal(size=N)
    slope, error, first = exact_line(x, y)
    found = fit(given_as(kind, x), given_as(kind, y))
    assert found.status == 0
    np.testing.assert_allclose(found.params[1], slope, rtol=1e-9)
    np.testing.assert_allclose(found.bse[1], error, rtol=1e-9)
    np.testing.assert_allclose(found.predict(x)[0], first, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["NumPy", "JAX", "DataArray", "jit"])
def test_seconds_as_x_of_float32(rng, seconds, kind):
    y = (0.01 * (seconds - seconds[0]) + rng.normal(size=N)).astype("f4")
    slope, error, first = exact_line(seconds, y)
    if kind == "jit":
        found = jax.jit(fit)(jnp.asarray(seconds), y)
    else:
        found = fit(given_as(kind, seconds), given_as(kind, y))
    assert found.params.dtype == np.float32
    np.testing.assert_allclose(found.params[1], slope, rtol=1e-5)
    np.testing.assert_allclose(found.bse[1], error, rtol=1e-5)
    np.testing.assert_allclose(found.predict(seconds)[0], first, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["NumPy", "JAX", "DataArray", "jit"])
def test_large_integers_as_y(rng, seconds, kind):
    x = rng.normal(size=N).astype("f4")
    slope, error, _ = exact_line(x.astype(float), seconds)
    y = jnp.asarray(seconds) if kind == "jit" else given_as(kind, seconds)
    found = (jax.jit(fit) if kind == "jit" else fit)(given_as(kind if kind != "jit" else "JAX", x), y)
    np.testing.assert_allclose(found.params[1], slope, rtol=2e-5)
    np.testing.assert_allclose(found.bse[1], error, rtol=2e-5)


@pytest.mark.parametrize("start", [0, 40_000_000, SECONDS, SECONDS * 1000, NANOSECONDS])
@pytest.mark.parametrize("most", [3, 200, 100_000])
def test_traced_integers_of_64_bits(rng, start, most):
    x = start + np.cumsum(rng.integers(1, most, N))
    y = ((x - x[0]) / most + rng.normal(size=N)).astype("f4")
    slope, error, first = exact_line(x, y)
    swapped, swapped_error, _ = exact_line(y, x)
    with jax.enable_x64(True):
        found = jax.jit(fit)(x, y)
        np.testing.assert_allclose(found.params[1], slope, rtol=1e-5)
        np.testing.assert_allclose(found.bse[1], error, rtol=1e-5)
        np.testing.assert_allclose(found.predict(x)[0], first, rtol=1e-5, atol=1e-5)
        found = jax.jit(fit)(y, x)
        np.testing.assert_allclose(found.params[1], swapped, rtol=1e-9)
        np.testing.assert_allclose(found.bse[1], swapped_error, rtol=1e-9)


def test_many_data_sets_of_integers_have_an_origin_each(rng):
    starts = np.array([0, SECONDS, -SECONDS, 12])
    x = (starts + np.cumsum(rng.integers(1, 20, (N, 4)), axis=0)).astype(np.int32)
    y = rng.normal(size=(N, 4)).astype("f4")
    y[3, 1] = np.nan
    found = fit(x, y)
    for j in range(4):
        there = np.isfinite(y[:, j])
        slope, error, _ = exact_line(x[there, j], y[there, j].astype(float))
        np.testing.assert_allclose(found.params[1, j], slope, rtol=2e-5, atol=1e-7)
        np.testing.assert_allclose(found.bse[1, j], error, rtol=1e-5)
    np.testing.assert_array_equal(fit(x[:, 0], y[:, 0]).params, fit(x[:, 0].astype("f4"), y[:, 0]).params)


def test_integers_in_a_design_of_several_columns(rng, seconds):
    design = np.column_stack([seconds, rng.integers(0, 9, N)]).astype(np.int32)
    y = rng.normal(size=N).astype("f4")
    near = np.column_stack([np.ones(N), design - design[0]])
    want = np.linalg.lstsq(near, y.astype(float), rcond=None)[0][1:]
    np.testing.assert_allclose(fit(design, y, ansatz=Linear()).params[1:], want, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(
        fit(jnp.asarray(design), y, ansatz=Linear()).params[1:], want, rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize("kind", ["NumPy", "JAX", "DataArray"])
def test_without_an_intercept_no_origin_can_be_taken_out(seconds, kind):
    x = seconds[:, None]
    x = xr.DataArray(x, dims=("time", "column")) if kind == "DataArray" else given_as(kind, x)
    with pytest.raises(ValueError, match=r"x is int32 and y float32, which would round x by up to"):
        fit(x, np.arange(N, dtype="f4"), ansatz=Linear(intercept=False))


def test_differences_that_float32_rounds_are_an_error():
    with pytest.raises(ValueError, match="x is int64 and y float32, which would round x by up to"):
        fit(NANOSECONDS + np.arange(4), np.arange(4, dtype="f4"))


@pytest.mark.parametrize("block_size", [2, 3, 4])
def test_blocks_of_which_some_are_exact(rng, block_size):
    x, y = np.arange(9.0), rng.integers(0, 100, size=(9, 6))
    expected = np.polyfit(x, y, 1)[0]
    y[:, 3:] += 2**60
    np.testing.assert_allclose(fit(x, y, block_size=block_size).params[1], expected, rtol=1e-9, atol=1e-12)
