"""A fit of a cost as a state that turns advance: of an ansatz that is linear, or of a curve."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.costs.mean_loss import MeanLoss
from jaxreg.costs.ridge import Penalized
from jaxreg.curves.curve import CompiledCurve
from jaxreg.engine.estimate import Estimate, Exact
from jaxreg.engine.loss_sums import Data, LossSums
from jaxreg.engine.rows import Rows
from jaxreg.engine.sandwich import Covariance
from jaxreg.solvers import curve_minimum, loss_minimum
from jaxreg.solvers.damped_steps import Rule, State, advance
from jaxreg.solvers.quantile_minimum import to_minimum
from jaxreg.status import Status


class Problem(NamedTuple):
    """The arguments of a fit of a cost, arrays with the data sets on their last axes.

    Attributes:
        cost: with numbers that are one for all data sets or one for each.
        least_squares: the estimate of least squares; for a curve that of the intercept-only model.
        exact: its coefs and covariance in float64.
        data: x, y, weights and offset.
        covariance: of robust standard errors; None for nonrobust ones.
        sigma_unit: weights are (sigma_unit / sigma)², (*batch); None if weights were given.
        start: params of a curve, (p, *batch), or None.
    """

    cost: MeanLoss | Penalized
    least_squares: Estimate
    exact: Exact
    data: Data
    covariance: Covariance | None
    sigma_unit: Array | None = None
    start: Array | None = None

    @property
    def loss(self) -> MeanLoss:
        """The cost without its penalty."""
        return self.cost.cost if isinstance(self.cost, Penalized) else self.cost

    @property
    def base(self) -> Estimate:
        """The estimate of least squares in the unit of the weights."""
        base = self.least_squares
        if isinstance(self.cost, Penalized):
            base = _solvable(base, self.cost.alpha, self.data[1])
        if self.sigma_unit is None or base.root_weight is None:
            return base
        return replace(base, root_weight=base.root_weight * self.sigma_unit)

    def in_units_of_data(self, estimate: Estimate) -> Estimate:
        """An estimate made from `base`, without the unit of the weights."""
        if self.sigma_unit is None:
            return estimate
        scale = None if estimate.error_scale is None else estimate.error_scale / self.sigma_unit
        root_weight = jnp.where(
            jnp.isfinite(estimate.residual), not_none(self.least_squares.root_weight), jnp.nan
        )
        return replace(estimate, root_weight=root_weight, error_scale=scale)

    def rule(self, ansatz: Ansatz) -> Rule:
        """What damped steps know of the cost."""
        dtype = self.least_squares.params.dtype
        if isinstance(ansatz, CompiledCurve):
            return curve_minimum.curve_rule(ansatz, dtype)
        return loss_minimum.rule_of(self.loss, self.data[3], dtype)

    def sums(self, ansatz: Ansatz, rows: Rows | None, dtype: Any = jnp.float64) -> LossSums:
        """The sums of the cost."""
        function = curve_minimum.curve_sums if isinstance(ansatz, CompiledCurve) else loss_minimum.loss_sums
        return function(ansatz, self.cost, self.base, self.data, rows, dtype)  # pyright: ignore

    def search_sums(self, curve: CompiledCurve, rows: Rows) -> LossSums:
        """The sums of the cost of a curve in the variables of its search."""
        return curve_minimum.search_sums(curve, self.loss, self.base, self.data, rows, jnp.float64)

    def turns(self, ansatz: Ansatz, steps: int) -> int:
        """The number of turns: unless the first step comes from y, the first turn evaluates the start."""
        return steps if self.rule(ansatz).starts_from_y else steps + 1


def _solvable(least_squares: Estimate, alpha: Array, y: Array) -> Estimate:
    """The estimate where a penalty determines what least squares does not.

    The residual is what penalized ones are smaller than: the deviation of y, or its size.
    """
    status = least_squares.status
    unsolved = (Status.exact_fit, Status.too_few_observations, Status.rank_deficient)
    is_new = (alpha > 0) & sum((status == s for s in unsolved), jnp.zeros_like(status, bool))
    deviation = jnp.hypot(least_squares.residual, least_squares.explained)
    size = jnp.sqrt(jnp.nanmean(jnp.square(jnp.where(is_new, y, 0)), axis=0))
    return replace(
        least_squares,
        status=jnp.where(is_new, Status.ok, status).astype(status.dtype),
        residual=jnp.where(is_new, size, deviation).astype(deviation.dtype),
        explained=jnp.where(is_new, jnp.nan, 0).astype(deviation.dtype),
    )


def begin_problem(ansatz: Ansatz, problem: Problem, *, rows: Rows) -> State:
    """The state before the first turn."""
    rule, base = problem.rule(ansatz), problem.base
    if isinstance(ansatz, CompiledCurve):
        return curve_minimum.begin(rule, problem.search_sums(ansatz, rows), ansatz, base, problem.start)
    return loss_minimum.begin(rule, problem.sums(ansatz, rows), base, problem.exact)


def advance_problem(
    ansatz: Ansatz, first: Any, last: Any, state: State, problem: Problem, *, rows: Rows
) -> State:
    """The state after the turns first to last."""
    rule, base = problem.rule(ansatz), problem.base
    if problem.loss.is_piecewise_linear:
        return to_minimum(problem.sums(ansatz, rows), base, state, last)
    if isinstance(ansatz, CompiledCurve):
        evaluate = partial(curve_minimum.evaluate, problem.search_sums(ansatz, rows), rule, ansatz, base)
    else:
        evaluate = partial(loss_minimum.evaluate, problem.sums(ansatz, rows), rule, base)
    return advance(evaluate, rule, state, first, last)


def estimate_of(ansatz: Ansatz, dtype: np.dtype, state: State, problem: Problem, *, rows: Rows) -> Estimate:
    """The estimate at the end of all turns."""
    sums, base = problem.sums(ansatz, rows), problem.base
    if isinstance(ansatz, CompiledCurve):
        estimate = curve_minimum.estimate_of(ansatz, sums, base, problem.covariance, state, dtype)
    else:
        unit_cov, covariance = problem.exact.unit_cov, problem.covariance
        estimate = loss_minimum.estimate_of(sums, base, unit_cov, covariance, state, dtype)
    return problem.in_units_of_data(estimate)


def solve_and_estimate(ansatz: Ansatz, steps: int, dtype: np.dtype, problem: Problem, *, rows: Rows) -> Any:
    """The estimate, and the median of √w |ε| of a robust cost or None, of all data sets at once."""
    state = begin_problem(ansatz, problem, rows=rows)
    state = advance_problem(ansatz, 0, problem.turns(ansatz, steps), state, problem, rows=rows)
    median = state.extra if problem.loss.has_scale else None  # platforms must return one structure
    return estimate_of(ansatz, dtype, state, problem, rows=rows), median
