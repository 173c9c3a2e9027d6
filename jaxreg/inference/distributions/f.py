"""Fisher's F with (dfn, dfd) degrees of freedom, by the incomplete beta function.

P(F > x) = I_z(dfd/2, dfn/2) with z = dfd / (dfd + dfn x). The smaller of the two tails is z^a (1 − z)^b /
(B(a, b) K), with K the even part of DLMF's continued fraction 8.17.22, which takes more levels for larger a
and b. The factor before 1/K is written in terms of the distance of z from its mean a / (a + b), so that
nothing cancels for large a and b.

Source: DLMF 8.17; C. Loader, Fast and accurate computation of binomial probabilities (2000), for the factor.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.scipy.special import ndtri

from jaxreg._typing import Array
from jaxreg.inference.distributions._arguments import in_float64, with_derivative

MAX_DF = 1e10  # for which MAX_LEVELS are enough
MAX_LEVELS = 20_000  # of the continued fraction
MAX_STEPS = 60  # of Newton's method
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
MIN_STIRLING = 16.0  # argument above which this series has 16 digits
LOG1P_TERMS = 18


def sf(x: Any, dfn: Any, dfd: Any) -> Array:
    """P(F > x), the upper tail.

    Args:
        x: any shape; the result has its dtype. Below 0 the result is 1.
        dfn: degrees of freedom of the numerator, above 0 and up to 10¹⁰.
        dfd: degrees of freedom of the denominator, in the same range.

    Returns:
        Probabilities; NaN where dfn or dfd is out of range. Differentiable in x.

    >>> import numpy as np
    >>> print(sf(np.array([1.0, 4.0, 1000.0]), 2, 30))
    [3.79812406e-01 2.88446233e-02 3.50250087e-28]
    """
    return _sf(x, dfn, dfd)


def cdf(x: Any, dfn: Any, dfd: Any) -> Array:
    """P(F ≤ x), with full relative precision where it is small.

    >>> import numpy as np
    >>> print(cdf(np.array([1e-6, 1.0]), 2, 30))
    [9.99999467e-07 6.20187594e-01]
    """
    return _cdf(x, dfn, dfd)


def logsf(x: Any, dfn: Any, dfd: Any) -> Array:
    """log P(F > x), which does not underflow.

    >>> import numpy as np
    >>> print(logsf(np.array([1.0, 1e4]), 2, 300))
    [  -0.99668141 -632.18905356]
    """
    return _logsf(x, dfn, dfd)


def isf(q: Any, dfn: Any, dfd: Any) -> Array:
    """The x with P(F > x) = q; NaN where q is not a probability.

    >>> import numpy as np
    >>> print(isf(np.array([0.05, 0.5]), 2, 30))
    [3.3158295  0.70941184]
    """
    return _isf(q, dfn, dfd)


def ppf(q: Any, dfn: Any, dfd: Any) -> Array:
    """The x with P(F ≤ x) = q; computed as 1 / isf(q, dfd, dfn).

    >>> import numpy as np
    >>> print(ppf(np.array([0.5, 0.95]), 2, 30))
    [0.70941184 3.3158295 ]
    """
    return _ppf(q, dfn, dfd)


def _usable(df: Array) -> Array:
    return (df > 0) & (df <= MAX_DF)


def _log_tails(x: Array, dfn: Array, dfd: Array) -> tuple[Array, Array]:
    """log P(F > x) and log P(F ≤ x)."""
    a, b = dfd / 2, dfn / 2
    ratio = dfn * x / dfd
    z = 1 / (1 + ratio)
    one_minus_z = jnp.where(jnp.isinf(ratio), 1, ratio * z)
    upper, lower = _log_beta_tails(a, b, z, one_minus_z)
    valid = _usable(dfn) & _usable(dfd) & ~jnp.isnan(x)
    upper, lower = jnp.where(x > 0, upper, 0), jnp.where(x > 0, lower, -jnp.inf)
    return jnp.where(valid, upper, jnp.nan), jnp.where(valid, lower, jnp.nan)


def _log_beta_tails(a: Array, b: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """log I_x(a, b) and log I_y(b, a), where y = 1 − x."""
    is_left = b * x <= a * y
    a, b = jnp.where(is_left, a, b), jnp.where(is_left, b, a)
    x, y = jnp.where(is_left, x, y), jnp.where(is_left, y, x)
    distance = a * y - b * x  # ≥ 0, from x up to its mean
    log_small = _log_factor(a, b, x, y, distance) - jnp.log(_fraction(a, b, x, distance))
    log_small = jnp.minimum(jnp.where(x > 0, log_small, -jnp.inf), 0)
    log_large = jnp.log1p(-jnp.exp(log_small))
    return jnp.where(is_left, log_small, log_large), jnp.where(is_left, log_large, log_small)


def _log_factor(a: Array, b: Array, x: Array, y: Array, distance: Array) -> Array:
    """log x^a y^b / B(a, b)."""
    n = a + b
    deviance = a * _log1p_less(-distance / a, x * (n / a)) + b * _log1p_less(distance / b, y * (n / b))
    scale = jnp.log(a) + jnp.log(b) - jnp.log(n) - math.log(2 * math.pi)
    return deviance + scale / 2 + _stirling_error(n) - _stirling_error(a) - _stirling_error(b)


def _log1p_less(u: Array, one_plus_u: Array) -> Array:
    """log(1 + u) − u, by 2 artanh(u / (2 + u)) where u is small."""
    is_small = jnp.abs(u) < 0.5
    u_small = jnp.where(is_small, u, 0)
    s = u_small / (2 + u_small)
    series = jnp.zeros_like(u)
    for k in reversed(range(LOG1P_TERMS)):
        series = series * s * s + 1 / (2 * k + 3)
    return jnp.where(is_small, s * (2 * s * s * series - u_small), jnp.log(one_plus_u) - u)


def _stirling_error(a: Array) -> Array:
    """log Γ(a) − ((a − ½) log a − a + ½ log 2π)."""
    is_large = a > MIN_STIRLING
    safe = jnp.where(is_large, a, MIN_STIRLING)
    series = jnp.zeros_like(a)
    for coefficient in reversed(STIRLING):
        series = series / (safe * safe) + coefficient
    small = jnp.where(is_large, 1, a)
    direct = lax.lgamma(small) - (small - 0.5) * jnp.log(small) + small - math.log(2 * math.pi) / 2
    return jnp.where(is_large, series / safe, direct)


def _fraction(a: Array, b: Array, x: Array, distance: Array) -> Array:
    """K = b₀ + a₁ / (b₁ + …) by Lentz's algorithm, until it has converged for all data sets."""
    tiny = 1e-300

    def term(m: Array) -> tuple[Array, Array]:
        odd = a + 2 * m - 1
        numerator = -(a + m - 1) * (a + b + m - 1) * m * (m - b) * jnp.square(x / odd)
        denominator = m + m * (b - m) * x / odd + (a + m) * (distance + 1 + m * (2 - x)) / (a + 2 * m + 1)
        return numerator, denominator

    def step(state: tuple) -> tuple:
        m, value, c, d, _ = state
        numerator, denominator = term(m)
        d = denominator + numerator * d
        c = denominator + numerator / c
        d, c = 1 / jnp.where(d == 0, tiny, d), jnp.where(c == 0, tiny, c)
        return m + 1, value * c * d, c, d, jnp.any(jnp.abs(c * d - 1) > 2.0**-51)

    first = a * (distance + 1) / (a + 1)
    first = jnp.where(jnp.isfinite(first) & (first != 0), first, 1.0)
    start = jnp.ones(()), first, first, jnp.zeros_like(first), jnp.bool_(True)
    return lax.while_loop(lambda state: state[-1] & (state[0] < MAX_LEVELS), step, start)[1]


def _log_pdf(x: Array, dfn: Array, dfd: Array) -> Array:
    """The logarithm of the density z^a (1 − z)^b / (B(a, b) x) with a = dfd/2, b = dfn/2."""
    a, b = dfd / 2, dfn / 2
    ratio = dfn * x / dfd
    z, y = 1 / (1 + ratio), ratio / (1 + ratio)
    return _log_factor(a, b, z, y, a * y - b * z) - jnp.log(x)


def _isf_of(q: Array, dfn: Array, dfd: Array, dtype: str) -> Array:
    """Newton's method on the logarithm of the smaller tail, which is concave in log x."""
    inside = (q > 0) & (q < 1)
    is_upper = q <= 0.5
    p = jnp.where(inside, jnp.where(is_upper, q, 1 - q), 0.5)
    log_p = jnp.log(p)

    def step(state: tuple) -> tuple:
        count, log_x, _ = state
        upper, lower = _log_tails(jnp.exp(log_x), dfn, dfd)
        tail = jnp.where(is_upper, upper, lower)
        derivative = jnp.exp(_log_pdf(jnp.exp(log_x), dfn, dfd) + log_x - tail)
        change = jnp.where(is_upper, 1, -1) * (tail - log_p) / derivative
        change = jnp.clip(jnp.where(jnp.isfinite(change), change, 0), -50, 50)
        return count + 1, log_x + change, jnp.any(jnp.abs(change) > 1e-14 * (1 + jnp.abs(log_x)))

    start = jnp.zeros((), jnp.int32), _initial_guess(q, dfn, dfd, inside), jnp.bool_(True)
    _, log_x, _ = lax.while_loop(lambda state: state[-1] & (state[0] < MAX_STEPS), step, start)
    valid = (q >= 0) & (q <= 1) & _usable(dfn) & _usable(dfd)
    x = jnp.where(inside, jnp.exp(log_x), jnp.where(q == 0, jnp.inf, 0))
    return jnp.where(valid, x, jnp.nan)


def _initial_guess(q: Array, dfn: Array, dfd: Array, inside: Array) -> Array:
    """The quantile of log F as if it were normal with variance 2/dfn + 2/dfd, which it nearly is."""
    return -ndtri(jnp.where(inside, q, 0.5)) * jnp.sqrt(2 / dfn + 2 / dfd)


def _pdf(x: Array, dfn: Array, dfd: Array) -> Array:
    return jnp.where(x > 0, jnp.exp(_log_pdf(jnp.where(x > 0, x, 1), dfn, dfd)), 0)


def _sf_of(x: Array, dfn: Array, dfd: Array, dtype: str) -> Array:
    return jnp.exp(_log_tails(x, dfn, dfd)[0])


def _cdf_of(x: Array, dfn: Array, dfd: Array, dtype: str) -> Array:
    return jnp.exp(_log_tails(x, dfn, dfd)[1])


def _logsf_of(x: Array, dfn: Array, dfd: Array, dtype: str) -> Array:
    return _log_tails(x, dfn, dfd)[0]


def _ppf_of(q: Array, dfn: Array, dfd: Array, dtype: str) -> Array:
    return 1 / _isf_of(q, dfd, dfn, dtype)


_sf = in_float64(with_derivative(lambda _, x, m, n: -_pdf(x, m, n), _sf_of))
_cdf = in_float64(with_derivative(lambda _, x, m, n: _pdf(x, m, n), _cdf_of))
_logsf = in_float64(with_derivative(lambda log_sf, x, m, n: -_pdf(x, m, n) * jnp.exp(-log_sf), _logsf_of))
_isf = in_float64(with_derivative(lambda x, q, m, n: -1 / _pdf(x, m, n), _isf_of))
_ppf = in_float64(with_derivative(lambda x, q, m, n: 1 / _pdf(x, m, n), _ppf_of))
