"""Tests of linear combinations of the params, all data sets at once.

Combinations of params are computed as combinations of coefs, whose basis lies around the data: no digit is
lost to an offset of x, however correlated the params are.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.scipy.linalg import solve_triangular

from jaxreg._typing import Array
from jaxreg.engine.features import Row, deviation, params_of
from jaxreg.inference.differentiable import differentiable
from jaxreg.inference.distributions import f, t
from jaxreg.numerics import small
from jaxreg.numerics.precision import float64, in_own_precision, power_of_two, promoting
from jaxreg.numerics.vectors import triangle

if TYPE_CHECKING:
    from jaxreg.inference.statistics import Inference


# The share of its variance in which a contrast differs from others, above the rounding of stored covariances.
MIN_REGULAR = {"float32": 2.0**-20, "float64": 2.0**-40}
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


@differentiable
def t_tests(fit: Inference, C: Any, value: Any) -> tuple[Array, Array, Array, Array, Array]:
    """Cθ, its standard error, t, p-value and degrees of freedom of every row of C, (q, *batch)."""
    with float64():
        rows = _rows_of(fit, C)
        V = fit._cov_of_coefs()
        effect = _effect(fit, C, rows)
        sd = jnp.stack([deviation(row, V) for row in rows])
        away = effect - _per_row(value, effect)
        effect, sd, tvalue = (a.astype(fit.estimate.params.dtype) for a in (effect, sd, away / sd))
    df = jnp.broadcast_to(fit._df_t, sd.shape)
    return effect, sd, tvalue, jnp.exp(t.log_p(tvalue, df)), df


@differentiable
def f_of(fit: Inference, C: Any, value: Any) -> tuple[Array, Array]:
    """F of all rows of C together, and its p-value."""
    with float64():
        rows = _rows_of(fit, C)
        effect = _effect(fit, C, rows)
        away = effect - _per_row(value, effect)
        p, unit = fit._p, fit._sigma_over_root_weight().astype(jnp.float64)
        dense = jnp.stack(
            [jnp.stack([jnp.broadcast_to(row.get(k, 0.0), unit.shape) for k in range(p)]) for row in rows]
        )
        unit_cov = jnp.asarray(fit.estimate.unit_cov)[triangle(p)].astype(jnp.float64)
        least = MIN_REGULAR[fit.estimate.params.dtype.name]
        fvalue = _mahalanobis(
            away / jnp.where(unit > 0, unit, 1), dense, jnp.where(unit > 0, unit_cov, 0 * unit_cov), least
        )
        fvalue = (fvalue / C.shape[0]).astype(fit.estimate.params.dtype)
    return fvalue, _tail_of_f(fit, fvalue, C.shape[0])


@differentiable
def _gain_over(fit: Inference, restricted: Any) -> Array:
    """F of what a fit explains beyond the estimate of a restricted one."""
    e, r = fit.estimate, restricted.estimate
    more = e.params.shape[0] - r.params.shape[0]
    unit = power_of_two(jnp.maximum(e.residual, jnp.abs(e.explained)))
    squares = [jnp.sign(a) * jnp.square(a / unit) for a in (e.residual, e.explained, r.residual, r.explained)]
    rest, explained, their_rest, their_explained = squares
    gain = their_rest - rest
    if fit.ansatz.has_intercept == restricted.ansatz.has_intercept:  # the smaller numbers lose less
        gain = jnp.where(explained < rest, explained - their_explained, gain)
    nested = gain >= -ROUNDING * jnp.finfo(gain.dtype).eps * (rest + jnp.abs(explained))
    usable = nested & (e.nobs == r.nobs) & (fit.df_resid > 0)
    return jnp.where(usable, jnp.maximum(gain, 0) / more / fit._over_df(rest), jnp.nan)


def gain_over(fit: Inference, restricted: Inference) -> tuple[Array, Array]:
    """F of what a fit explains beyond a restricted one, and its p-value."""
    fvalue = _gain_over(fit, restricted)
    return fvalue, tail_of_f(fit, fvalue, fit._p - restricted._p)


def same_data(a: Inference, b: Inference) -> bool:
    """Whether Σ w y² of both is the same where both have as many observations; not asked of traced fits."""
    if isinstance(a.estimate.params, Tracer) or isinstance(b.estimate.params, Tracer):
        return True
    ours, theirs = np.asarray(a.uncentered_tss), np.asarray(b.uncentered_tss)
    same = np.asarray(a.estimate.nobs) == np.asarray(b.estimate.nobs)
    comparable = same & np.isfinite(ours) & np.isfinite(theirs)
    return np.allclose(ours[comparable], theirs[comparable], rtol=ROUNDING * np.finfo(ours.dtype).eps, atol=0)


def tail_of_f(fit: Inference, fvalue: Array, q: int) -> Array:
    """P(F > fvalue) for q combinations."""
    return _tail(fit, fvalue, jnp.zeros(q))


@differentiable
def _tail(fit: Inference, fvalue: Array, q: Array) -> Array:
    return _tail_of_f(fit, fvalue, len(q))


def _tail_of_f(fit: Inference, fvalue: Array, q: int) -> Array:
    df = fit._float(fit._df_denom)
    if q == 1:  # F is T²
        return jnp.exp(t.log_p(jnp.sqrt(fvalue), df))
    return f.sf(fvalue, q, df)


def _rows_of(fit: Inference, C: Array) -> list[Row]:
    """Each combination of params as one of coefs, in float64: no digit is lost to an offset of x."""
    features = fit._feature_rows()
    rows: list[Row] = []
    for weights in C:
        row: Row = {}
        for weight, feature in zip(weights, features, strict=True):
            for k, m in feature.items():
                row[k] = row.get(k, 0.0) + weight.astype(jnp.float64) * m
        rows.append(row)
    return rows


def _effect(fit: Inference, C: Array, rows: list[Row]) -> Array:
    """Cθ, (q, *batch), in float64."""
    e = fit.estimate
    coefs = jnp.asarray(e.coefs).astype(jnp.float64)
    effect = jnp.stack(params_of(rows, coefs))
    if e.y_origin is None:
        return effect
    return effect + _per_row(C[:, 0], effect) * e.y_origin.astype(jnp.float64)


def _per_row(value: Array, effect: Array) -> Array:
    """A number for all rows, or one for each."""
    value = jnp.asarray(value).astype(jnp.float64)
    return value.reshape(*value.shape, *(1,) * (effect.ndim - 1)) if value.ndim else value


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _mahalanobis(effect: Array, rows: Array, V: Array, least: float) -> Array:
    """`_squared_length`, whose derivative is a sum of products of each data set.

    A product of matrices in float64 cannot be transposed where 64 bits are off.
    """
    return _squared_length(effect, rows, V, least)


@_mahalanobis.defjvp
@promoting
def _mahalanobis_jvp(least: float, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    effect, rows, V = primals
    with float64():
        value = _mahalanobis(effect, rows, V, least)

        def total(effect: Array, rows: Array, V: Array) -> Array:
            return jnp.sum(_squared_length(effect, rows, V, least))

        slopes = jax.grad(total, (0, 1, 2))(effect, rows, V)
        slopes = [jnp.where(jnp.isfinite(slope), slope, 0) for slope in slopes]
        parts = [
            jnp.sum(slope * dot, axis=tuple(range(slope.ndim - value.ndim)))
            for slope, dot in zip(slopes, tangents, strict=True)
        ]
        return value, reduce(jnp.add, parts)


def _squared_length(effect: Array, rows: Array, V: Array, least: float) -> Array:
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
    return t.isf(jnp.zeros_like(df) + alpha / 2, df)


@in_own_precision
@jax.jit
def around(center: Array, sd: Array, quantile: Array) -> Array:
    """(lower, upper)."""
    return jnp.stack([center - quantile * sd, center + quantile * sd])
