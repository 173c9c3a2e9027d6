"""The ways to fit some data sets: which of them goes first, and which data sets need the next.

Projection on a design that all share is the fastest, plain sums are next, and sums in twice the digits
of float64 are what no data set resists. The first two say which data sets they leave in doubt.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.tree_util import Partial

from jaxreg import shared_design, small
from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.closed_form import TurningPoint
from jaxreg.gather import gather
from jaxreg.inference import standard_errors
from jaxreg.inputs import Data
from jaxreg.moments import Moments
from jaxreg.precision import in_own_precision
from jaxreg.result import Fit
from jaxreg.robust import Sandwich, with_sandwich
from jaxreg.shared_design import Projected
from jaxreg.solvers import ClosedForm, GradientDescent, Solution
from jaxreg.status import Status

LEAST_PICKED = 64  # data sets that get the next method together
CERTIFIED_COUNTS = (64, 1024)  # the same by the last method, of few and of many
CERTIFIED_ELEMENTS = 2**22  # of an array that is copied for it
CERTIFIED_ROWS = 64  # at least: shorter ones are lengthened by gaps
MOST_PICKED = 0.25  # of the data sets of a block: of more, all get the next method, which spares the copy
LEAST_WIDTH = 16  # computed at once: a compiler makes other code for fewer, with other last bits


def fit_some(
    data: Data,
    *,
    ansatz: Ansatz,
    cost: Partial | None,
    solver: ClosedForm | GradientDescent,
    precision: str,
    how: Sandwich | None,
) -> Fit:
    """The fit of some data sets, with the covariance that was asked for."""
    found = _fit_some(data, ansatz, cost, solver, precision)
    return found if how is None else with_sandwich(data, found, how)


def _fit_some(
    data: Data, ansatz: Ansatz, cost: Partial | None, solver: ClosedForm | GradientDescent, precision: str
) -> Fit:
    """The fit with a nonrobust covariance.

    In closed form, quick methods go first, and the data sets that these leave in doubt get the next. A
    method is compiled when it is needed; where there are no values to decide by, all are, in one.
    """
    in_closed_form = cost is None and isinstance(solver, ClosedForm)
    if not in_closed_form or isinstance(jnp.zeros(()), Tracer) or _is_traced(data):
        return _fit_columns(data, ansatz=ansatz, cost=cost, solver=solver, precision=precision)
    methods = {"auto": ("sums", "certified"), "fast": ("sums",), "certified": ("certified",)}[precision]
    if precision != "certified" and shared_design.applies(data, ansatz):
        methods = ("projection", *methods)
    return _by_methods(data, ansatz, methods)


def _is_traced(tree: Any) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def _by_methods(data: Data, ansatz: Ansatz, methods: tuple[str, ...]) -> Fit:
    """The fit by the first method, and of the data sets that it leaves in doubt by the others."""
    method, others = methods[0], methods[1:]
    if method == "certified":
        return _reshaped(_certified(data, ansatz, np.arange(data.width)), data.batch)
    found, doubtful = _by_method(data, ansatz, method)
    found = replace(found, unit_cov=_for_each(found.unit_cov, found.shape))
    if not others:
        return found
    ids = np.flatnonzero(np.asarray(doubtful))
    if len(ids) == 0:
        return found
    if others == ("certified",):
        return _with_others(found, _certified(data, ansatz, ids), ids)
    if len(ids) > MOST_PICKED * data.width:
        every = _by_methods(data, ansatz, others)
        if len(ids) == data.width:
            return every
        sure = ~np.asarray(doubtful).reshape(data.batch)
        return in_own_precision(jax.tree.map)(partial(jnp.where, sure), found, every)
    picked = data.picked(ids, max(LEAST_PICKED, 1 << (len(ids) - 1).bit_length()), data.y.shape[0])
    return _with_others(found, _by_methods(picked, ansatz, others), ids)


def _certified(data: Data, ansatz: Ansatz, ids: np.ndarray) -> Fit:
    """Some data sets, one after the other in programs of few shapes: what is compiled is used again."""
    n = data.y.shape[0]
    count = CERTIFIED_COUNTS[len(ids) > CERTIFIED_COUNTS[0]]
    count = max(1, min(count, CERTIFIED_ELEMENTS // n))
    rows = max(CERTIFIED_ROWS, 1 << (n - 1).bit_length())
    rows = rows * 3 // 4 if n <= rows * 3 // 4 else rows
    parts = []
    for first in range(0, len(ids), count):
        some = ids[first : first + count]
        part, _ = _by_method(data.picked(some, count, rows), ansatz, "certified")
        parts.append(part)

    def together(*of_parts: Array) -> Array:
        return jnp.asarray(np.concatenate(of_parts, axis=-1)[..., : len(ids)])

    return jax.tree.map(together, *parts)


def _reshaped(found: Fit, batch: tuple[int, ...]) -> Fit:
    """The same data sets in another shape."""
    axes = len(found.shape)
    return jax.tree.map(lambda a: a.reshape(*a.shape[: a.ndim - axes], *batch), found)


def _with_others(found: Fit, others: Fit, ids: np.ndarray) -> Fit:
    """The fit with some data sets replaced by the first of the others."""
    axes = len(found.shape)

    def placed(a: Array, b: Array) -> Array:
        whole = np.array(a, order="C")
        whole.reshape(*a.shape[: a.ndim - axes], -1)[..., ids] = np.asarray(b)[..., : len(ids)]
        return jnp.asarray(whole)

    return jax.tree.map(placed, found, others)


@in_own_precision
@partial(jax.jit, static_argnums=(1, 2))
def _by_method(data: Data, ansatz: Ansatz, method: str) -> tuple[Fit, Array]:
    """The fit by one method, and which data sets it leaves in doubt."""
    m, batch = data.width, data.batch
    data = replace(data, batch=(m,)).padded(LEAST_WIDTH)
    if method == "projection":
        on_design = shared_design.project(data, ansatz)
        found, doubtful = _at(ansatz, data, on_design, on_design.point), ~on_design.sure
    else:
        gathered = gather(data, ansatz, "fast" if method == "sums" else method)
        found, doubtful = _at(ansatz, data, gathered.moments, gathered.point), gathered.doubtful
    found = _shaped(found, m, batch)
    if method == "projection":  # one for all data sets, p² numbers of which each need not store
        of_one = found.unit_cov.reshape(len(found.unit_cov), -1)[:, :1]
        found = replace(found, unit_cov=of_one.reshape(-1, *(1,) * len(batch)))
    return found, doubtful[:m]


def _for_each(unit_cov: Any, batch: tuple[int, ...]) -> Any:
    """What all data sets share, as a view of it for each."""
    if unit_cov.shape[1:] == batch:
        return unit_cov
    return np.broadcast_to(np.asarray(unit_cov), (len(unit_cov), *batch))


@in_own_precision
@partial(jax.jit, static_argnames=("ansatz", "precision"))
def _fit_columns(
    data: Data, *, ansatz: Ansatz, cost: Partial | None, solver: ClosedForm | GradientDescent, precision: str
) -> Fit:
    """The fit of the columns of y (n, m), in the shape that these had."""
    m, batch = data.width, data.batch
    data = replace(data, batch=(m,)).padded(LEAST_WIDTH)
    in_closed_form = cost is None and isinstance(solver, ClosedForm)
    if in_closed_form and precision != "certified" and shared_design.applies(data, ansatz):
        columns = _on_shared_design(ansatz, precision, data)
    else:
        columns = _by_moments(ansatz, cost, solver, precision, data)
    return _shaped(columns, m, batch)


def _shaped(columns: Fit, m: int, batch: tuple[int, ...]) -> Fit:
    return jax.tree.map(lambda a: a[..., :m].reshape(*a.shape[:-1], *batch), columns)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _on_shared_design(ansatz: Ansatz, precision: str, data: Data) -> Fit:
    """Those without gaps all at once; only if there are others, those by their moments."""
    on_design = shared_design.project(data, ansatz)
    quick = _at(ansatz, data, on_design, on_design.point)

    def with_others() -> Fit:
        others = _by_moments(ansatz, None, ClosedForm(), precision, data)
        return jax.tree.map(partial(jnp.where, on_design.sure), quick, others)

    return lax.cond(jnp.all(on_design.sure), lambda: quick, with_others)


@_on_shared_design.defjvp
def _on_shared_design_jvp(
    ansatz: Ansatz, precision: str, primals: tuple[Data], tangents: tuple[Data]
) -> tuple[Fit, Fit]:
    """Derivatives are those of the moments."""
    by_moments = partial(_by_moments, ansatz, None, ClosedForm(), precision)
    return _on_shared_design(ansatz, precision, *primals), jax.jvp(by_moments, primals, tangents)[1]


def _by_moments(
    ansatz: Ansatz, cost: Partial | None, solver: ClosedForm | GradientDescent, precision: str, data: Data
) -> Fit:
    """Data sets with gaps, weights and x of their own, by any solver."""
    gathered = gather(data, ansatz, precision)
    moments, point = gathered.moments, gathered.point
    if cost is None:
        return _assembled(ansatz, moments, point, solver.solve(moments, point), data.sigma_unit)
    found = _assembled(
        ansatz, moments, point, solver.solve_cost(cost, moments, point, data.cut()), data.sigma_unit
    )
    unknown = jnp.full_like(found.bse, jnp.nan)
    return replace(
        found,
        bse=unknown,
        unit_cov=jnp.full_like(found.unit_cov, jnp.nan),
        digits=jnp.zeros_like(found.digits),
    )


def _at(ansatz: Ansatz, data: Data, gathered: Moments | Projected, point: TurningPoint) -> Fit:
    """The fit at the turning point."""
    return _assembled(ansatz, gathered, point, ClosedForm().solve(None, point), data.sigma_unit)


def _assembled(
    ansatz: Ansatz, gathered: Moments | Projected, point: TurningPoint, found: Solution, sigma_unit: Array
) -> Fit:
    """What is known, with NaN where there is nothing to know."""
    p = found.params.shape[0]
    code = _status(gathered, point, found.status, p)
    solved = sum((code == end for end in Status if end.has_params), jnp.zeros((), bool))
    df_resid = jnp.maximum(gathered.nobs - p, 0)
    y_unit = gathered.frame.y_scale
    explained = point.explained + (point.cost - found.least_squares)
    y_mean = gathered.frame.y_center + y_unit * gathered.mean

    def if_solved(a: Array) -> Array:
        return jnp.where(solved, a, jnp.nan)

    return Fit(
        params=if_solved(found.params),
        bse=if_solved(standard_errors(point, found.least_squares, df_resid, y_unit)),
        cost=if_solved(found.cost * y_unit * y_unit),
        rest=if_solved(found.least_squares),
        explained=if_solved(explained),
        root_weight=jnp.sqrt(gathered.weight) / sigma_unit,
        nobs=gathered.nobs,
        df_resid=df_resid,
        status=code,
        digits=jnp.where(solved, _digits(found.params, point), 0).astype(jnp.int8),
        coefs=if_solved(found.coefs),
        coefs_rest=if_solved(found.coefs_rest),
        frame=gathered.frame,
        ss_mean=if_solved(y_mean / sigma_unit * gathered.weight * (y_mean / sigma_unit)),
        log_weight=if_solved(gathered.log_weight - 2 * gathered.nobs * jnp.log(sigma_unit)),
        unit_cov=jnp.stack([point.inverse[i, j] for i in range(p) for j in range(i + 1)]),
        groups=None,
        ansatz=ansatz,
    )


def _digits(params: Array, point: TurningPoint) -> Array:
    """−log₁₀ of a bound of the largest relative error of the params, rounded down."""
    exact = lax.stop_gradient(point.params)
    away = jnp.abs(lax.stop_gradient(params) - exact)
    away = jnp.where(away > 0, away / jnp.abs(exact), 0)
    doubt = small.largest(lax.stop_gradient(point.doubt) + away) + jnp.finfo(params.dtype).eps / 2
    digits = -jnp.log10(jnp.where(doubt > 0, doubt, jnp.inf))  # NaN and infinity: none
    return jnp.where(doubt < 1, jnp.floor(digits), 0)


def _status(gathered: Moments | Projected, point: TurningPoint, end: Array, p: int) -> Array:
    """The status of each data set; what stands later is the more basic trouble and wins."""
    nobs = gathered.nobs
    code = jnp.where((end == Status.ok) & (nobs == p), Status.exact_fit, end)
    code = jnp.where(point.full_rank, code, Status.rank_deficient)
    code = jnp.where(nobs < p, Status.too_few_observations, code)
    code = jnp.where(nobs == 0, Status.no_observations, code)
    return jnp.where(gathered.invalid, Status.invalid_data, code).astype(jnp.int8)
