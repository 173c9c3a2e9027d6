"""The minimum of a quantile regression with its dual linear program, by an interior point method.

Minimizing Σ w ρ(y − f) over the coefs c is dual to maximizing Σ a y over 0 ≤ a ≤ w with Σ (a − (1 − q) w) ψ
= 0. At the optimum a = w above f and a = 0 below: with y − f = above − below, the products (w − a) above and
a below are 0. All four factors are kept positive, and Newton's steps make the products smaller.

Source: S. Portnoy and R. Koenker, Statistical Science 12 (1997) 279; S. Mehrotra, SIAM J. Optim. 2 (1992)
575.
"""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array, not_none
from jaxreg.engine.loss_sums import Local, LossSums
from jaxreg.engine.row_sums import over_rows
from jaxreg.engine.scores import outer
from jaxreg.numerics.vectors import Vector, elementwise, vector
from jaxreg.solvers.damped_steps import newton_step

MAX_STEPS = 100
FIRST_SLACK = 0.3  # of above and below, in units of the residuals of least squares
SHORTER = 0.99995  # than the step to the boundary
MAX_GAP = 2.0**-46  # of the primal and the dual, in units of the residuals
ROUNDING = 2.0**-44  # of residuals, relative to coefs
DAMPING = 1e-14  # of steps, where a range of coefs is optimal
MIN_PIVOT = 1e-16


class Point(NamedTuple):
    """A feasible point of both programs, all (n, *batch) but the coefs.

    Attributes:
        coefs: c.
        dual: a.
        rest: w − a.
        above: with ε = above − below.
        below: the same.
    """

    coefs: Vector
    dual: Array
    rest: Array
    above: Array
    below: Array


def quantile_minimum(sums: LossSums, coefs: Vector, residual: Array, runs: Array) -> tuple[Vector, Array]:
    """The coefs, and which data sets did not converge.

    Args:
        sums: of the cost.
        coefs: of least squares.
        residual: √(Σ w ε² / Σ w) of least squares.
        runs: which data sets are to be solved.
    """
    q = sums.cost.q  # pyright: ignore
    row, f = sums.all_rows(coefs)
    w = row.weight
    size = reduce(jnp.maximum, [jnp.abs(c) for c in coefs]) if isinstance(coefs, list) else abs(coefs).max(0)
    unit = jnp.maximum(residual, ROUNDING * size)
    unit = jnp.where(runs & (unit > 0), unit, 1)
    offset = f - sum(c * a for c, a in zip(coefs, row.psi, strict=True))
    y = (row.y - offset) / unit
    coefs = elementwise(lambda c: c / unit, coefs)
    valid = w > 0

    def positive(a: Array) -> Array:
        return jnp.where(valid, a, 1)

    def fitted(coefs: Vector) -> Array:
        return sum((c * a for c, a in zip(coefs, row.psi, strict=True)), jnp.zeros_like(y))

    error = y - fitted(coefs)
    above, below = (positive(jnp.maximum(sign * error, 0) + FIRST_SLACK) for sign in (1, -1))
    start = Point(coefs, positive((1 - q) * w), positive(q * w), above, below)

    def newton(metric: Array, target: Array) -> Vector:
        """The change of coefs by least squares of the target with the metric as weights."""
        arrays = (None, metric, None, target, *row.psi)

        def terms(_: None, metric: Array, __: None, target: Array, *psi: Array) -> Local:
            v = vector([jnp.broadcast_to(a, metric.shape) for a in psi])
            return Local(None, elementwise(lambda a: -metric * target * a, v), outer(v, metric))

        def add(total: Local, observations: list[tuple]) -> Local:
            some = [terms(*row) for row in observations]
            return jax.tree.map(lambda a, *b: a + reduce(jnp.add, b), total, *some)

        zeros = jax.tree.map(jnp.zeros_like, terms(*(None if a is None else a[0] for a in arrays)))  # type: ignore
        total = over_rows(arrays, not_none(sums.rows), len(row.psi) + 1, None, add, zeros)
        return newton_step(total, jnp.full_like(unit, DAMPING), MIN_PIVOT)[0]

    def longest(*pairs: tuple[Array, Array]) -> Array:
        """The length of a step with which all numbers remain positive."""
        ratios = [jnp.where(d < 0, a / jnp.where(d < 0, -d, 1), jnp.inf) for a, d in pairs]
        return jnp.minimum(1, SHORTER * jnp.min(reduce(jnp.minimum, ratios), axis=0))

    def products(p: Point) -> Array:
        """The difference of the primal and the dual."""
        return jnp.sum(jnp.where(valid, p.dual * p.below + p.rest * p.above, 0), axis=0)

    def moved(p: Point, d: Point) -> Point:
        of_dual = longest((p.dual, d.dual), (p.rest, d.rest))
        of_primal = longest((p.above, d.above), (p.below, d.below))
        return Point(
            elementwise(lambda a, b: a + of_primal * b, p.coefs, d.coefs),
            p.dual + of_dual * d.dual,
            p.rest + of_dual * d.rest,
            p.above + of_primal * d.above,
            p.below + of_primal * d.below,
        )

    def direction(p: Point, metric: Array, to_below: Array, to_above: Array) -> Point:
        """The step to products a below and (w − a) above that are these, to first order."""
        target = to_below / p.dual - to_above / p.rest + p.above - p.below
        coefs = newton(metric, target)
        dual = metric * (target - fitted(coefs))
        above = jnp.where(valid, to_above / p.rest - p.above + p.above * dual / p.rest, 0)
        below = jnp.where(valid, to_below / p.dual - p.below - p.below * dual / p.dual, 0)
        return Point(coefs, dual, -dual, above, below)

    def step(loop: tuple[Array, Point, Array]) -> tuple[Array, Point, Array]:
        count, p, gap = loop
        metric = jnp.where(valid, 1 / (p.above / p.rest + p.below / p.dual), 0)
        zero = jnp.zeros_like(y)
        d = direction(p, metric, zero, zero)
        before = products(p)
        centered = before * (products(moved(p, d)) / before) ** 3 / (2 * jnp.sum(valid, axis=0))
        d = direction(p, metric, centered - d.dual * d.below, centered + d.dual * d.above)
        new = moved(p, d)
        p = jax.tree.map(lambda a, b: jnp.where(is_open(gap), a, b), new, p)
        return count + 1, p, products(p)

    def is_open(gap: Array) -> Array:
        return runs & (gap > MAX_GAP * jnp.sum(w, axis=0))

    def goes_on(loop: tuple[Array, Point, Array]) -> Array:
        return (loop[0] < MAX_STEPS) & jnp.any(is_open(loop[2]))

    first = (jnp.zeros((), jnp.int32), start, products(start))
    _, point, gap = lax.while_loop(goes_on, step, first)
    return elementwise(lambda c: c * unit, point.coefs), is_open(gap)
