"""`estimate`, the operation that reads the data, with rules for JAX's transformations.

x (n, *batch) or (n, k, *batch), y (n, *batch) and weights (n, *batch) have the observations on the first axis
and the data sets on the last axes, as results do; an axis of length 1 is shared.

derivative: the implicit function theorem at p = 0, whatever the solver; zero tangents cost nothing.
batching: `vmap` adds an axis of data sets at the end, of length 1 for arguments that are not mapped.
platform: how the rows are summed, and how many at once, depends on the platform, see `rows`.
axes: those of the data sets are never merged, sliced or gathered: each device of a mesh keeps its own.
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
from jaxreg.engine import matrix_sums, reduced_sums
from jaxreg.engine.compensated import compensated
from jaxreg.engine.derivative import first_order
from jaxreg.engine.estimate import Estimate, Exact, estimate_of
from jaxreg.engine.moments import (
    Moments,
    averages,
    broadcast_origins,
    moments_of_double_double,
    moments_of_point,
)
from jaxreg.engine.platforms import by_platform
from jaxreg.engine.row_sums import row_sums
from jaxreg.engine.rows import ROWS, Rows
from jaxreg.engine.sandwich import Covariance, with_robust_errors
from jaxreg.engine.scaling import Scaling
from jaxreg.engine.shared_sums import SharedSums, shared_sums
from jaxreg.engine.sums import Origin, Sums, columns_of, sum_scaling
from jaxreg.engine.turning_point import TurningPoint, max_roundings, turning_point, with_lists
from jaxreg.numerics.double_double import DoubleDouble
from jaxreg.numerics.precision import float64, promoting
from jaxreg.numerics.vectors import lists_up_to, over_batch

DIFFERENTIABLE = ("x", "y", "weights", "cost", "offset")  # operands with derivatives


class Operands(NamedTuple):
    """The arguments of `estimate`: arrays with axes of length 1 where the data sets share them.

    Attributes:
        x: (n, *batch), or (n, k, *batch) where one observation is a vector.
        y: (n, *batch).
        weights: (n, *batch), or None.
        sigma_unit: weights are (sigma_unit / sigma)², (*batch); None if weights were given.
        x_origin: subtracted from integer x before its conversion, (*batch) or (k, *batch); None for floats.
        y_origin: the same of y, (*batch).
        solver: a solver of `fit`, whose numbers are shared by all data sets or one for each.
        covariance: of robust standard errors; None for nonrobust ones.
        cost: a cost other than the mean squared error; its arrays end with the axes of the data sets.
        offset: known part of f(θ, x), (n, *batch), or None.
        start: params at which the search for a curve starts, (p, *batch), or None.
    """

    x: Array
    y: Array
    weights: Array | None = None
    sigma_unit: Array | None = None
    x_origin: Array | None = None
    y_origin: Array | None = None
    solver: Any = None
    covariance: Covariance | None = None
    cost: Any = None
    offset: Array | None = None
    start: Array | None = None

    def origin(self, ansatz: Ansatz) -> Origin:
        """The origin in float64."""
        x, y = jax.tree.map(lambda a: a.astype(jnp.float64), (self.x_origin, self.y_origin))
        return Origin(None if x is None else columns_of(ansatz, x, 0), y)


class Result(NamedTuple):
    """The result of `estimate`.

    Attributes:
        estimate: the estimate.
        bread: ⟨ψψᵀ⟩⁻¹, the lower triangle row by row; equal to `estimate.unit_cov` if errors are nonrobust.
        coefs_lo: the coefs in float64 minus those of the estimate.
        accurate: whether rounding is too small to be noticed.
    """

    estimate: Estimate
    bread: Array
    coefs_lo: Array
    accurate: Array


def operation(kernel: Callable, near_data: Callable) -> Callable:
    """An operation f(ansatz, certified, operands) with rules for derivatives and batching.

    Args:
        kernel: f itself, for arrays whose last axes are those of the data sets.
        near_data: near_data(ansatz, operands, constant_operands, result, y_only) has the value of the result
            and its derivative in `operands`; `constant_operands` have the same values and are constant.
    """

    @partial(jax.custom_jvp, nondiff_argnums=(0, 1))
    def operate(ansatz: Ansatz, certified: bool, operands: Operands) -> Any:
        return batched(ansatz, certified)(operands)

    @partial(operate.defjvp, symbolic_zeros=True)
    @promoting
    def implicit(ansatz: Ansatz, certified: bool, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
        (operands,), (operand_tangents,) = primals, tangents
        result = operate(ansatz, certified, operands)
        data = {name: getattr(operands, name) for name in DIFFERENTIABLE}
        leaves, tree = jax.tree.flatten(data)
        leaf_tangents = jax.tree.leaves({name: getattr(operand_tangents, name) for name in DIFFERENTIABLE})
        active = [i for i, t in enumerate(leaf_tangents) if not isinstance(t, SymbolicZero)]

        def near_active(*values: Array) -> Any:
            new_leaves = list(leaves)
            for i, value in zip(active, values, strict=True):
                new_leaves[i] = value
            y_only = [leaves[i] is operands.y for i in active] == [True]
            new_operands = operands._replace(**jax.tree.unflatten(tree, new_leaves))
            return near_data(ansatz, new_operands, operands, result, y_only)

        primals, tangents = (tuple(a[i] for i in active) for a in (leaves, leaf_tangents))
        _, change = jax.jvp(near_active, primals, tangents)
        # NaN results, of failed data sets and of undefined standard errors, have derivative 0.
        return result, jax.tree.map(_where_finite, result, change)

    @lru_cache(maxsize=256)
    def batched(ansatz: Ansatz, certified: bool) -> Callable:
        function = custom_vmap(partial(kernel, ansatz, certified))

        @function.def_vmap
        @promoting
        def move_axis_to_end(axis_size: int, in_batched: list[Operands], operands: Operands) -> tuple:
            """The mapped axis becomes the last; arguments that are not mapped get a last axis of length 1."""
            operands = jax.tree.map(
                lambda a, mapped: jnp.moveaxis(a, 0, -1) if mapped else a[..., None] if jnp.ndim(a) else a,
                operands,
                *in_batched,
            )
            result = jax.tree.map(lambda a: jnp.moveaxis(a, -1, 0), function(operands))
            return result, jax.tree.map(lambda _: True, result)

        return function

    return operate


@partial(jax.jit, static_argnums=(0, 1))
def _estimate(ansatz: Ansatz, certified: bool, operands: Operands) -> Result:
    """The kernel of `estimate`: computed in float64, returned in the dtype of the data."""
    with float64():
        result, exact = solved(ansatz, certified, operands, result_of)
        if operands.covariance is None:
            return result
        estimate = robust_estimate(ansatz, operands.covariance, result.estimate, exact, operands[:3])
        return result._replace(estimate=estimate)


def _estimate_near_data(
    ansatz: Ansatz, operands: Operands, constant_operands: Operands, result: Result, y_only: bool
) -> Result:
    estimate, exact = first_order(
        ansatz,
        *result[:3],
        operands.sigma_unit,
        operands[:3],
        at_minimum=operands.solver.ends_at_turning_point,
        y_only=y_only,
    )
    if operands.covariance is not None:
        solved = jnp.isfinite(result.estimate.bse)
        estimate = replace(estimate, bse=jnp.where(solved, estimate.bse, jnp.nan))  # NaN marks failed ones
        estimate = with_robust_errors(
            ansatz, operands.covariance, estimate, exact, *operands[:3], rows=ROWS["cpu"]
        )
    return result._replace(estimate=estimate, bread=exact.unit_cov)


@partial(jax.jit, static_argnums=(0, 1))
def _moments(ansatz: Ansatz, certified: bool, operands: Operands) -> Moments:
    with float64():
        return solved(ansatz, certified, operands, moments_of)[0]


def _moments_near_data(
    ansatz: Ansatz, operands: Operands, constant_operands: Operands, result: Moments, y_only: bool
) -> Moments:
    return averages(result, *operands[:3])


estimate: Callable[[Ansatz, bool, Operands], Result] = operation(_estimate, _estimate_near_data)
moments: Callable[[Ansatz, bool, Operands], Moments] = operation(_moments, _moments_near_data)


class SumsAndPoint(NamedTuple):
    """The turning points of data sets, and the sums they were computed from.

    Attributes:
        sums: the sums; from double-double without those of z.
        point: the turning points.
        G: ⟨z zᵀ⟩ in double-double of float64 and its scaling; None from plain sums.
    """

    sums: Sums | SharedSums
    point: TurningPoint
    G: tuple[DoubleDouble, Scaling] | None


def solved(ansatz: Ansatz, certified: bool, operands: Operands, finish: Callable[..., Any]) -> Any:
    """`finish(ansatz, operands, solution, dtype)` of the turning points."""
    if certified:
        return finish(ansatz, operands, in_double_double(ansatz, operands), operands.y.dtype)
    return by_platform(partial(_finished, ansatz, finish), operands)


def _finished(ansatz: Ansatz, finish: Callable[..., Any], operands: Operands, *, rows: Rows) -> Any:
    return finish(ansatz, operands, by_sums(ansatz, operands, rows=rows), operands.y.dtype)


def by_sums(ansatz: Ansatz, operands: Operands, *, rows: Rows) -> SumsAndPoint:
    """Turning points from plain sums in float64."""
    x, y, weights = operands[:3]
    x_is_shared = all(length == 1 for length in x.shape[1 + ansatz.x_is_vector :])
    uses_products = matrix_sums.applies(ansatz, x, x_is_shared)
    scaling = sum_scaling(ansatz, x, y, weights, centered=uses_products)
    sums = _sums(ansatz, uses_products, scaling, x, y, weights, rows=rows)
    roundings = max_roundings(y.shape[0])
    point = turning_point(ansatz, sums, scaling, operands.origin(ansatz), roundings, y.dtype)
    return SumsAndPoint(sums, point, None)


def _sums(ansatz: Ansatz, uses_products: bool, *arguments: Any, rows: Rows) -> Sums:
    """The sums, in the fastest way on a platform."""
    if rows.reduced and reduced_sums.applies(ansatz, *arguments[1:]):
        return reduced_sums.reduced_sums(ansatz, *arguments)
    function = matrix_sums.matrix_sums if uses_products else row_sums
    return function(ansatz, *arguments, rows=rows)


def on_shared_design(ansatz: Ansatz, operands: Operands, *, rows: Rows) -> SumsAndPoint:
    """From one product for all of y (n, m), on a shared design; data sets with gaps are not accurate."""
    x, y, weights = operands[:3]
    scaling = sum_scaling(ansatz, x, y, weights, centered=True)
    sums = shared_sums(ansatz, scaling, x, y, weights, rows=rows)
    with lists_up_to(0):  # the sums are arrays
        point = turning_point(ansatz, sums, scaling, operands.origin(ansatz), max_roundings(len(y)), y.dtype)
    return SumsAndPoint(sums, point._replace(accurate=point.accurate & point.finite), None)


def in_double_double(ansatz: Ansatz, operands: Operands, *, rows: Rows | None = None) -> SumsAndPoint:
    """Turning points to full precision, whatever the conditioning, by one program for all platforms."""
    data = (operands.x, operands.y, operands.weights, operands.x_origin, operands.y_origin)
    solution = over_batch(partial(compensated, ansatz), data, operands.y.ndim - 1)
    return SumsAndPoint(solution.sums, with_lists(solution.point), (solution.G, solution.scaling))


def result_of(
    ansatz: Ansatz, operands: Operands, solution: SumsAndPoint, dtype: np.dtype
) -> tuple[Result, Exact]:
    """The result of the solver from the turning points, in the dtype of the data; coefs and V in float64."""
    point, solver_status = operands.solver.on_moments(ansatz, operands.origin(ansatz), solution.point, dtype)
    sums = solution.sums
    if operands.sigma_unit is not None:
        unit = operands.sigma_unit.astype(jnp.float64)
        log_weight = not_none(sums.log_weight) - 2 * sums.nobs * jnp.log(unit)
        sums = sums._replace(weight=sums.weight / unit**2, log_weight=log_weight)
    estimate, exact = estimate_of(ansatz, point, sums, solver_status, dtype)
    x_origin, y_origin = broadcast_origins((operands.x_origin, operands.y_origin), estimate.nobs.shape)
    estimate = replace(estimate, x_origin=x_origin, y_origin=y_origin)
    coefs_lo = (exact.coefs - estimate.coefs).astype(dtype)
    return Result(estimate, estimate.unit_cov, coefs_lo, point.accurate), exact


def robust_estimate(
    ansatz: Ansatz,
    covariance: Covariance,
    estimate: Estimate,
    exact: Exact,
    data: tuple[Array, Array, Array | None],
) -> Estimate:
    """The estimate with robust errors, from one more pass over x, y and weights."""
    return by_platform(partial(with_robust_errors, ansatz), covariance, estimate, exact, *data)


def moments_of(
    ansatz: Ansatz, operands: Operands, solution: SumsAndPoint, dtype: np.dtype
) -> tuple[Moments, None]:
    """The moments from which turning points were computed."""
    origin, sums = (operands.x_origin, operands.y_origin), cast("Sums", solution.sums)
    if solution.G is None:
        return moments_of_point(ansatz, solution.point, sums, origin, dtype), None
    return moments_of_double_double(ansatz, *solution.G, solution.point, sums, origin, dtype), None


def _where_finite(value: Array, change: Array) -> Array:
    if change.dtype == jax.dtypes.float0:
        return change
    return jnp.where(jnp.isfinite(value), change, 0)
