import pickle
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import statsmodels.api as sm

from jaxreg import (
    Curve,
    Line,
    Linear,
    Polynomial,
    Status,
    Stream,
    closed_form,
    exponential_decay,
    moments,
)

N, M = 24, 3
CHUNKS = (slice(0, 1), slice(1, 8), slice(8, 16), slice(16, 24))  # of 1 and 8 rows, after padding
pytestmark = pytest.mark.slow_in("float64")


@pytest.fixture
def data(rng, dtype):
    """Years and prices, with gaps and weights."""
    x = np.sort(rng.uniform(1990, 2020, N))
    y = 3e4 + 12 * (x[:, None] - 2000) + rng.normal(size=(N, M))
    y[rng.random((N, M)) < 0.2] = np.nan
    w = rng.uniform(0.5, 2, size=(N, M))
    w[5, 1] = 0
    return x.astype(dtype), y.astype(dtype), w.astype(dtype)


@pytest.fixture
def rough(dtype):
    """What statsmodels may be off by, relative, for these data."""
    return {"float32": 3e-5, "float64": 1e-7}[dtype.name]


def streamed(x, y, weights=None, chunks=CHUNKS, **options):
    stream = Stream(**options)
    for rows in chunks:
        stream = stream.update(x[rows], y[rows], None if weights is None else weights[rows])
    return stream


def line(x):
    return np.stack([np.ones(len(x)), np.asarray(x, float)], axis=1)


def assert_is(result, reference, i, rough):
    """Every statistic of data set i is that of statsmodels."""
    for name in ("params", "bse", "tvalues", "pvalues", "ssr", "rsquared", "llf", "nobs", "df_resid", "aic"):
        expected = getattr(reference, name)
        np.testing.assert_allclose(
            getattr(result, name)[..., i], expected, rtol=rough, atol=1e-30, err_msg=name
        )
    np.testing.assert_allclose(result.conf_int()[..., i].T, reference.conf_int(), rtol=rough)
    np.testing.assert_allclose(result.cov_params()[..., i], reference.cov_params(), rtol=rough)


def test_chunks_have_the_fit_of_all_observations(data, dtype, rough, statsmodels):
    x, y, w = data
    result = streamed(x, y, w).fit()
    assert result.params.dtype == dtype
    assert (result.digits == (7 if dtype == np.float32 else 15)).all()
    for i in range(M):
        reference = statsmodels(line(x), y[:, i], w[:, i])
        assert_is(result, reference, i, rough)
        np.testing.assert_allclose(
            result.predict(x[:4])[:, i],
            reference.predict(line(x[:4])),
            rtol=1e-6 if dtype == np.float32 else 1e-12,
        )


def exact_line(x, y):
    """Intercept and slope in exact arithmetic on the stored numbers."""
    x, y = ([Fraction(float(v)) for v in np.asarray(a)] for a in (x, y))
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    slope = covariance / sum((a - x_mean) ** 2 for a in x)
    return float(y_mean - slope * x_mean), float(slope)


def slide(x, y, width):
    """The stream of the last `width` rows after a scan that adds one row and removes one."""

    def step(stream, rows):
        (x_new, y_new), (x_old, y_old) = rows
        return stream.update(x_new, y_new).downdate(x_old, y_old), None

    columns = jax.tree.map(lambda a: jnp.asarray(a)[:, None], (x, y))
    new, old = jax.tree.map(lambda a: a[width:], columns), jax.tree.map(lambda a: a[:-width], columns)
    return jax.lax.scan(step, Stream().update(x[:width], y[:width]), (new, old))[0]


def walk(rng, n, dtype):
    """Prices over years, far from the first ones at the end."""
    x = (1900 + np.arange(n) / 64).astype(dtype)
    return x, (1e4 + 20 * (x - x[0]) + np.cumsum(rng.normal(size=n))).astype(dtype)


@pytest.mark.parametrize("n", [2_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_sliding_window_does_not_drift(rng, n):
    x, y = walk(rng, n + 50, np.float32)
    stream = slide(x, y, 50)
    assert stream.nobs == 50
    np.testing.assert_array_equal(stream.fit().params, np.float32(exact_line(x[-50:], y[-50:])))
    assert stream.fit().digits == 7
    reference = sm.OLS(y[-50:].astype(float), line(x[-50:] - x[-50])).fit()
    np.testing.assert_allclose(stream.fit().bse[1], reference.bse[1], rtol=1e-6)


@pytest.mark.slow
def test_a_sliding_window_in_float64_does_not_drift(rng):
    x, y = walk(rng, 1_000_050, np.float64)
    with jax.enable_x64(True):
        stream = slide(x, y, 50)
        np.testing.assert_allclose(stream.fit().params, exact_line(x[-50:], y[-50:]), rtol=2**-52)
        assert stream.fit().digits >= 14


def test_downdate_removes_gaps_and_invalid_observations_too(data, dtype, rough, statsmodels):
    x, y, w = data
    bad_y, bad_w = y[8:16].copy(), w[8:16].copy()
    bad_y[2, 0], bad_y[3, 1], bad_w[3, 1], bad_y[4, 2] = np.inf, 1, -1, np.nan
    stream = streamed(x, y, w, CHUNKS[:2])
    stream = stream.update(x[8:16], bad_y, bad_w)
    assert stream.fit().status.tolist() == [Status.invalid_data, Status.invalid_data, Status.ok]
    result = stream.downdate(x[8:16], bad_y, bad_w).fit()
    for i in range(M):
        assert_is(result, statsmodels(line(x[:8]), y[:8, i], w[:8, i]), i, rough)
    nothing = streamed(x, y, w, CHUNKS[:1]).downdate(x[:1], y[:1], w[:1])
    assert (nothing.fit().status == Status.no_observations).all()
    assert not np.any(nothing._sums.words)
    assert not np.any(nothing._sums.errors)


def test_an_outlier_that_has_left_costs_no_digits(rng, dtype, rough, statsmodels):
    x, y = rng.normal(size=(2, 16)).astype(dtype)
    far = np.array([1e8], dtype)
    result = Stream().update(x, y).update(far, far).downdate(far, far).fit()
    np.testing.assert_allclose(result.params, statsmodels(line(x), y).params, rtol=rough)
    assert result.digits >= (7 if dtype == np.float32 else 12)


def test_forgetting_is_weighted_by_age_in_any_chunks(data, tol, rough):
    x, y, w = data
    λ = 0.9
    result = streamed(x, y, w, forgetting=λ).fit()
    age = λ ** np.arange(N)[::-1]
    for i in range(M):
        there = ~np.isnan(y[:, i]) & (w[:, i] != 0)
        reference = sm.WLS(y[there, i].astype(float), line(x[there]), (w[:, i] * age)[there]).fit()
        effective = age[there].sum()
        np.testing.assert_allclose(result.params[:, i], reference.params, rtol=100 * tol)
        np.testing.assert_allclose(result.nobs[i], effective, rtol=tol)
        np.testing.assert_allclose(result.ssr[i], reference.ssr, rtol=rough)
        # The same residuals have fewer degrees of freedom.
        bse = reference.bse * np.sqrt(reference.df_resid / (effective - 2))
        np.testing.assert_allclose(result.bse[:, i], bse, rtol=rough)
    assert np.isfinite(result.conf_int()).all()


@pytest.mark.slow
def test_forgetting_is_the_filter_of_recursive_least_squares(rng):
    """P ← (P − k φᵀP) / λ, θ ← θ + k (y − φᵀθ), from the fit of the first rows on."""
    x = rng.normal(size=N)
    y = 1 + 2 * x + rng.normal(size=N)
    λ, first = 0.8, 8
    A = line(x[:first]) * (λ ** np.arange(first)[::-1])[:, None]
    P = np.linalg.inv(A.T @ line(x[:first]))
    θ = P @ A.T @ y[:first]
    for φ, value in zip(line(x[first:]), y[first:], strict=True):
        k = P @ φ / (λ + φ @ P @ φ)
        θ, P = θ + k * (value - φ @ θ), (P - np.outer(k, φ @ P)) / λ
    result = Stream(forgetting=λ).update(x[:first], y[:first]).update(x[first:], y[first:]).fit()
    np.testing.assert_allclose(result.params, θ, rtol=1e-12)
    np.testing.assert_allclose(result.cov_params() / result.scale, P, rtol=1e-11)


@pytest.mark.slow
def test_few_effective_observations_have_params_without_errors():
    x = np.arange(8.0)
    result = Stream(forgetting=0.3).update(x, 2 * x + 1).fit()
    np.testing.assert_allclose(result.params, [1, 2])
    assert result.status == Status.exact_fit
    assert np.isnan(result.bse).all()


@pytest.mark.slow
@pytest.mark.parametrize("ansatz", [Polynomial(3), Linear(), Linear(intercept=False)])
def test_any_ansatz(rng, dtype, rough, ansatz, statsmodels):
    x = rng.uniform(1, 3, size=(N, 2) if ansatz.x_is_vector else N).astype(dtype)
    y = (rng.normal(size=(N, M)) + 5).astype(dtype)
    result = streamed(x, y, ansatz=ansatz).fit()
    with jax.enable_x64(True):
        design = np.asarray(ansatz.features(jnp.asarray(x, float)))
    for i in range(M):
        reference = statsmodels(design, y[:, i])
        assert_is(result, reference, i, rough)
        np.testing.assert_allclose(result.centered_tss[i], reference.centered_tss, rtol=rough)


def test_streams_add(data, dtype, rough, statsmodels):
    x, y, w = data
    total = streamed(x, y, w, CHUNKS[:2]) + streamed(x, y, w, CHUNKS[2:])
    assert (Stream() + total).fit().nobs.tolist() == total.nobs.tolist()
    for i in range(M):
        assert_is(total.fit(), statsmodels(line(x), y[:, i], w[:, i]), i, rough)


@pytest.mark.slow
def test_streams_of_moments_and_moments_of_streams(data, dtype, tol):
    x, y, w = data
    stream = Stream.of(moments(x[:16], y[:16], w[:16])) + Stream.of(moments(x[16:], y[16:], w[16:]))
    expected = streamed(x, y, w)
    np.testing.assert_allclose(stream.fit().bse, expected.fit().bse, rtol=tol)
    assert np.isnan(stream.fit().llf).all()
    np.testing.assert_allclose(closed_form(expected.moments()), expected.fit().params, rtol=tol)


def test_transformations_and_pickle(rng):
    x = np.linspace(0, 1, 8, dtype="f4")
    y = (1 + x[:, None] + rng.normal(size=(8, M))).astype("f4")
    expected = Stream().update(x, y).fit()

    @jax.jit
    def one(y):
        return Stream().update(x, y).fit()

    result = jax.vmap(one, in_axes=1, out_axes=-1)(y)
    np.testing.assert_allclose(result.bse, expected.bse, rtol=1e-6)
    again = pickle.loads(pickle.dumps(Stream().update(x, y)))
    np.testing.assert_array_equal(again.fit().params, expected.params)


def test_a_float64_stream_that_jit_would_round_is_refused():
    stream = Stream().update(np.arange(3.0), np.array([1.0, 2.0, 4.0]))
    with jax.enable_x64(False), pytest.raises(TypeError, match="64-bit switch is off"):
        jax.jit(lambda stream: stream.fit().params)(stream)


def test_derivatives_are_refused():
    x = jnp.arange(8.0)
    with pytest.raises(TypeError, match=r"no derivatives; differentiate jaxreg\.fit"):
        jax.grad(lambda y: Stream().update(x, y).fit().params[1])(x)


def test_integers_beyond_the_dtype_keep_their_differences():
    x, y = np.arange(8) + 10**17, np.array([0, 1, 1, 3, 5, 4, 7, 8]) + 2 * 10**17
    result = Stream().update(x, y).fit()
    reference = sm.OLS((y - y[0]).astype(float), line(x - x[0])).fit()
    np.testing.assert_allclose(result.params[1], reference.params[1], rtol=1e-14)
    np.testing.assert_allclose(result.bse[1], reference.bse[1], rtol=1e-12)
    np.testing.assert_allclose(result.resid(x, y), reference.resid, atol=1e-13)
    np.testing.assert_allclose(result.uncentered_tss, np.sum(y.astype(float) ** 2), rtol=1e-14)


X = np.arange(4.0)


@pytest.fixture(scope="module")
def stream():
    return Stream().update(X, X)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: Stream(forgetting=0.0), "above 0 and at most 1, such as 0.99, or None; got 0.0"),
        (lambda _: Stream(forgetting=1.5), "above 0 and at most 1"),
        (lambda _: Stream(exponential_decay), "not linear in its params"),
        (lambda _: Stream(Line), "ansatz is an object"),
        (lambda _: Stream().fit(), "call update first"),
        (lambda _: Stream().downdate(X, X), "call update first"),
        (lambda stream: stream.fit("HC3"), r"keeps no observations; got cov_type='HC3': call jaxreg.fit"),
        (
            lambda stream: stream.downdate(np.arange(5.0), np.arange(5.0)),
            "in 1 of 1 data sets",
        ),
        (lambda _: Stream(forgetting=0.9).update(X, X).downdate(X, X), "forgets has no downdate"),
        (
            lambda stream: stream.update(X, np.ones((4, 2))),
            r"data sets of shape \(\), and y of this chunk \(2,\)",
        ),
        (lambda stream: stream + Stream(Polynomial(2)), "ansatz and forgetting must agree"),
        (lambda stream: stream + Stream().update(X, np.ones((4, 2))), "do not add: shapes"),
        (lambda stream: stream.update(X[0], X[0]), "observations on axis 0"),
        (lambda stream: stream + 1, "unsupported operand"),
        (
            lambda _: Stream(Linear()).update(X[:, None], X).update(np.ones((4, 2)), X),
            "has 1 columns of x, and this chunk 2",
        ),
    ],
)
def test_mistakes_are_named(stream, call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(stream)


def test_a_curve_of_ones_own_is_refused():
    with pytest.raises(TypeError, match="call fit"):
        Stream(Curve(lambda params, x: params[0] * x, ("a",), start=(1.0,)))
