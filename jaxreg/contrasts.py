"""Tests of linear combinations of the params, all data sets at once.

Combinations are computed in the frame of a fit, C θ = unit · (C P)(−c, 1): there no digit is lost to an
offset of x, however much the params hang together.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.scipy.linalg import solve_triangular

from jaxreg import small
from jaxreg._typing import Array
from jaxreg.closed_form import FromCoefs
from jaxreg.distributions import f, t
from jaxreg.precision import float64, in_own_precision

if TYPE_CHECKING:
    from jaxreg.inference import Inference


# The share of its variance in which a contrast differs from others, above the rounding of stored covariances.
LEAST_REGULAR = {"float32": 2.0**-20, "float64": 2.0**-40}
ROUNDING = 256  # in units of the last digit: what sums over the same data may differ by


class TTest(NamedTuple):
    """Tests of linear combinations of the params.

    Attributes:
        effect: cᵀθ, (*batch) or (q, *batch) for q combinations, as all the others.
        sd: its standard error.
        tvalue: (cᵀθ − value) / sd.
        pvalue: of both tails.
        df_denom: degrees of freedom of Student's t, infinite for the normal distribution.
    """

    effect: Array
    sd: Array
    tvalue: Array
    pvalue: Array
    df_denom: Array

    def conf_int(self, alpha: Any = 0.05) -> Array:
        """(lower, upper) limits of the combinations with confidence 1 − alpha, (2, …)."""
        return around(self.effect, self.sd, quantiles(self.df_denom, alpha))


class FTest(NamedTuple):
    """A test that several combinations of the params vanish together.

    Attributes:
        fvalue: (*batch).
        pvalue: P(F > fvalue), (*batch).
        df_num: how many combinations.
        df_denom: degrees of freedom of the denominator, (*batch).
    """

    fvalue: Array
    pvalue: Array
    df_num: int
    df_denom: Array


def as_numbers(given: Any, p: int) -> np.ndarray:
    """C as numbers, (p,) or (q, p)."""
    try:
        C = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"contrasts are numbers of shape ({p},) or (q, {p}), got {given!r}") from None
    if C.ndim not in (1, 2) or C.shape[-1] != p or not C.size:
        raise ValueError(f"contrasts are numbers of shape ({p},) or (q, {p}), got shape {C.shape}")
    if not np.isfinite(C).all() or (C == 0).all(axis=-1).any():
        raise ValueError(f"a contrast is of finite numbers that are not all 0; got {C.tolist()}")
    return C


def as_values(given: Any, C: np.ndarray) -> Any:
    """What the contrasts are tested against, a number or one for each."""
    given = given if isinstance(given, jax.Array) else np.asarray(given, np.float64)
    if given.shape not in ((), (np.atleast_2d(C).shape[0],)):
        raise ValueError(
            f"value is the same for all data sets: a number, or one for each of the {len(np.atleast_2d(C))} "
            f"contrasts; got shape {given.shape}"
        )
    return given


@in_own_precision
@jax.jit
def t_tests(fit: Inference, C: Array, value: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Cθ, its standard error, t, p-value and degrees of freedom of every row of C, (q, *batch)."""
    with float64():
        away, rows, unit = _combined(fit, C, value)
        V = small.matmul(small.matmul(rows, fit._cov_of_coefs()), jnp.swapaxes(rows, 0, 1))
        sd = unit * jnp.sqrt(jnp.maximum(small.diagonal(V), 0))
        effect, sd, tvalue = (a.astype(fit.params.dtype) for a in (_combined(fit, C, 0.0)[0], sd, away / sd))
    df = jnp.broadcast_to(fit._df_t, sd.shape)
    return effect, sd, tvalue, jnp.exp(t.log_p(tvalue, df)), df


@in_own_precision
@jax.jit
def f_of(fit: Inference, C: Array, value: Array) -> tuple[Array, Array]:
    """F of all rows of C together, and its p-value."""
    with float64():
        effect, rows, unit = _combined(fit, C, value)
        least = LEAST_REGULAR[fit.params.dtype.name]
        fvalue = _mahalanobis(effect / unit, rows, fit._cov_of_coefs(), least) / C.shape[0]
        fvalue = fvalue.astype(fit.params.dtype)
    return fvalue, tail_of_f(fit, fvalue, C.shape[0])


@in_own_precision
@jax.jit
def gain_over(fit: Inference, restricted: Inference) -> tuple[Array, Array]:
    """F of what a fit explains beyond a restricted one, and its p-value."""
    more = fit.params.shape[0] - restricted.params.shape[0]
    unit = jnp.square(restricted.frame.y_scale / fit.frame.y_scale)
    gain = restricted.rest * unit - fit.rest
    if fit.ansatz.has_intercept == restricted.ansatz.has_intercept:  # the smaller numbers lose less
        gain = jnp.where(fit.explained < fit.rest, fit.explained - restricted.explained * unit, gain)
    nested = gain >= -ROUNDING * jnp.finfo(gain.dtype).eps * (fit.rest + jnp.abs(fit.explained))
    usable = nested & (fit.nobs == restricted.nobs) & (fit.df_resid > 0)
    fvalue = jnp.where(usable, jnp.maximum(gain, 0) / more / fit._variance, jnp.nan)
    return fvalue, tail_of_f(fit, fvalue, more)


def same_data(a: Inference, b: Inference) -> bool:
    """Whether Σ w y² of both is the same where both have as many observations; not asked of traced fits."""
    if isinstance(a.params, Tracer) or isinstance(b.params, Tracer):
        return True
    ours, theirs = np.asarray(a.uncentered_tss), np.asarray(b.uncentered_tss)
    comparable = (np.asarray(a.nobs) == np.asarray(b.nobs)) & np.isfinite(ours) & np.isfinite(theirs)
    return np.allclose(ours[comparable], theirs[comparable], rtol=ROUNDING * np.finfo(ours.dtype).eps, atol=0)


@in_own_precision
@partial(jax.jit, static_argnums=2)
def tail_of_f(fit: Inference, fvalue: Array, q: int) -> Array:
    """P(F > fvalue) for q combinations."""
    df = fit._df_denom.astype(fvalue.dtype)
    if q == 1:  # F is T²
        return jnp.exp(t.log_p(jnp.sqrt(fvalue), df))
    return f.sf(fvalue, q, df)


def _combined(fit: Inference, C: Array, value: Any) -> tuple[Array, Array, Array]:
    """Cθ − value, and rows g and a unit of (Cθ)˙ = unit · g ċ; in the frame, where no digit is lost."""
    P = FromCoefs.of(fit.ansatz, fit.frame, single=True).P.hi
    C = C.reshape(*C.shape, *(1,) * (P.ndim - 2)).astype(jnp.float64)
    rows = jnp.stack([small.dot(C[i][:, None], P) for i in range(C.shape[0])])
    unit = jnp.asarray(fit.frame.y_scale).astype(jnp.float64)
    coefs = jnp.asarray(fit.coefs).astype(jnp.float64)
    values = jnp.asarray(value, jnp.float64)
    values = values.reshape(*values.shape, *(1,) * (P.ndim - 2)) if values.ndim else values
    effect = unit * (rows[:, -1] - small.matvec(rows[:, :-1], coefs)) - values
    return effect, -rows[:, :-1], unit


def _mahalanobis(effect: Array, rows: Array, V: Array, least: float) -> Array:
    """eᵀ (G V Gᵀ)⁻¹ e as |L⁻¹R⁻ᵀe|² with Gᵀ = Q R and QᵀVQ = L Lᵀ, which does not square the condition of G.

    Only the block QᵀVQ needs an inverse, V does not. NaN where a share of a diagonal entry of it not above
    `least` is independent of those before: it is singular to its rounding.
    """
    if rows.shape[0] == 1:
        return jnp.square(effect[0]) / small.dot(rows[0], small.matvec(V, rows[0]))
    e = jnp.moveaxis(effect, 0, -1)[..., None]
    V, rows = (jnp.moveaxis(a, (0, 1), (-2, -1)) for a in (V, rows))
    Q, R = jnp.linalg.qr(jnp.swapaxes(rows, -2, -1))
    block = jnp.swapaxes(Q, -2, -1) @ V @ Q
    known, exact = jnp.isfinite(block).all(axis=(-2, -1)), (block == 0).all(axis=(-2, -1))
    unit = jnp.eye(block.shape[-1])
    L = jnp.linalg.cholesky(jnp.where((known & ~exact)[..., None, None], lax.stop_gradient(block), unit))
    pivots, variances = (jnp.diagonal(a, axis1=-2, axis2=-1) for a in (jnp.square(L), block))
    regular = known & (pivots > least * variances).all(axis=-1)  # NaN, where it broke down, is not
    L = jnp.linalg.cholesky(jnp.where(regular[..., None, None], block, unit))
    half = solve_triangular(R, jnp.where(regular[..., None, None], e, 0), trans=1)
    half = solve_triangular(L, half, lower=True)
    inside = jnp.where(regular, jnp.sum(jnp.square(half[..., 0]), axis=-1), jnp.nan)
    return jnp.where(exact, jnp.where((e[..., 0] == 0).all(axis=-1), jnp.nan, jnp.inf), inside)


def rank(C: np.ndarray) -> int:
    """How many rows are independent, with columns in units of their largest number and rows of length 1."""
    unit = np.abs(C).max(axis=0)
    scaled = C / np.where(unit > 0, unit, 1)
    return int(np.linalg.matrix_rank(scaled / np.linalg.norm(scaled, axis=1, keepdims=True)))


def quantiles(df: Array, alpha: Any) -> Array:
    """Of Student's t, at 1 − alpha/2."""
    if not isinstance(alpha, Tracer):
        number = np.asarray(alpha)
        if number.ndim or number.dtype.kind != "f" or not 0 < number < 1:
            raise ValueError(f"alpha is a probability between 0 and 1, such as 0.05; got {alpha!r}")
    return _quantiles(df, alpha)


@in_own_precision
def _quantiles(df: Array, alpha: Any) -> Array:
    return t.isf(jnp.full_like(df, alpha / 2), df)


@in_own_precision
@jax.jit
def around(center: Array, sd: Array, quantile: Array) -> Array:
    """(lower, upper)."""
    return jnp.stack([center - quantile * sd, center + quantile * sd])
