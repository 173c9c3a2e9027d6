from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import Line, Linear, Polynomial, Status, closed_form, fit, moments

N, M = 40, 6
pytestmark = pytest.mark.slow_in("float64")


def means(design, y, w=None):
    """⟨φφᵀ⟩, ⟨φy⟩, ⟨y²⟩ of one data set in long double, gaps left out."""
    w = np.ones(len(y)) if w is None else w
    there = ~np.isnan(y) & ~np.isnan(design).any(axis=1) & (w != 0)
    design, y, w = (a[there].astype(np.longdouble) for a in (design, y, w))
    total = w.sum()
    return (design.T * w) @ design / total, (design.T * w) @ y / total, (w * y * y).sum() / total


@pytest.fixture
def data(rng, dtype):
    x = rng.normal(size=N)
    y = rng.normal(size=(N, M)) + 3 * x[:, None]
    y[rng.random((N, M)) < 0.2] = np.nan
    w = rng.uniform(0.5, 2, size=(N, M))
    w[rng.random((N, M)) < 0.1] = 0
    return x.astype(dtype), y.astype(dtype), w.astype(dtype)


@pytest.mark.parametrize("weighted", [False, True])
def test_moments_are_means_over_the_valid_observations(data, dtype, weighted):
    x, y, w = data
    found = moments(x, y, w if weighted else None)
    design = np.stack([np.ones(N), x], axis=1)
    eps = np.finfo(dtype).eps
    for i in range(M):
        A, b, square = means(design, y[:, i], w[:, i] if weighted else None)
        np.testing.assert_allclose(found.gram[..., i], A.astype(float), rtol=4 * eps, atol=4 * eps)
        np.testing.assert_allclose(found.cross[:, i], b.astype(float), rtol=4 * eps, atol=4 * eps)
        np.testing.assert_allclose(found.square[i], float(square), rtol=4 * eps)
    there = ~np.isnan(y) & ((w != 0) | (not weighted))
    np.testing.assert_array_equal(found.nobs, there.sum(axis=0))
    total = np.where(there, w if weighted else 1, 0).sum(axis=0, dtype="f8")
    np.testing.assert_allclose(found.weight, total, rtol=2 * eps)
    assert found.gram.dtype == found.square.dtype == dtype


@pytest.mark.slow
@pytest.mark.parametrize("ansatz", [Polynomial(3), Linear()])
def test_moments_are_those_of_the_features_of_the_ansatz(rng, ansatz):
    x = rng.normal(size=(N, 2) if ansatz.x_is_vector else N)
    y = rng.normal(size=(N, 2))
    found = moments(x, y, ansatz=ansatz)
    with jax.enable_x64(True):
        design = np.asarray(ansatz.features(jnp.asarray(x)))
    for i in range(2):
        A, b, _ = means(design, y[:, i])
        size = float(abs(A).max())
        np.testing.assert_allclose(found.gram[..., i], A.astype(float), atol=1e-14 * size)
        np.testing.assert_allclose(found.cross[:, i], b.astype(float), atol=1e-14 * size)


def far_away(rng, dtype):
    """Unix time in steps of 1000 s and a y with a large offset, as stored."""
    x = (1.6e9 + 1000 * np.arange(N)).astype(dtype)
    y = (1e4 + 1e-4 * (x - 1.6e9) + rng.normal(size=N)).astype(dtype)
    return x, y


def exact_line(x, y):
    """Intercept and slope in exact arithmetic on the stored numbers."""
    x, y = ([Fraction(float(v)) for v in a] for a in (x, y))
    n = len(x)
    x_mean, y_mean = sum(x) / n, sum(y) / n
    covariance = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    slope = covariance / sum((a - x_mean) ** 2 for a in x)
    return float(y_mean - slope * x_mean), float(slope)


@pytest.mark.slow
def test_offsets_cost_no_digits(rng, dtype, tol):
    x, y = far_away(rng, dtype)
    found = closed_form(moments(x, y))
    np.testing.assert_allclose(found, exact_line(x, y), rtol=0.1 * tol)


def test_two_halves_add_up_to_the_whole(data, dtype):
    x, y, w = data
    half = N // 2
    merged = moments(x[:half], y[:half], w[:half]) + moments(x[half:], y[half:], w[half:])
    there = ~np.isnan(y) & (w != 0)
    np.testing.assert_array_equal(merged.nobs, there.sum(axis=0))
    eps = np.finfo(dtype).eps
    design = np.stack([np.ones(N), x], axis=1)
    for i in range(M):
        A, b, square = means(design, y[:, i], w[:, i])
        np.testing.assert_allclose(merged.gram[..., i], A.astype(float), rtol=8 * eps, atol=8 * eps)
        np.testing.assert_allclose(merged.cross[:, i], b.astype(float), rtol=8 * eps, atol=8 * eps)
        np.testing.assert_allclose(merged.square[i], float(square), rtol=8 * eps)


@pytest.mark.slow
def test_halves_that_lie_far_apart_add_without_loss(rng, dtype, tol):
    x, y = far_away(rng, dtype)
    half = N // 2
    merged = moments(x[:half], y[:half]) + moments(x[half:], y[half:])
    np.testing.assert_allclose(closed_form(merged), exact_line(x, y), rtol=tol)


def test_an_empty_half_adds_nothing(data, dtype):
    x, y, _ = data
    half = N // 2
    y[half:] = np.nan
    merged = moments(x[:half], y[:half]) + moments(x[half:], y[half:])
    alone = np.array([np.polyfit(x[t], y[t, i], 1)[::-1] for i in range(M) for t in [~np.isnan(y[:, i])]])
    np.testing.assert_allclose(closed_form(merged), alone.T, rtol=2e-5 if dtype == "f4" else 1e-12)


def test_moments_of_two_ansaetze_do_not_add():
    x = np.arange(3, dtype="f4")
    with pytest.raises(ValueError, match=r"Line.*Polynomial.*do not add"):
        jax.eval_shape(lambda x: moments(x, x) + moments(x, x, ansatz=Polynomial(2)), x)


def test_many_axes_of_data_sets_and_own_x(rng):
    x, y = rng.normal(size=(2, N, 2, 3))
    found = moments(x, y)
    assert found.nobs.shape == (2, 3)
    np.testing.assert_allclose(found.gram[0, 1], x.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(found.cross[1], (x * y).mean(axis=0), rtol=1e-13)


def test_a_bad_data_set_is_marked_and_its_neighbors_are_not(data, dtype):
    x, y, w = data
    y[3, 1], w[4, 2], w[5, 3], w[6, 4] = np.inf, -1, np.nan, np.inf
    y[4:7] = 1
    found = moments(x, y, w)
    np.testing.assert_array_equal(found.invalid, [False, True, True, True, True, False])


def test_nobs_and_invalid_know_an_empty_data_set(dtype):
    y = np.full((N, 2), np.nan, dtype)
    y[:, 0] = 1
    found = moments(np.arange(N, dtype=dtype), y)
    np.testing.assert_array_equal(found.nobs, [N, 0])
    assert not np.any(found.invalid)


def test_jit_and_vmap_give_the_same(data):
    x, y, _ = (a.astype("f4") for a in data)
    compiled = jax.jit(lambda x, y: moments(x, y).cross)(x, y)
    mapped = jax.jit(jax.vmap(lambda y: moments(x, y).cross, in_axes=1, out_axes=1))(y)
    expected = np.stack([np.nanmean(y, axis=0, dtype="f8"), np.nanmean(x[:, None] * y, axis=0, dtype="f8")])
    np.testing.assert_allclose(compiled, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(mapped, expected, rtol=1e-6, atol=1e-6)


def test_gradient_of_a_mean_is_one_over_n(data):
    x, y, _ = (a.astype("f4") for a in data)
    gradient = jax.jit(jax.grad(lambda y: moments(x, y).cross[0].sum()))(y)
    there = ~np.isnan(y)
    np.testing.assert_allclose(gradient, there / there.sum(axis=0), rtol=1e-5)


def test_the_ansatz_is_the_line_if_not_told():
    assert moments(np.arange(3, dtype="f4"), np.arange(3, dtype="f4")).ansatz == Line()


# --- float32 data against exact arithmetic -------------------------------------------------------


def exact_fit(x, y, w=None):
    """Params and standard errors of a line in exact arithmetic on the stored numbers."""
    w = np.ones(len(y)) if w is None else w
    there = ~np.isnan(x) & ~np.isnan(y) & (w != 0)
    x, y, w = ([Fraction(float(v)) for v in a[there]] for a in (x, y, w))
    n, total = len(x), sum(w)
    x_mean = sum(v * a for v, a in zip(w, x, strict=True)) / total
    y_mean = sum(v * b for v, b in zip(w, y, strict=True)) / total
    rows = list(zip(x, y, w, strict=True))
    spread = sum(v * (a - x_mean) ** 2 for a, _, v in rows)
    slope = sum(v * (a - x_mean) * (b - y_mean) for a, b, v in rows) / spread
    intercept = y_mean - slope * x_mean
    params = [float(intercept), float(slope)]
    if n == 2:
        return params, [np.nan, np.nan]
    variance = sum(v * (b - intercept - slope * a) ** 2 for a, b, v in rows) / (n - 2)
    factors = [1 / total + x_mean**2 / spread, 1 / spread]
    return params, [float(variance * f) ** 0.5 for f in factors]


def assert_is_exact(found, x, y, w=None):
    for i in range(y.shape[1]):
        x_i, w_i = (a if a is None or a.ndim == 1 else a[:, i] for a in (x, w))
        params, errors = exact_fit(x_i, y[:, i], w_i)
        np.testing.assert_allclose(found.params[:, i], params, rtol=1e-6)
        np.testing.assert_allclose(found.bse[:, i], errors, rtol=1e-6)


OFFSETS = [0, 1e3, 1e5]


@pytest.mark.parametrize(
    "x_offset", [*(pytest.param(offset, marks=pytest.mark.slow) for offset in (0, 1e3)), 1e5]
)
@pytest.mark.parametrize(
    "own_x", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["shared x", "own x"]
)
def test_an_offset_in_float32_costs_no_digits(rng, x_offset, own_x):
    x = (x_offset + rng.normal(size=(N, M) if own_x else N)).astype("f4")
    y = (np.repeat(OFFSETS, M // 3) + rng.normal(size=(N, M))).astype("f4")
    y += (2 * (x.astype("f8") - x_offset)).astype("f4").reshape(N, -1)
    y[rng.random((N, M)) < 0.2] = np.nan
    assert_is_exact(fit(x, y), x, y)


@pytest.mark.parametrize("weights", ["shared", "own"])
def test_rows_without_weight_or_x_are_not_there(rng, weights):
    x = (1e3 + rng.normal(size=(N, M))).astype("f4")
    y = (1e3 + rng.normal(size=(N, M))).astype("f4")
    x[3], x[7, 2], y[8, 1] = np.nan, np.nan, np.nan
    w = rng.uniform(0.5, 2, size=(N, M) if weights == "own" else N).astype("f4")
    w[[0, 5, N - 1]] = 0
    y[5], x[0] = np.inf, -np.inf  # where there is no weight
    found = fit(x, y, weights=w)
    assert_is_exact(found, x, y, w)
    np.testing.assert_array_equal(found.nobs, N - 4 - np.isin(np.arange(M), [1, 2]))


@pytest.mark.parametrize("n", range(1, 10))
def test_any_number_of_observations(rng, n):
    """Four rows are read at a time, and what is left one by one."""
    x = (1e3 + rng.normal(size=n)).astype("f4")
    y = (1e3 + rng.normal(size=(n, M))).astype("f4")
    if n > 3:
        y[-1, 0] = y[0, 1] = np.nan
    found = fit(x, y)
    np.testing.assert_array_equal(found.nobs, (~np.isnan(y)).sum(axis=0))
    if n == 1:
        np.testing.assert_array_equal(found.status, Status.too_few_observations)
    else:
        assert_is_exact(found, x, y)
