"""The operation that reads the data: `estimate`, which JAX's transformations see as one of their own.

x (n, *batch) or (n, k, *batch), y (n, *batch) and weights (n, *batch) come with the observations in front
and the axes of the data sets behind, of length 1 where something is shared; results have these at their end.

derivative: the implicit function theorem at p = 0, whatever found the point; zero tangents cost nothing.
batching: `vmap` is one more axis of data sets, at the end; what is not mapped has length 1 there.
platform: the sums run over the rows in order; how many at once is the platform's, see `rows`.
habit: the axes of the data sets are never merged, cut or gathered, so that meshes leave every device its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.engine import matrix_sums
from jaxreg.engine.compensated import compensated
from jaxreg.engine.derivative import first_order
from jaxreg.engine.estimate import Estimate, Exact, estimate_of
from jaxreg.engine.moments import Moments, averages, moments_of_double_double, moments_of_point
from jaxreg.engine.row_sums import row_sums
from jaxreg.engine.rows import ROWS, by_platform
from jaxreg.engine.sandwich import Robust, with_robust_errors
from jaxreg.engine.scaling import Scaling
from jaxreg.engine.shared_sums import SharedSums, shared_sums
from jaxreg.engine.sums import Origin, Sums, columns_of, sum_scaling
from jaxreg.engine.turning_point import TurningPoint, max_roundings, turning_point, with_lists
from jaxreg.numerics.double_double import DoubleDouble
from jaxreg.numerics.precision import float64, promoting
from jaxreg.numerics.vectors import over_batch

DATA = ("x", "y", "weights", "cost")  # what an estimate has derivatives in


class Operands(NamedTuple):
    """What `estimate` reads: arrays with axes of length 1 where the data sets share them.

    Attributes:
        x: (n, *batch), or (n, k, *batch) where one observation is a vector.
        y: (n, *batch).
        weights: (n, *batch), or None.
        sigma_unit: weights are (sigma_unit / sigma)², (*batch); None where weights were given.
        x_origin: what was taken out of integers, (*batch) or (k, *batch); None of floats.
        y_origin: the same, (*batch).
        solver: what finds the point, whose numbers are the same for all data sets or one for each.
        robust: what standard errors are made of, None for one variance.
        cost: a cost of another kind, whose numbers have the axes of the data sets behind their own.
    """

    x: Array
    y: Array
    weights: Array | None = None
    sigma_unit: Array | None = None
    x_origin: Array | None = None
    y_origin: Array | None = None
    solver: Any = None
    robust: Robust | None = None
    cost: Any = None

    def origin(self, ansatz: Ansatz) -> Origin:
        """In float64."""
        x, y = jax.tree.map(lambda a: a.astype(jnp.float64), (self.x_origin, self.y_origin))
        return Origin(None if x is None else columns_of(ansatz, x, 0), y)


class Result(NamedTuple):
    """What is found of the data sets.

    Attributes:
        estimate: the estimate.
        bread: ⟨ψψᵀ⟩⁻¹, the lower triangle row by row; with one variance the `unit_cov` of the estimate.
        coefs_rest: what rounding has taken from the coefs of the estimate.
        accurate: whether rounding is too small to be noticed.
    """

    estimate: Estimate
    bread: Array
    coefs_lo: Array
    accurate: Array


def operation(kernel: Callable, near: Callable) -> Callable:
    """An operation f(ansatz, certified, operands) with the rules of derivative and batching.

    Args:
        kernel: f itself, of arrays whose axes of the data sets are at the end.
        near: near(ansatz, operands, fixed, result, y_only) is the result near the data that it is made of, to
            be differentiated in `operands`; `fixed` are the same, and do not move.
    """

    @partial(jax.custom_jvp, nondiff_argnums=(0, 1))
    def operate(ansatz: Ansatz, certified: bool, operands: Operands) -> Any:
        return batched(ansatz, certified)(operands)

    @partial(operate.defjvp, symbolic_zeros=True)
    @promoting
    def implicit(ansatz: Ansatz, certified: bool, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
        (operands,), (moves,) = primals, tangents
        result = operate(ansatz, certified, operands)
        data = {name: getattr(operands, name) for name in DATA}
        leaves, tree = jax.tree.flatten(data)
        tangents_of = jax.tree.leaves({name: getattr(moves, name) for name in DATA})
        moving = [i for i, t in enumerate(tangents_of) if not isinstance(t, SymbolicZero)]

        def of(*values: Array) -> Any:
            moved = list(leaves)
            for i, value in zip(moving, values, strict=True):
                moved[i] = value
            y_only = [leaves[i] is operands.y for i in moving] == [True]
            return near(
                ansatz, operands._replace(**jax.tree.unflatten(tree, moved)), operands, result, y_only
            )

        at, along = (tuple(a[i] for i in moving) for a in (leaves, tangents_of))
        _, change = jax.jvp(of, at, along)
        # Nothing moves what is NaN: a failed data set, or a standard error that is not there.
        return result, jax.tree.map(_where_finite, result, change)

    @lru_cache(maxsize=256)
    def batched(ansatz: Ansatz, certified: bool) -> Callable:
        function = custom_vmap(partial(kernel, ansatz, certified))

        @function.def_vmap
        @promoting
        def one_axis_more(axis_size: int, in_batched: list[Operands], operands: Operands) -> tuple:
            """The mapped axis goes to the end; what is not mapped gets an axis of length 1 there."""
            moved = jax.tree.map(
                lambda a, mapped: jnp.moveaxis(a, 0, -1) if mapped else a[..., None] if jnp.ndim(a) else a,
                operands,
                *in_batched,
            )
            found = jax.tree.map(lambda a: jnp.moveaxis(a, -1, 0), function(moved))
            return found, jax.tree.map(lambda _: True, found)

        return function

    return operate


@partial(jax.jit, static_argnums=(0, 1))
def _estimate(ansatz: Ansatz, certified: bool, operands: Operands) -> Result:
    """float64 opens here and closes here."""
    with float64():
        found = (in_double_double if certified else by_sums)(ansatz, operands)
        result, exact = result_of(ansatz, operands, found, operands.y.dtype)
        if operands.robust is None:
            return result
        estimate = robust_estimate(ansatz, operands.robust, result.estimate, exact, operands[:3])
        return result._replace(estimate=estimate)


def _near_estimate(
    ansatz: Ansatz, operands: Operands, fixed: Operands, result: Result, y_only: bool
) -> Result:
    found, exact = first_order(
        ansatz,
        *result[:3],
        operands.sigma_unit,
        operands[:3],
        at_minimum=operands.solver.ends_at_turning_point,
        y_only=y_only,
    )
    if operands.robust is not None:
        known = jnp.isfinite(result.estimate.bse)
        found = replace(found, bse=jnp.where(known, found.bse, jnp.nan))  # of the others nothing moves
        found = with_robust_errors(ansatz, operands.robust, found, exact, *operands[:3], rows=ROWS["cpu"])
    return result._replace(estimate=found, bread=exact.unit_cov)


@partial(jax.jit, static_argnums=(0, 1))
def _moments(ansatz: Ansatz, certified: bool, operands: Operands) -> Moments:
    with float64():
        found = (in_double_double if certified else by_sums)(ansatz, operands)
        return moments_of(ansatz, operands, found, operands.y.dtype)[0]


def _near_moments(
    ansatz: Ansatz, operands: Operands, fixed: Operands, result: Moments, y_only: bool
) -> Moments:
    return averages(result, *operands[:3])


estimate = operation(_estimate, _near_estimate)
moments = operation(_moments, _near_moments)


class SumsAndPoint(NamedTuple):
    """The turning points of data sets.

    Attributes:
        sums: what was counted.
        point: the turning points.
        G: ⟨z zᵀ⟩ to twice the digits of float64, and its scaling; None from plain sums.
    """

    sums: Sums | SharedSums
    point: TurningPoint
    G: tuple[DoubleDouble, Scaling] | None


def by_sums(ansatz: Ansatz, operands: Operands) -> SumsAndPoint:
    """From plain sums."""
    x, y, weights = operands[:3]
    x_is_shared = all(length == 1 for length in x.shape[1 + ansatz.x_is_vector :])
    by_products = matrix_sums.applies(ansatz, x, x_is_shared)
    scaling = sum_scaling(ansatz, x, y, weights, centered=by_products)
    add = matrix_sums.matrix_sums if by_products else row_sums
    sums = by_platform(partial(add, ansatz), scaling, x, y, weights)
    point = turning_point(ansatz, sums, scaling, operands.origin(ansatz), max_roundings(y.shape[0]), y.dtype)
    return SumsAndPoint(sums, point, None)


def on_shared_design(ansatz: Ansatz, operands: Operands, *, padded: bool = False) -> SumsAndPoint:
    """From one product for all of y (n, m), on a design that all share; those with gaps are not accurate."""
    x, y, weights = operands[:3]
    scaling = sum_scaling(ansatz, x, y, weights, centered=True)
    sums = by_platform(partial(shared_sums, ansatz), scaling, x, y, weights, padded=padded)
    point = turning_point(ansatz, sums, scaling, operands.origin(ansatz), max_roundings(len(y)), y.dtype)
    return SumsAndPoint(sums, point._replace(accurate=point.accurate & point.finite), None)


def in_double_double(ansatz: Ansatz, operands: Operands) -> SumsAndPoint:
    """To full precision, whatever the conditioning."""
    data = (operands.x, operands.y, operands.weights, operands.x_origin, operands.y_origin)
    found = over_batch(partial(compensated, ansatz), data, operands.y.ndim - 1)
    return SumsAndPoint(found.sums, with_lists(found.point), (found.G, found.scaling))


def result_of(
    ansatz: Ansatz, operands: Operands, found: SumsAndPoint, dtype: np.dtype
) -> tuple[Result, Exact]:
    """What the solver makes of the turning point, rounded to the dtype of the data, and to more digits."""
    point, end = operands.solver.on_moments(ansatz, operands.origin(ansatz), found.point, dtype)
    sums = found.sums
    if operands.sigma_unit is not None:
        unit = operands.sigma_unit.astype(jnp.float64)
        log_weight = not_none(sums.log_weight) - 2 * sums.nobs * jnp.log(unit)
        sums = sums._replace(weight=sums.weight / unit**2, log_weight=log_weight)
    estimate, exact = estimate_of(ansatz, point, sums, end, dtype)
    shape = estimate.nobs.shape
    of_x, of_y = (
        None if a is None else jnp.broadcast_to(a, (*a.shape[: a.ndim - len(shape)], *shape))
        for a in (operands.x_origin, operands.y_origin)
    )
    estimate = replace(estimate, x_origin=of_x, y_origin=of_y)
    rest = (exact.coefs - estimate.coefs).astype(dtype)
    return Result(estimate, estimate.unit_cov, rest, point.accurate), exact


def robust_estimate(
    ansatz: Ansatz, robust: Robust, found: Estimate, exact: Exact, data: tuple[Array, Array, Array | None]
) -> Estimate:
    """The estimate with robust errors, of one more pass over x, y and weights."""
    return by_platform(partial(with_robust_errors, ansatz, robust), found, exact, *data)


def moments_of(
    ansatz: Ansatz, operands: Operands, found: SumsAndPoint, dtype: np.dtype
) -> tuple[Moments, None]:
    """The moments that turning points were found from."""
    origin, sums = (operands.x_origin, operands.y_origin), cast("Sums", found.sums)
    if found.G is None:
        return moments_of_point(ansatz, found.point, sums, origin, dtype), None
    return moments_of_double_double(ansatz, *found.G, found.point, sums, origin, dtype), None


def _where_finite(value: Array, change: Array) -> Array:
    if change.dtype == jax.dtypes.float0:
        return change
    return jnp.where(jnp.isfinite(value), change, 0)
