"""The minimum of a quantile regression with its dual linear program, by an interior point method.

Minimizing Σ w ρ(y − f) over the coefs c is dual to maximizing Σ a y over 0 ≤ a ≤ w with Σ (a − (1 − q) w) ψ
= 0. At the optimum a = w above f and a = 0 below: with y − f = above − below, the products (w − a) above and
a below are 0. All four factors are kept positive, and Newton's steps make the products smaller.

Source: S. Portnoy and R. Koenker, Statistical Science 12 (1997) 279; S. Mehrotra, SIAM J. Optim. 2 (1992)
575.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array, not_none
from jaxreg.engine.estimate import Estimate
from jaxreg.engine.loss_sums import Local, LossSums
from jaxreg.engine.row_sums import over_rows
from jaxreg.engine.rows import Rows
from jaxreg.engine.scores import outer
from jaxreg.numerics.small import broadcast_arrays
from jaxreg.numerics.vectors import Vector, elementwise, largest, max_listed
from jaxreg.solvers.damped_steps import RUNNING, State, newton_step
from jaxreg.status import Status

FIRST_SLACK = 0.3  # of above and below, in units of the residuals of least squares
SHORTER = 0.99995  # than the step to the boundary
MAX_GAP = 2.0**-46  # of the primal and the dual, in units of the residuals
ROUNDING = 2.0**-44  # of residuals, relative to coefs
DAMPING = 1e-14  # of steps, where a range of coefs is optimal
SMALLEST_PIVOT = 1e-16  # relative to the damped curvature: all pivots count


class Point(NamedTuple):
    """A feasible point of both programs, or a step: arrays (n, *batch), but the coefs.

    Attributes:
        coefs: c.
        dual: a.
        rest: w − a.
        above: with y − f = above − below.
        below: the same.
    """

    coefs: Vector
    dual: Array
    rest: Array
    above: Array
    below: Array


def to_minimum(sums: LossSums, least_squares: Estimate, state: State, steps: Any) -> State:
    """The state at the minimum, from that of least squares.

    Args:
        sums: of the cost.
        least_squares: the estimate.
        state: at the start.
        steps: the largest number of steps; data sets that take more still run.
    """
    coefs, runs = state.coefs, state.status == RUNNING
    row, _ = sums.all_rows(coefs)
    residual = least_squares.residual.astype(row.weight.dtype)
    unit = jnp.maximum(residual, ROUNDING * largest(elementwise(jnp.abs, coefs)))
    unit = jnp.where(runs & (unit > 0), unit, 1)
    largest_weight = jnp.max(row.weight, axis=0)
    w = row.weight / jnp.where(largest_weight > 0, largest_weight, 1)
    psi = row.psi if len(row.psi) <= max_listed() else jnp.stack(broadcast_arrays(row.psi), axis=1)
    programs = Programs(row.y / unit, w, psi, not_none(sums.rows))
    enough = MAX_GAP * jnp.sum(w, axis=0)

    def is_open(p: Point) -> Array:
        return runs & (programs.gap(p) > enough)

    def step(loop: tuple[Array, Point]) -> tuple[Array, Point]:
        count, p = loop
        new = programs.after_step(p)
        return count + 1, jax.tree.map(partial(jnp.where, is_open(p)), new, p)

    start = programs.start(elementwise(lambda c: c / unit, coefs), sums.cost.q)  # pyright: ignore
    _, end = lax.while_loop(
        lambda loop: (loop[0] < steps) & jnp.any(is_open(loop[1])), step, (jnp.int32(0), start)
    )
    status = jnp.where(runs & ~is_open(end), Status.ok, state.status).astype(state.status.dtype)
    return state._replace(coefs=elementwise(lambda c: c * unit, end.coefs), status=status)


@dataclass(frozen=True)
class Programs:
    """The linear programs of all data sets.

    Attributes:
        y: in units of the residuals.
        w: weights, 0 where an observation is missing.
        psi: the basis, p arrays (n, *batch), or one (n, p, *batch).
        rows: how many are summed at once.
    """

    y: Array
    w: Array
    psi: list[Array] | Array
    rows: Rows

    def start(self, coefs: Vector, q: Any) -> Point:
        """A point in the interior, with the coefs of least squares."""
        error = self.y - self.fitted(coefs)
        above, below = (jnp.maximum(sign * error, 0) + FIRST_SLACK for sign in (1, -1))
        return Point(coefs, *(self.or_1(a) for a in ((1 - q) * self.w, q * self.w, above, below)))

    def after_step(self, p: Point) -> Point:
        """The point after a step to where all products are equal, as small as the affine step promises."""
        zero = jnp.zeros_like(self.y)
        affine = self.direction(p, zero, zero)
        gap = self.gap(p)
        number = 2 * jnp.sum(self.w > 0, axis=0)
        product = gap * (self.gap(self.moved(p, affine)) / gap) ** 3 / number
        second_order = affine.dual * affine.below, affine.dual * affine.above
        return self.moved(p, self.direction(p, product - second_order[0], product + second_order[1]))

    def direction(self, p: Point, to_below: Array, to_above: Array) -> Point:
        """The step after which, to first order, a below and (w − a) above are these products."""
        valid = self.w > 0
        metric = jnp.where(valid, 1 / (p.above / p.rest + p.below / p.dual), 0)
        target = to_below / p.dual - to_above / p.rest + p.above - p.below
        coefs = self.least_squares(metric, target)
        dual = metric * (target - self.fitted(coefs))
        above = (to_above + p.above * dual) / p.rest - p.above
        below = (to_below - p.below * dual) / p.dual - p.below
        return Point(coefs, dual, -dual, jnp.where(valid, above, 0), jnp.where(valid, below, 0))

    def moved(self, p: Point, d: Point) -> Point:
        """The point after the step, or a part of it where a number would become negative."""
        of_dual = _longest((p.dual, d.dual), (p.rest, d.rest))
        of_primal = _longest((p.above, d.above), (p.below, d.below))
        return Point(
            elementwise(lambda a, b: a + of_primal * b, p.coefs, d.coefs),
            p.dual + of_dual * d.dual,
            p.rest + of_dual * d.rest,
            p.above + of_primal * d.above,
            p.below + of_primal * d.below,
        )

    def gap(self, p: Point) -> Array:
        """The difference of the primal and the dual."""
        return jnp.sum(jnp.where(self.w > 0, p.dual * p.below + p.rest * p.above, 0), axis=0)

    def fitted(self, coefs: Vector) -> Array:
        """f."""
        if not isinstance(self.psi, list):
            return jnp.sum(self.psi * coefs, axis=1)
        return sum((c * a for c, a in zip(coefs, self.psi, strict=True)), jnp.zeros_like(self.y))

    def least_squares(self, weights: Array, target: Array) -> Vector:
        """The coefs of Σ weights (target − Σ c ψ)² → min, in one pass."""
        is_list = isinstance(self.psi, list)
        arrays: Any = (None, weights, None, target, *(self.psi if is_list else [self.psi]))

        def terms(_: None, w: Array, __: None, target: Array, *psi: Array) -> Local:
            v = [jnp.broadcast_to(a, w.shape) for a in psi] if is_list else psi[0]
            return Local(None, elementwise(lambda a: -w * target * a, v), outer(v, w))

        def add(total: Local, observations: list[tuple]) -> Local:
            some = [terms(*row) for row in observations]
            return jax.tree.map(lambda a, *b: a + reduce(jnp.add, b), total, *some)

        first: Any = jax.tree.map(lambda a: a[0], arrays)
        zeros: Local = jax.tree.map(jnp.zeros_like, terms(*first))
        total = over_rows(arrays, self.rows, len(zeros.gradient) + 1, None, add, zeros)
        return newton_step(total, jnp.full_like(total.gradient[0], DAMPING), SMALLEST_PIVOT)[0]

    def or_1(self, a: Array) -> Array:
        """1 in place of numbers of missing observations."""
        return jnp.where(self.w > 0, a, 1)


def _longest(*pairs: tuple[Array, Array]) -> Array:
    """The length of a step with which all numbers remain positive, at most 1."""
    ratios = [jnp.where(d < 0, a / jnp.where(d < 0, -d, 1), jnp.inf) for a, d in pairs]
    return jnp.minimum(1, SHORTER * jnp.min(reduce(jnp.minimum, ratios), axis=0))
