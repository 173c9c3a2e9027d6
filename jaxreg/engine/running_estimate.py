"""From running sums to the estimate of each data set, and to its moments."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.engine.compensated import Solved, point_in_float64, smallest_usable_pivot
from jaxreg.engine.double_double_equations import (
    FromBasis,
    double_double_coef_error,
    solve_in_double_double,
)
from jaxreg.engine.estimate import Estimate, estimate_of
from jaxreg.engine.moments import Moments
from jaxreg.engine.running_sums import RunningSums, Totals, totals_of
from jaxreg.engine.sums import Sums
from jaxreg.engine.turning_point import TurningPoint, with_lists
from jaxreg.numerics import double_double, small
from jaxreg.numerics.double_double import DoubleDouble
from jaxreg.numerics.precision import double_double_unit, float64
from jaxreg.numerics.vectors import over_batch
from jaxreg.status import Status


@partial(jax.jit, static_argnames="forgets")
def estimate_of_running_sums(sums: RunningSums, *, forgets: bool) -> Estimate:
    """The estimate from the sums of each data set.

    Args:
        sums: of the observations.
        forgets: whether the number of observations is Σ λ^age.
    """
    ansatz, dtype = sums.ansatz, sums.dtype
    p = sums.p
    with float64():
        totals = totals_of(sums)
        point = with_lists(over_batch(partial(_turning_point, ansatz, dtype), (totals,), sums.nobs.ndim))
        point = point._replace(finite=sums.invalid == 0)
        nobs, log_weight = totals.discounted.value
        counted = sums.nobs.astype(jnp.float64)
        if forgets:  # with too few effective observations for errors, not for params
            counted = jnp.where(sums.nobs < p, counted, jnp.maximum(nobs, p))
        weight = totals.S.value[0, 0] * jnp.square(totals.root_unit)
        estimate, _ = estimate_of(ansatz, point, Sums(counted, weight, log_weight, [], []), Status.ok, dtype)
        origins = {"x_origin": sums.scaling.x_origin, "y_origin": sums.scaling.y_origin}
        estimate = replace(estimate, **origins)
        return replace(estimate, nobs=nobs.astype(dtype)) if forgets else estimate


@jax.jit
def moments_of_running_sums(sums: RunningSums) -> Moments:
    """The averages, in double-double of the dtype of the data."""
    with float64():
        totals, ansatz = totals_of(sums), sums.ansatz
        weight = totals.S.value[0, 0]
        return Moments(
            nobs=sums.nobs,
            root_weight=(jnp.sqrt(jnp.maximum(weight, 0)) * totals.root_unit).astype(sums.dtype),
            G=double_double.narrow(_averages(ansatz, totals), sums.dtype),
            scaling=sums.scaling,
            invalid=sums.invalid != 0,
            ansatz=ansatz,
        )


def _averages(ansatz: Ansatz, totals: Totals) -> DoubleDouble:
    """⟨z zᵀ⟩ of z = (ψ(t), u)."""
    first, weight = int(not ansatz.has_intercept), totals.S[0, 0]
    weight = double_double.where(weight.hi > 0, weight, DoubleDouble.of(jnp.ones_like(weight.hi)))
    return totals.S[first:, first:] / weight


def _turning_point(ansatz: Ansatz, dtype: np.dtype, totals: Totals) -> TurningPoint:
    """The turning point of one data set."""
    G, scaling = _averages(ansatz, totals), totals.scaling
    p = G.shape[0] - 1
    sizes = jnp.sqrt(jnp.maximum(small.diagonal(G.hi), 0))
    rounding = _largest_relative(totals, G, sizes)
    min_pivot = jnp.maximum(smallest_usable_pivot(scaling, dtype), 4 * p * rounding)
    solution = solve_in_double_double(G, min_pivot)
    error = double_double_coef_error(solution, sizes, rounding + double_double_unit())
    from_basis = FromBasis.of(ansatz, scaling)
    solved = Solved(solution.coefs, error, solution.inverse, solution.unexplained, G)
    point = point_in_float64(ansatz, scaling, from_basis, solved, _y_variance(totals), dtype)
    return point._replace(full_rank=solution.smallest_pivot > min_pivot)


def _largest_relative(totals: Totals, G: DoubleDouble, sizes: Array) -> Array:
    """The largest rounding error of G_ij relative to √(G_ii G_jj)."""
    first = totals.S.shape[0] - G.shape[0]
    weight = totals.S.hi[0, 0]
    errors = totals.errors[first:, first:] / jnp.where(weight > 0, weight, 1)
    size = sizes[:, None] * sizes[None]
    return jnp.max(jnp.where(size > 0, errors / jnp.where(size > 0, size, 1), 0))


def _y_variance(totals: Totals) -> Array:
    """⟨(u − ⟨u⟩)²⟩; NaN for the sums of moments without means."""
    weight = jnp.where(totals.S.hi[0, 0] > 0, totals.S.hi[0, 0], 1)
    mean = totals.S[0, -1] / weight
    variance = (totals.S[-1, -1] / weight - mean * mean).value
    return variance + 0 * totals.discounted.hi[1]
