"""`fit`: check what came → estimate → `Fit`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxreg.ansatz import Ansatz, Features, Line, Linear, compiled_ansatz, design
from jaxreg.cost import Cost, mean_squared_error
from jaxreg.data import checks
from jaxreg.data.labels import check_dims, labels_of
from jaxreg.data.source import Source, constant_column, source_of
from jaxreg.engine import device, host, operation
from jaxreg.engine.blocks import in_blocks
from jaxreg.engine.cascade import Task, estimate_and_exact, estimate_only
from jaxreg.engine.estimate import Estimate
from jaxreg.engine.moments import Moments
from jaxreg.engine.operation import Operands, moments_of
from jaxreg.engine.sandwich import Covariance
from jaxreg.inference.covariance import covariance_of
from jaxreg.inference.fitted import Fitted
from jaxreg.inference.result import Fit
from jaxreg.numerics.precision import in_own_precision
from jaxreg.solvers import user_cost
from jaxreg.solvers.closed_form import ClosedForm
from jaxreg.solvers.minimization import AtOnce, InTiles, facing, minimize, start_of
from jaxreg.solvers.solver import Solver


def fit(
    x: Any,
    y: Any,
    *,
    ansatz: Ansatz | Features = Line(),
    cost: Cost = mean_squared_error,
    solver: Solver | None = None,
    weights: Any = None,
    sigma: Any = None,
    nan_policy: str = "omit",
    cov_type: str | Covariance = "nonrobust",
    use_t: bool | None = None,
    block_size: int | np.integer | str = "auto",
    progress: bool = False,
    **retired: Any,
) -> Fit:
    """Fit y = f(θ, x) to every data set in one call: minimize S(θ) = Σ w ε(θ)² / Σ w.

    Axis 0 of y is the observation, every further axis is data sets. float32 data are fitted in float32,
    float64 data in float64 without a change of any JAX setting; the dtype of y decides.

    Args:
        x: (n,) shared by all data sets or, shaped as y, each data set's own; where the ansatz takes
            vectors, (n, k) or (n, k, *batch). One y on many x: `y = np.broadcast_to(y[:, None], x.shape)`,
            which copies nothing. An x of more digits than y is rounded to its dtype; where that would spoil
            the spacing of x, an error says so.
        y: (n, *batch). NaN is a gap, as is an element that a NumPy masked array masks. Arrays, lists, data
            frames, xarray's DataArrays; float32, float64, integers and booleans. float16 and bfloat16 are
            refused: three digits are too few to fit in.
        ansatz: `Line()`, `Polynomial(degree)`, `Linear(intercept=True)` or `Features(function, names)`.
        cost: `mean_squared_error` or any function with its signature. Numbers that are to be differentiated
            or to change without compiling anew, such as the strength of a penalty, are leaves of a
            pytree that is called: `jax.tree_util.Partial(ridge, strength=0.1)`. It gets x and params in the
            units of the data, in float64.
        solver: `ClosedForm()` if omitted, or `GradientDescent(...)`, which any other cost needs.
        weights: inverse variances of the observations, (n,) or (n, *batch). Weight 0 is a gap, and so is
            a subnormal one.
        sigma: their standard deviations instead, weights = 1/sigma².
        nan_policy: "omit" leaves NaN out data set by data set, "propagate" gives data sets with a NaN
            the status `invalid_data`, "raise" raises a ValueError.
        cov_type: the covariance of bse and all tests. "nonrobust": one variance for all observations of a
            data set (divided by the weight); "HC0" to "HC3": a variance of its own for each;
            `Cluster(groups)`: any correlation within groups; `HAC(maxlags)`: between observations that follow
            each other. All but the first take one more pass over the data, and are those of statsmodels.
        use_t: whether params are tested with Student's t or with the normal distribution. If omitted, as in
            statsmodels, t with a nonrobust covariance and normal otherwise.
        block_size: how many data sets are worked on at once. "auto" bounds the memory: arrays that are
            not on the device, NumPy arrays, memory maps and whatever else gives numbers when it is sliced
            (h5py, zarr, dask), are read and copied block by block, the next while the present one is
            fitted. The results are the same whatever it is (on an accelerator but for the last bits of a
            shared design of many columns).
        progress: whether to show a progress bar over the blocks (needs tqdm).

    Returns:
        `Fit`. A data set that cannot be fitted has a `status` and NaN, and does not affect the others; see
        `fit(...).describe()`. float64 results are NumPy arrays where JAX's 64-bit switch is off.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit together.

    Source: seed paper, equations 6, 7, 14 and 15.

    >>> x = np.array([0.0, 1.0, 2.0, 3.0])
    >>> y = np.array([[1.0, 0.0], [3.0, np.nan], [5.0, 1.0], [6.0, 2.0]])  # two data sets, one gap
    >>> lines = fit(x, y)
    >>> intercept, slope = lines.params
    >>> print(slope.round(3), lines.bse[1].round(3), lines.nobs)
    [1.7   0.643] [0.173 0.124] [4 3]
    """
    checks.check_retired(retired)
    solver = ClosedForm() if solver is None else solver
    checks.check_options(ansatz, cost, solver, nan_policy, block_size)
    if use_t not in (None, True, False):
        raise ValueError(f"use_t is True, False or None, got {use_t!r}")
    check_dims(x, y, weights if sigma is None else sigma)
    compiled = compiled_ansatz(ansatz)
    labels = labels_of(x, y, isinstance(ansatz, Linear))
    source = source_of(design(ansatz, x), y, weights, sigma, nan_policy, compiled)
    covariance = covariance_of(cov_type, source.y.shape[0])
    task = Task(compiled, solver.precision, _without_precision(solver), covariance)
    if cost is mean_squared_error:
        estimate = _least_squares(task, source, block_size, progress)
    elif isinstance(solver, ClosedForm):
        raise ValueError(
            "the closed form exists for mean_squared_error alone; for another cost pass "
            "solver=GradientDescent(), such as GradientDescent(optax.adam, steps=1000)"
        )
    else:
        source = replace(source, integers_keep_origin=False)
        estimate = _minimum(task, cost, source, block_size, progress)
    name = "nonrobust" if covariance is None else covariance.name
    use_t = covariance is None if use_t is None else use_t
    return Fit(Fitted(estimate, compiled, name, use_t, constant_column(source)), ansatz, labels)


def _without_precision(solver: Solver) -> Solver:
    """The solver that programs are compiled with, one for every precision."""
    return ClosedForm() if isinstance(solver, ClosedForm) else solver


@in_own_precision
def _least_squares(task: Task, source: Source, block_size: Any, progress: bool) -> Estimate:
    """Block by block where there are values to look at, else as one operation."""
    if not _has_values(source, task.solver):
        operands = Operands(*source.whole(), task.solver, task.covariance)
        return operation.estimate(task.ansatz, task.precision == "certified", operands).estimate
    place = host if source.is_on_host else device
    task = replace(task, finish=estimate_only)
    if task.covariance is not None:
        task = replace(task, finish=estimate_and_exact, postprocess=place.robust_errors)
    return in_blocks(partial(place.compute, task), source, block_size, progress)


@in_own_precision
def _minimum(task: Task, cost: Cost, source: Source, block_size: Any, progress: bool) -> Estimate:
    """The same for a cost of the user."""
    own = user_cost.as_pytree(cost, task.ansatz, source)
    if not _has_values(source, task.solver, own):
        operands = Operands(*source.whole(), task.solver, task.covariance, facing(own, len(source.batch)))
        return minimize(task.ansatz, task.precision == "certified", operands).estimate
    wide = jax.config.read("jax_enable_x64")
    place, postprocess = (host, InTiles(own, wide)) if source.is_on_host else (device, AtOnce(own, wide))
    of_block = partial(place.compute, replace(task, finish=start_of, postprocess=postprocess))
    return in_blocks(of_block, source, block_size, progress)


def moments(x: Any, y: Any, weights: Any = None, *, ansatz: Ansatz | Features = Line()) -> Moments:
    """The moments of every data set, in one pass over the data.

    ⟨a⟩ = Σ w a / Σ w over the valid observations of a data set: those at which neither x nor y is NaN
    and the weight is not 0. Where the params would feel their rounding, the sums are carried to twice the
    digits of float64, as in `fit`.

    Args:
        x: (n,) shared or (n, *batch) own; (n, k) or (n, k, *batch) where the ansatz takes vectors.
        y: (n, *batch), data sets behind the observations; its dtype decides, as in `fit`.
        weights: inverse variances, (n,) shared or (n, *batch) own.
        ansatz: whose features φ are averaged.

    Returns:
        `Moments`, differentiable in x, y and weights. Data sets with an infinite value or an impossible
        weight are marked `invalid`.

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit together.
    """
    check_dims(x, y, weights)
    compiled = compiled_ansatz(ansatz)
    return _moments(compiled, source_of(design(ansatz, x), y, weights, None, "omit", compiled))


@in_own_precision
def _moments(ansatz: Ansatz, source: Source) -> Moments:
    if not _has_values(source):
        return operation.moments(ansatz, False, Operands(*source.whole(), ClosedForm()))
    place = host if source.is_on_host else device
    task = Task(ansatz, "auto", ClosedForm(), finish=moments_of)
    return in_blocks(partial(place.compute, task), source, "auto", progress=False)


def _has_values(source: Source, *others: Any) -> bool:
    """Whether there are values to look at, and no array lies on several devices."""
    inside_of_jit = isinstance(jnp.zeros(()), Tracer)
    traced = source.is_traced or any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(others))
    return not traced and not inside_of_jit and not source.is_distributed
