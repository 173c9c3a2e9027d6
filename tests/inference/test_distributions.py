"""Student's t and Fisher's F against mpmath at 30 digits, and against scipy where it is accurate."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import stats

from jaxreg.inference.distributions import f, t

DFS = [1, 1.5, 3, 10, 999, 1e7]
TS = [1e-8, 0.9, 1.3, 1.75, 2.2, 2.45, 3, 40, 1e4]
DIGITS = {"float32": 1e-6, "float64": 1e-12}  # relative error of a logarithm


@pytest.fixture(autouse=True)
def _thirty_digits():
    with mp.workdps(30):
        yield


def log_upper_tail(x, df):
    """log P(T > x), x > 0: an incomplete beta function, or the integral of the density."""
    x, df = mp.mpf(float(x)), mp.mpf(df)
    if x > 1 and df < 2e4:
        return mp.log(mp.betainc(df / 2, mp.mpf(1) / 2, 0, df / (df + x * x), regularized=True) / 2)
    log_constant = mp.loggamma((df + 1) / 2) - mp.loggamma(df / 2) - mp.log(mp.pi * df) / 2

    def log_ratio(s, x=x):
        """log of the density at x + s relative to that at x."""
        return -(df + 1) / 2 * (mp.log1p((x + s) ** 2 / df) - mp.log1p(x * x / df))

    if x <= 1:
        center = mp.quad(lambda s: mp.exp(log_ratio(s, 0)), [0, x])
        return mp.log(mp.mpf(1) / 2 - mp.exp(log_constant) * center)
    width = 1 / (x + 1) if x * x < df else x / df
    ends = [width * k for k in (0, 1, 2, 4, 8, 16, 32, 64)]
    tail = mp.quad(lambda s: mp.exp(log_ratio(s)), ends)
    return log_constant - (df + 1) / 2 * mp.log1p(x * x / df) + mp.log(tail)


@pytest.mark.parametrize("df", DFS)
def test_tails_of_t_equal_mpmath(df, dtype):
    x = np.array(TS, dtype)
    exact = [log_upper_tail(a, df) for a in x]
    two_sided = [mp.log(2) + a for a in exact]
    for result, expected in ((t.logsf(x, df), exact), (t.log_p(x, df), two_sided), (t.logsf(-x, df), None)):
        assert result.dtype == dtype
        expected = [mp.log(1 - mp.exp(a)) for a in exact] if expected is None else expected
        for a, b in zip(np.asarray(result, "f8"), expected, strict=True):
            assert abs(a - b) <= DIGITS[dtype.name] * abs(b) + 1e-30


def test_tails_do_not_underflow():
    """log10 p at t = 40, df = 50, where p in float32 is 0, and at t = 10⁴, df = 10⁷."""
    result = np.asarray(t.log_p(jnp.float32([40, 1e4]), jnp.float32([50, 1e7]))) / np.log(10)
    expected = [float((mp.log(2) + log_upper_tail(x, df)) / mp.log(10)) for x, df in ((40, 50), (1e4, 1e7))]
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    assert expected[0] < -38


@pytest.mark.slow
def test_infinite_df_is_the_normal_distribution():
    x = np.array([-3.0, 0, 0.5, 1.96, 8, 38])
    np.testing.assert_allclose(t.sf(x, np.inf), stats.norm.sf(x), rtol=1e-13)
    np.testing.assert_allclose(t.logsf(x, np.inf), stats.norm.logsf(x), rtol=1e-13)
    np.testing.assert_allclose(t.isf(np.array([0.025, 1e-300]), np.inf), stats.norm.isf([0.025, 1e-300]))


@pytest.mark.slow
@pytest.mark.parametrize("df", DFS)
def test_quantiles_of_t_invert_its_tails(df):
    q = np.array([1e-300, 1e-100, 1e-10, 0.01, 0.025, 0.24, 0.26, 0.4, 0.4999999])
    x = t.isf(q, df)
    for a, b in zip(x, q, strict=True):
        assert abs(log_upper_tail(a, df) - mp.log(b)) < 1e-13 * max(1, -mp.log(b))
    np.testing.assert_array_equal(t.ppf(q, df), -x)
    np.testing.assert_allclose(t.isf(1 - q[3:], df), -x[3:], rtol=1e-9)
    single = q[3:].astype("f4")
    np.testing.assert_allclose(t.isf(single, df), stats.t.isf(single.astype("f8"), df), rtol=1e-6)


@pytest.mark.slow_in("float64")
def test_invalid_df_and_probabilities_give_nan(dtype):
    x = np.array([0, 1, -1], dtype)
    for df in (0, -1, np.nan):
        assert np.isnan(t.sf(x, df)).all()
        assert np.isnan(t.isf(x, df)).all()
        assert np.isnan(f.sf(x, 2, df)).all()
    assert np.isnan(t.isf(np.array([-0.1, 1.1, np.nan], dtype), 3)).all()
    np.testing.assert_array_equal(t.isf(np.array([0, 0.5, 1], dtype), 3), [np.inf, 0, -np.inf])
    np.testing.assert_array_equal(t.sf(np.array([-np.inf, 0, np.inf], dtype), 3), [1, 0.5, 0])
    assert np.isnan(t.sf(np.array([np.nan], dtype), 3)).all()


@pytest.mark.parametrize("dfn", [1, 2, 3, 10, 100])
def test_tails_of_f_equal_mpmath(dfn):
    for dfd in (1, 5, 30, 1e3):
        x = np.array([1e-6, 0.5, 0.99, 1, 1.01, 1.5, 20, 1e8])
        exact = [
            mp.log(
                mp.betainc(mp.mpf(dfd) / 2, mp.mpf(dfn) / 2, 0, dfd / (dfd + mp.mpf(dfn) * mp.mpf(a)), True)
            )
            for a in x
        ]
        for a, b in zip(f.logsf(x, dfn, dfd), exact, strict=True):
            assert abs(a - b) <= 1e-12 * abs(b) + 1e-15
        np.testing.assert_allclose(f.logsf(x.astype("f4"), dfn, dfd), [float(b) for b in exact], rtol=2e-3)


def test_f_equals_scipy_where_dfn_and_dfd_are_large():
    dfn, dfd, x = np.array([1e7, 1e6, 5, 1e4]), 1e7, np.array([1.001, 1.005, 40, 0.99])
    np.testing.assert_allclose(f.sf(x, dfn, dfd), stats.f.sf(x, dfn, dfd), rtol=1e-10)
    np.testing.assert_allclose(f.cdf(x, dfn, dfd), stats.f.cdf(x, dfn, dfd), rtol=1e-10)


def test_quantiles_of_f(dtype):
    q, tol = np.array([1e-6, 0.001, 0.05, 0.5, 0.9, 0.999], dtype), 1e-5 if dtype == "f4" else 1e-10
    for dfn, dfd in ((1, 1), (2, 30), (7, 3), (200, 1000)):
        expected = stats.f.isf(q.astype("f8"), dfn, dfd)
        np.testing.assert_allclose(f.isf(q, dfn, dfd), expected, rtol=tol)
        np.testing.assert_allclose(
            f.sf(f.isf(q, dfn, dfd), dfn, dfd), q, rtol=1e-4 if dtype == "f4" else 1e-11
        )
    np.testing.assert_array_equal(f.ppf(np.array([0, 1], dtype), 3, 7), [0, np.inf])


@pytest.mark.slow
def test_derivatives_are_densities():
    x, df = 1.7, 5.0
    of_t = stats.t.pdf(x, df)
    of_f = stats.f.pdf(x, 3, 7)

    @jax.jit
    def derivatives(x, df):
        of_dfs = [jax.grad(g)(x, 3.0, 7.0) for g in (f.sf, f.cdf, f.logsf)]
        of_df = [jax.grad(g)(at, df) for g, at in ((t.sf, x), (t.cdf, -x), (t.logsf, x), (t.log_p, -x))]
        quantiles = jax.grad(t.isf)(0.1, df), jax.grad(f.ppf)(0.3, 3.0, 7.0)
        return *of_df, *of_dfs, *quantiles, jax.grad(jax.grad(t.sf))(x, df)

    *first, second = derivatives(x, df)
    expected = [
        -of_t,
        of_t,
        -of_t / stats.t.sf(x, df),
        of_t / stats.t.sf(x, df),
        -of_f,
        of_f,
        -of_f / stats.f.sf(x, 3, 7),
        -1 / stats.t.pdf(stats.t.isf(0.1, df), df),
        1 / stats.f.pdf(stats.f.ppf(0.3, 3, 7), 3, 7),
    ]
    np.testing.assert_allclose(first, expected, rtol=1e-5)
    assert second == pytest.approx(minus_pdf_derivative(x, df), rel=1e-4)


def minus_pdf_derivative(x, df):
    """Minus the derivative of the density of t."""
    return stats.t.pdf(x, df) * (df + 1) * x / (df + x * x)


def test_a_derivative_in_df_is_an_error():
    with pytest.raises(NotImplementedError, match="stop_gradient"):
        jax.grad(lambda df: t.sf(1.0, df))(5.0)


@pytest.mark.slow_in("float32")
def test_jit_and_vmap(dtype):
    x, df = np.linspace(-3, 3, 7).astype(dtype), np.arange(1, 8)
    with jax.enable_x64(dtype == np.float64):
        result = jax.jit(jax.vmap(t.sf))(jnp.asarray(x), jnp.asarray(df))
        derivatives = jax.vmap(jax.grad(t.sf))(jnp.asarray(x), jnp.asarray(df))
    assert result.dtype == dtype
    np.testing.assert_allclose(result, stats.t.sf(x.astype("f8"), df), rtol=1e-6)
    np.testing.assert_allclose(derivatives, -stats.t.pdf(x.astype("f8"), df), rtol=1e-6)


def test_integers_are_converted():
    np.testing.assert_allclose(t.cdf(np.array([1, 2], np.uint8), 3), stats.t.cdf([1, 2], 3), rtol=1e-6)
    np.testing.assert_allclose(t.cdf(np.array([-128], np.int8), 3), stats.t.cdf([-128], 3), rtol=1e-6)
    assert t.sf(np.float16(1), 3) == np.float16(stats.t.sf(1, 3))


@pytest.mark.slow
def test_unsupported_arguments_give_nan_or_an_error():
    """Too many degrees of freedom for F, quantiles of t of less than one, complex numbers."""
    assert np.isnan(f.sf([0.5, 1.0], 3, np.inf)).all()
    assert np.isnan(f.isf(0.5, 1e12, 1e12))
    assert float(f.sf(np.float64(1), 1e10, 1e10)) == pytest.approx(0.5, rel=1e-9)
    assert np.isnan(t.isf(np.array([0.3, 0.05]), np.array([0.1, 0.3]))).all()
    with pytest.raises(TypeError, match="real numbers"):
        t.sf(1j, 3)
