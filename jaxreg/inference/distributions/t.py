"""Student's t for df degrees of freedom, from df = 1 to infinity, where it is the normal distribution.

With r = 1/df and s = t² / (1 + t² r), near zero
P(0 < T < t) = t f(t) Σ_k Π_{j<k} s (½ + (½ + j) r) / (3/2 + j), all terms positive, and in the tail
P(T > t) = t f(t) / (2 K), where K is the even part of the continued fraction of the incomplete beta
function (DLMF 8.17.22), written in r so that it stays finite for infinite df. Both have a fixed number of
terms, so that no data set has to wait for another.

Source: DLMF 8.17; A. R. DiDonato and A. H. Morris, ACM Trans. Math. Softw. 18 (1992) 360; for the initial
guess of a quantile D. L. Wallace, Ann. Math. Statist. 30 (1959) 1124.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array
from jaxreg.inference.distributions._arguments import in_float64, with_derivative

SERIES = {"float32": 22, "float64": 48}  # terms, for df ≥ 1
FRACTION = {"float32": 9, "float64": 34}  # levels
STEPS = {"float32": 3, "float64": 5}  # of Newton's method, each of which doubles the digits
MAX_EXPONENT = 709.0  # e^709 is still a finite float64
SHIFT = 12  # added to the argument of Γ, so that its asymptotic series has all digits
RATIO = (-1 / 8, 1 / 192, -1 / 640, 17 / 14336, -31 / 18432)  # log Γ(a + ½) / (Γ(a) √a) in powers a^{-1-2k}


def sf(x: Any, df: Any) -> Array:
    """P(T > x), the upper tail.

    Args:
        x: any shape; the result has its dtype.
        df: degrees of freedom, positive, broadcast with x; infinity is the standard normal.

    Returns:
        Probabilities; NaN where df is not positive. Differentiable in x.

    >>> import numpy as np
    >>> print(sf(np.array([0.0, 2.0, 40.0]), 50))
    [5.00000000e-01 2.54735344e-02 6.20621189e-40]
    """
    return _sf(x, df)


def cdf(x: Any, df: Any) -> Array:
    """P(T ≤ x) = sf(−x).

    >>> import numpy as np
    >>> print(cdf(np.array([-2.0, 0.0]), 50))
    [0.02547353 0.5       ]
    """
    return _sf(_negative(x), df)


def logsf(x: Any, df: Any) -> Array:
    """log P(T > x), which does not underflow: at x = 10⁴ and df = 10⁷ it is −1.2·10⁷.

    >>> import numpy as np
    >>> print(logsf(np.array([0.0, 2.0, 1e4]), 1e7))
    [-6.93147181e-01 -3.78318374e+00 -1.19894853e+07]
    """
    return _logsf(x, df)


def isf(q: Any, df: Any) -> Array:
    """The x with P(T > x) = q.

    Args:
        q: probabilities; x is infinite at 0 and 1, and NaN outside of [0, 1].
        df: degrees of freedom, 1 or more; x is NaN below 1.

    >>> import numpy as np
    >>> print(isf(np.array([0.025, 0.5, 1e-300]), np.array([10.0, 10.0, 3.0])))
    [2.22813885e+000 0.00000000e+000 1.03311084e+100]
    """
    return _isf(q, df)


def ppf(q: Any, df: Any) -> Array:
    """The x with P(T ≤ x) = q; minus isf(q, df).

    >>> import numpy as np
    >>> print(ppf(np.array([0.025, 0.975]), 10))
    [-2.22813885  2.22813885]
    """
    return -_isf(q, df)


def log_p(x: Any, df: Any) -> Array:
    """log P(|T| > |x|), the logarithm of the two-sided p-value.

    >>> import numpy as np
    >>> print(log_p(np.array([2.0, -2.0, 40.0]), 50))
    [ -2.97696805  -2.97696805 -89.58470583]
    """
    return _log_p(x, df)


def _negative(x: Any) -> Any:
    x = x if hasattr(x, "dtype") else jnp.asarray(x)
    return -(x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.result_type(float)))


def _log_p_of(x: Array, df: Array, dtype: str) -> Array:
    log_p, _, _ = _tails(jnp.abs(x), df, dtype)
    return log_p


def _sf_of(x: Array, df: Array, dtype: str) -> Array:
    log_p, center, _ = _tails(jnp.abs(x), df, dtype)
    return jnp.where(x > 0, jnp.exp(log_p - math.log(2)), 0.5 + center)


def _logsf_of(x: Array, df: Array, dtype: str) -> Array:
    log_p, _, _ = _tails(jnp.abs(x), df, dtype)
    upper = log_p - math.log(2)
    return jnp.where(x > 0, upper, jnp.log1p(-jnp.exp(upper)))


def _isf_of(q: Array, df: Array, dtype: str) -> Array:
    """Newton's method on log P(T > t) as a function of log t, or on P(0 < T < t) as a function of t near 0.

    Both are concave, so that from the first step on all iterates lie on the same side of the root and
    approach it.
    """
    small = jnp.minimum(q, 1 - q)
    near, target = small > 0.25, 0.5 - small
    inside = (small > 0) & (small < 0.5)
    log_q = jnp.log(jnp.where(inside, small, 0.25))
    t = _initial_guess(jnp.where(inside, small, 0.25), df)

    def step(_: Any, t: Array) -> Array:
        log_p, center, log_pdf = _tails(t, df, dtype)
        excess = log_p - math.log(2) - log_q
        change = excess * jnp.exp(log_p - math.log(2) - log_pdf - jnp.log(t))
        in_tail = jnp.exp(jnp.minimum(jnp.log(t) + change, MAX_EXPONENT))
        return jnp.where(near, t - (center - target) * jnp.exp(-log_pdf), in_tail)

    t = lax.fori_loop(0, STEPS[dtype], step, t)  # unrolled, it would compile five times as long
    t = jnp.where(inside, t, jnp.where(small == 0.5, 0.0, jnp.inf))
    return jnp.where((small >= 0) & (df >= 1), jnp.where(q > 0.5, -t, t), jnp.nan)


def _initial_guess(q: Array, df: Array) -> Array:
    """Wallace's approximation: (8 df + 1) / (8 df + 3) √(df log(1 + t² / df)) is nearly normal.

    The normal quantile is that of Abramowitz and Stegun 26.2.23, to 4.5e-4.
    """
    r = 1 / df
    s = jnp.sqrt(-2 * jnp.log(q))
    normal = s - (2.515517 + s * (0.802853 + s * 0.010328)) / (
        1 + s * (1.432788 + s * (0.189269 + s * 0.001308))
    )
    w = jnp.square(normal * (8 + 3 * r) / (8 + r))
    exponential = jnp.expm1(jnp.minimum(w * r, MAX_EXPONENT))
    return jnp.sqrt(jnp.where(r > 0, exponential / jnp.where(r > 0, r, 1), w))


def _tails(t: Array, df: Array, dtype: str) -> tuple[Array, Array, Array]:
    """log P(|T| > t), P(0 < T < t) and log f(t), for t ≥ 0."""
    r = 1 / df
    x, s = 1 / (1 + t * t * r), 1 / (1 / (t * t) + r)
    log_pdf = _log_pdf(t, r)
    is_far = t * t * (1 + 2 * r) ** 2 > 3 * (2 + r)
    center = jnp.where(is_far, 0, t * jnp.exp(log_pdf) * _series(s, r, SERIES[dtype]))
    log_far = log_pdf + jnp.log(t / _fraction(x, s, r, FRACTION[dtype]))
    log_far = jnp.where(t == jnp.inf, -jnp.inf, log_far)
    log_p = jnp.where(is_far, log_far, jnp.log1p(-2 * center))
    center = jnp.where(is_far, 0.5 - jnp.exp(log_far - math.log(2)), center)
    valid = (df > 0) & (t >= 0)
    return jnp.where(valid, log_p, jnp.nan), jnp.where(valid, center, jnp.nan), log_pdf


def _log_pdf(t: Array, r: Array) -> Array:
    """log f(t) = log c − (df + 1)/2 · log(1 + t² / df)."""
    ratio = t * jnp.sqrt(r)
    log = jnp.where(ratio > 1e9, 2 * jnp.log(ratio), jnp.log1p(ratio * ratio))  # t² may overflow
    exponent = jnp.where(r > 0, log / jnp.where(r > 0, r, 1), t * t)
    return _log_constant(r) - (1 + r) / 2 * exponent


def _log_constant(r: Array) -> Array:
    """log Γ((df + 1)/2) / (Γ(df/2) √(π df)), by the asymptotic series at df/2 + SHIFT."""
    r = jnp.maximum(r, 1e-300)
    ratio = jnp.ones_like(r)
    for j in range(SHIFT):  # (a + j) / (a + j + ½) with a = 1 / (2r)
        ratio = ratio * (1 + 2 * j * r) / (1 + (2 * j + 1) * r)
    inverse = 2 * r / (1 + 2 * SHIFT * r)  # of df/2 + SHIFT
    series = jnp.zeros_like(r)
    for coefficient in reversed(RATIO):
        series = series * inverse * inverse + coefficient
    shifted = jnp.log(ratio * ratio * (1 + 2 * SHIFT * r)) / 2
    return series * inverse + shifted - math.log(2 * math.pi) / 2


def _series(s: Array, r: Array, terms: int) -> Array:
    total = jnp.ones_like(s)
    for k in reversed(range(terms)):
        total = 1 + s * (0.5 + (0.5 + k) * r) / (1.5 + k) * total
    return total


def _fraction(x: Array, s: Array, r: Array, levels: int) -> Array:
    """K = b₀ + a₁ / (b₁ + a₂ / (b₂ + …)) with x = 1 / (1 + t² r)."""
    half = (s - x) / 2
    inverse = [1 / (1 + (4 * m + 2) * r) for m in range(levels + 1)]

    def b(m: int) -> Array:
        first = (1 + 2 * m * r) * inverse[m] * (half + 1 + m * (2 - x))
        if m == 0:
            return first
        return m + 2 * m * (0.5 - m) * r * x * inverse[m - 1] + first

    def a(m: int) -> Array:
        product = (1 + 2 * (m - 1) * r) * (1 + (2 * m - 1) * r)
        return -product * m * (m - 0.5) * jnp.square(x * inverse[m - 1])

    value = b(levels)
    for m in reversed(range(1, levels + 1)):
        value = b(m - 1) + a(m) / value
    return value


def _logsf_derivative(log_sf: Array, x: Array, df: Array) -> Array:
    return -jnp.exp(_log_pdf(jnp.abs(x), 1 / df) - log_sf)


def _log_p_derivative(log_p: Array, x: Array, df: Array) -> Array:
    return -2 * jnp.sign(x) * jnp.exp(_log_pdf(jnp.abs(x), 1 / df) - log_p)


_sf = in_float64(with_derivative(lambda _, x, df: -jnp.exp(_log_pdf(jnp.abs(x), 1 / df)), _sf_of))
_logsf = in_float64(with_derivative(_logsf_derivative, _logsf_of))
_log_p = in_float64(with_derivative(_log_p_derivative, _log_p_of))
_isf = in_float64(with_derivative(lambda t, q, df: -jnp.exp(-_log_pdf(jnp.abs(t), 1 / df)), _isf_of))
