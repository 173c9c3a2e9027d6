"""`fit`: check what came, gather the moments, call a solver, return a `Fit`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.tree_util import Partial

from jaxreg import blocks, inputs, shared_design, small, status
from jaxreg._typing import Array, Float, Int
from jaxreg.ansatz import Ansatz, Line
from jaxreg.closed_form import TurningPoint
from jaxreg.cost import Cost, mean_squared_error
from jaxreg.frame import Frame
from jaxreg.gather import Gathered, gather
from jaxreg.inference import standard_errors
from jaxreg.inputs import Data
from jaxreg.moments import Moments
from jaxreg.precision import in_own_precision
from jaxreg.pytree import pytree, static
from jaxreg.shared_design import Projected
from jaxreg.solvers import ClosedForm, GradientDescent, Solution
from jaxreg.status import Status

LEAST_PICKED = 64  # data sets that take the next road together
CERTIFIED_COUNTS = (64, 1024)  # the same on the last road, of few and of many
CERTIFIED_ELEMENTS = 2**22  # of an array that is copied for it
CERTIFIED_ROWS = 64  # at least: shorter ones are lengthened by gaps
MOST_PICKED = 0.25  # of the data sets of a block: of more, all take the next road, which spares the copy
LEAST_WIDTH = 16  # computed at once: a compiler makes other code for fewer, with other last bits


@pytree
class Fit:
    """The fitted params of every data set and what is known about them; `fit(...)` makes it.

    A pytree: it goes through `jit`, `vmap` (with `out_axes=-1`) and `jax.tree.map`. `fit[i]` is the fit
    of one data set, `fit[i, j]` of one in a grid, `fit[2:5]` of some.

    Attributes:
        params: θ, (p, *batch); for a line `intercept, slope = fit.params`.
        bse: standard errors of the params, (p, *batch).
        cost: S(θ), the mean over the valid observations, (*batch).
        ssr: Σ w ε(θ)², in units of y² (times weight), (*batch).
        nobs: how many observations are valid, (*batch).
        df_resid: nobs − p, at least 0, (*batch).
        status: a `jaxreg.Status` code, (*batch).
        digits: how many decimal digits of every param are certainly correct, against the exact solution
            for the numbers that were given, (*batch); at most 7 in float32 and 15 in float64. A bound,
            not an estimate: often there are more. 0 where there are no params, and for costs whose exact
            solution is not known.
        coefs: θ in the basis and frame in which it was found, (p, *batch).
        frame: that frame.
        ansatz: the ansatz that was fitted.
    """

    params: Float[Array, "p *batch"]
    bse: Float[Array, "p *batch"]
    cost: Float[Array, "*batch"]
    ssr: Float[Array, "*batch"]
    nobs: Int[Array, "*batch"]
    df_resid: Int[Array, "*batch"]
    status: Int[Array, "*batch"]
    digits: Int[Array, "*batch"]
    coefs: Float[Array, "p *batch"]
    frame: Frame
    ansatz: Ansatz = static()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the data sets, () for a single one."""
        if self.params.shape[1:] != self.status.shape:
            raise ValueError(
                f"params {self.params.shape} and data sets {self.status.shape} do not go together; a fit "
                "under vmap keeps the params in front with out_axes=-1"
            )
        return self.status.shape

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the params."""
        return self.ansatz.names(self._columns)

    @property
    def _columns(self) -> int:
        """How many columns x has where it is a vector."""
        return self.coefs.shape[0] - self.ansatz.has_intercept

    def predict(self, x: Any) -> Array:
        """f(θ, x) of every data set; NaN where there are no params.

        Computed in the frame of the fit, where no digit is lost to a large offset of x.

        Args:
            x: one number, (n,) for all data sets or (n, *batch) for each its own; where the ansatz
                takes vectors (n, k) or (n, k, *batch).

        Returns:
            (n, *batch) in units of y, (*batch) for one number.

        >>> fit(np.arange(3.0), np.array([1.0, 3.0, 5.0])).predict(np.array([10.0])).tolist()
        [21.0]
        """
        return _predict(self, inputs.new_x(x, self.params.dtype, self.ansatz, self.shape, self._columns))

    def describe(self) -> str:
        """How many data sets ended how, with a sentence of advice for each code.

        >>> print(fit(np.arange(3.0), np.array([1.0, 3.0, 5.0])).describe())
        1 ok: fitted.
        """
        return status.describe(self.status)

    def raise_for_status(self) -> Fit:
        """The fit itself if every data set has params and the search for them ended.

        Raises:
            FitError: if one ended otherwise than `ok` or `exact_fit`; says how many, which and why.

        >>> fit(np.arange(3.0), np.ones((3, 2))).raise_for_status().shape
        (2,)
        >>> fit(np.arange(3.0), np.full((3, 2), np.nan)).raise_for_status()
        Traceback (most recent call last):
        ...
        jaxreg.status.FitError: 2 of 2 data sets failed
        2 no_observations at 0, 1: not one valid observation (all NaN, or all weights 0); nothing to fit.
        """
        if isinstance(self.status, Tracer):
            raise TypeError(
                "raise_for_status needs values and there are none under jit or vmap; look at status"
            )
        status.raise_for(self.status)
        return self

    def _reshaped(self, batch: tuple[int, ...]) -> Fit:
        """The same data sets in another shape."""
        axes = len(self.shape)
        return jax.tree.map(lambda a: a.reshape(*a.shape[: a.ndim - axes], *batch), self)

    def __getitem__(self, index: Any) -> Fit:
        if not self.shape:
            raise TypeError("this is the fit of a single data set; there is nothing to index")
        index = index if isinstance(index, tuple) else (index,)
        if not any(isinstance(i, Tracer) for i in index):
            np.broadcast_to(False, self.shape)[index]  # JAX would clamp an index that is out of range

        def of(leaf: Array) -> Array:
            if leaf.ndim == len(self.shape):
                return leaf[(*index, ...)]
            return jnp.moveaxis(jnp.moveaxis(leaf, 0, -1)[(*index, ..., slice(None))], -1, 0)

        return in_own_precision(jax.tree.map)(of, self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("this is the fit of a single data set; it has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Fit]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        if isinstance(self.params, Tracer):
            return f"<Fit of {self.ansatz} to data sets {self.shape}, traced>"
        arrays = isinstance(self.params, jax.Array | np.ndarray)
        if not arrays or self.params.shape[1:] != self.status.shape:
            return f"Fit(params={self.params!r}, …)"
        return _many(self) if self.shape else _single(self)


def fit(
    x: Any,
    y: Any,
    *,
    ansatz: Ansatz = Line(),
    cost: Cost = mean_squared_error,
    solver: ClosedForm | GradientDescent | None = None,
    weights: Any = None,
    sigma: Any = None,
    nan_policy: str = "omit",
    cov_type: str = "nonrobust",
    precision: str = "auto",
    block_size: int | np.integer | str = "auto",
    progress: bool = False,
) -> Fit:
    """Fit y = f(θ, x) to every data set in one call: minimize S(θ) = Σ w ε(θ)² / Σ w.

    Axis 0 of y is the observation, every further axis is data sets. float32 data are fitted in float32,
    float64 data in float64 without a change of any JAX setting; the dtype of y decides.

    Args:
        x: (n,) shared by all data sets or, shaped as y, each data set's own; where the ansatz takes
            vectors, (n, k) or (n, k, *batch). An x of more digits than y is rounded to its dtype; where
            that would spoil the spacing of x, an error says so.
        y: (n, *batch). NaN is a gap, as is an element that a NumPy masked array masks.
        ansatz: `Line()`, `Polynomial(degree)` or `Linear(intercept=True)`.
        cost: `mean_squared_error` or any function with its signature. Numbers that are to be differentiated
            or to change without compiling anew, such as the strength of a penalty, are leaves of a
            pytree that is called: `jax.tree_util.Partial(ridge, strength=0.1)`. It sees x and params in the
            units of the data, in float64.
        solver: `ClosedForm()` if not given, or `GradientDescent(...)`, which any other cost needs.
        weights: inverse variances of the observations, (n,) or (n, *batch). Weight 0 is a gap.
        sigma: their standard deviations instead, weights = 1/sigma².
        nan_policy: "omit" leaves NaN out data set by data set, "propagate" gives data sets with a NaN
            the status `invalid_data`, "raise" raises a ValueError.
        cov_type: "nonrobust": one variance for all observations of a data set (divided by the weight).
        precision: which data sets are computed in twice the digits of float64, at 20 to 50 µs each.
            "auto": those whose params would feel the rounding of plain float64 sums, a share that depends
            on offsets and correlations and is 2 % of lines through float64 noise and none through float32.
            NIST's eleven certified sets keep 15 or more digits in float64 and 7 in float32, where LAPACK
            keeps 6 to 13 and 0 to 5. "certified": all. "fast": none; `digits` tells what is left.
        block_size: how many data sets are worked on at once. "auto" bounds the memory: arrays that are
            not on the device, NumPy arrays, memory maps and whatever else gives numbers when it is sliced
            (h5py, zarr, dask), are read and copied block by block, the next while the present one is
            fitted. The results are the same whatever it is.
        progress: whether to show a progress bar over the blocks (needs tqdm).

    Returns:
        `Fit`. Bad data end in that data set's `status`, with NaN there and nowhere else; see
        `fit(...).describe()`. float64 results are NumPy arrays where JAX's 64-bit switch is off.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit together.

    Source: seed paper, equations 6, 7, 14 and 15.

    >>> x = np.array([0.0, 1.0, 2.0, 3.0])
    >>> y = np.array([[1.0, 0.0], [3.0, np.nan], [5.0, 1.0], [6.0, 2.0]])  # two data sets, one gap
    >>> found = fit(x, y)
    >>> intercept, slope = found.params
    >>> print(slope.round(3), found.bse[1].round(3), found.nobs)
    [1.7   0.643] [0.173 0.124] [4 3]
    """
    solver = ClosedForm() if solver is None else solver
    inputs.check_options(ansatz, cost, solver, nan_policy, cov_type, precision, block_size)
    source = inputs.source(x, y, weights, sigma, nan_policy, ansatz)
    other_cost = None if cost is mean_squared_error else _as_pytree(cost)
    fit_block = partial(_fit_block, ansatz=ansatz, cost=other_cost, solver=solver, precision=precision)
    return blocks.over_columns(fit_block, source, block_size, progress)


def _as_pytree(cost: Cost) -> Partial:
    """The cost with the numbers that it holds as leaves, which need not be known to be compiled."""
    is_leaf = jax.tree_util.treedef_is_leaf(jax.tree.structure(cost))
    return Partial(cost) if is_leaf else Partial(_called, cost)


def _called(cost: Cost, *args: Any, **options: Any) -> Array:
    return cost(*args, **options)


def _fit_block(
    data: Data, *, ansatz: Ansatz, cost: Partial | None, solver: ClosedForm | GradientDescent, precision: str
) -> Fit:
    """The fit of some data sets.

    In closed form, quick roads go first, and the data sets that these leave in doubt take the next. A
    road is compiled when it is needed; where there are no values to decide by, all are, in one.
    """
    in_closed_form = cost is None and isinstance(solver, ClosedForm)
    if not in_closed_form or any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(data)):
        return _fit_columns(data, ansatz=ansatz, cost=cost, solver=solver, precision=precision)
    roads = {"auto": ("sums", "certified"), "fast": ("sums",), "certified": ("certified",)}[precision]
    if precision != "certified" and shared_design.applies(data, ansatz):
        roads = ("projection", *roads)
    return _by_roads(data, ansatz, roads)


def _by_roads(data: Data, ansatz: Ansatz, roads: tuple[str, ...]) -> Fit:
    """The fit by the first road, and of the data sets that it leaves in doubt by the others."""
    road, others = roads[0], roads[1:]
    if road == "certified":
        return _certified(data, ansatz, np.arange(data.width))._reshaped(data.batch)
    found, doubtful = _by_road(data, ansatz, road)
    if not others:
        return found
    ids = np.flatnonzero(doubtful)
    if len(ids) == 0:
        return found
    if others == ("certified",):
        return _with_others(found, _certified(data, ansatz, ids), ids)
    if len(ids) > MOST_PICKED * data.width:
        return _with_others(found, _by_roads(data, ansatz, others)._reshaped((data.width,))[ids], ids)
    picked = data.picked(ids, max(LEAST_PICKED, 1 << (len(ids) - 1).bit_length()), data.y.shape[0])
    return _with_others(found, _by_roads(picked, ansatz, others), ids)


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
        part, _ = _by_road(data.picked(some, count, rows), ansatz, "certified")
        parts.append(part)

    def together(*of_parts: Array) -> Array:
        return jnp.asarray(np.concatenate(of_parts, axis=-1)[..., : len(ids)])

    return jax.tree.map(together, *parts)


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
def _by_road(data: Data, ansatz: Ansatz, road: str) -> tuple[Fit, Array]:
    """The fit by one road, and which data sets it leaves in doubt."""
    m, batch = data.width, data.batch
    data = replace(data, batch=(m,)).padded(LEAST_WIDTH)
    if road == "projection":
        on_design = shared_design.project(data, ansatz)
        found, doubtful = _projected(ansatz, data, on_design), ~on_design.sure
    else:
        gathered = gather(data, ansatz, "fast" if road == "sums" else road)
        found, doubtful = _located(ansatz, data, gathered), gathered.doubtful
    return _shaped(found, m, batch), doubtful[:m]


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
    quick = _projected(ansatz, data, on_design)

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
    return replace(found, bse=unknown, digits=jnp.zeros_like(found.digits))


def _located(ansatz: Ansatz, data: Data, gathered: Gathered) -> Fit:
    point = gathered.point
    return _assembled(ansatz, gathered.moments, point, ClosedForm().solve(None, point), data.sigma_unit)


def _projected(ansatz: Ansatz, data: Data, on_design: Projected) -> Fit:
    point = on_design.point
    return _assembled(ansatz, on_design, point, ClosedForm().solve(None, point), data.sigma_unit)


def _assembled(
    ansatz: Ansatz, gathered: Moments | Projected, point: TurningPoint, found: Solution, sigma_unit: Array
) -> Fit:
    """What is known, with NaN where there is nothing to know."""
    p = found.params.shape[0]
    code = _status(gathered, point, found.status, p)
    solved = sum((code == end for end in Status if end.has_params), jnp.zeros((), bool))
    df_resid = jnp.maximum(gathered.nobs - p, 0)
    y_unit = gathered.frame.y_scale

    def if_solved(a: Array) -> Array:
        return jnp.where(solved, a, jnp.nan)

    return Fit(
        params=if_solved(found.params),
        bse=if_solved(standard_errors(point, found.least_squares, df_resid, y_unit)),
        cost=if_solved(found.cost * y_unit * y_unit),
        ssr=if_solved(found.least_squares * gathered.weight * (y_unit / sigma_unit) ** 2),
        nobs=gathered.nobs,
        df_resid=df_resid,
        status=code,
        digits=jnp.where(solved, _digits(found.params, point), 0).astype(jnp.int8),
        coefs=if_solved(found.coefs),
        frame=gathered.frame,
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


@in_own_precision
@jax.jit
def _predict(found: Fit, x: Array) -> Array:
    """y_center + y_scale Σ c_k ψ_k(t), where a shared x has axes of length 1 for the data sets."""
    shared_axes = 1 + found.ansatz.x_is_vector
    if x.ndim == shared_axes:
        x = x.reshape(*x.shape, *(1,) * len(found.shape))
    t, _ = found.frame.inside(x, jnp.zeros((), x.dtype))
    terms = [c * psi for c, psi in zip(found.coefs, found.ansatz.basis(t), strict=True)]
    return found.frame.y_center + found.frame.y_scale * sum(terms[1:], terms[0])


def _single(found: Fit) -> str:
    """The repr of one data set: a line per param, with its standard error."""
    code = Status(int(found.status))
    head = f"Fit of {found.ansatz} to {int(found.nobs)} observations, {code.name}"
    errors = np.asarray(found.bse)
    return "\n".join(
        [head]
        + [
            f"  {name:<9} {value: .6g} ± {error:.2g}"
            for name, value, error in zip(found.names, np.asarray(found.params), errors, strict=True)
        ]
    )


def _many(found: Fit) -> str:
    """The repr of many data sets: how they ended and the quartiles of each param."""
    counted = ", ".join(f"{n} {code.name}" for code, n in status.counts(found.status).items())
    head = f"Fit of {found.ansatz} to {' × '.join(map(str, found.shape))} data sets: {counted}"
    lines = [head]
    for name, values in zip(found.names, np.asarray(found.params), strict=True):
        known = values[np.isfinite(values)]
        if known.size:
            low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
            lines.append(f"  {name:<9} median {middle: .4g}, half of them in [{low:.4g}, {high:.4g}]")
    return "\n".join(lines)
