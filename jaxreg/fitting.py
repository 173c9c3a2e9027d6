"""`fit`: check the arguments → estimate → `Fit`.

With values to look at, y goes data.source → engine.blocks → engine.host (or device): sums → turning_point →
operation.result_of → estimate; inside a transformation engine.operation does it as one operation. Both end in
inference.fitted and inference.result.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxreg.ansatz import Ansatz, Features, Line, Linear, compiled_ansatz
from jaxreg.cost import Cost, mean_squared_error
from jaxreg.costs.mean_loss import MeanLoss
from jaxreg.costs.quantile import Quantile
from jaxreg.costs.ridge import Penalized, Ridge
from jaxreg.costs.squares import SquaredError
from jaxreg.curves.curve import Curve, check_function, checked_start
from jaxreg.data import checks
from jaxreg.data.labels import check_dims, labels_of
from jaxreg.data.source import Source, constant_column, source_of, with_devices
from jaxreg.engine import device, host, operation
from jaxreg.engine.blocks import in_blocks
from jaxreg.engine.cascade import Task, estimate_and_exact, estimate_only
from jaxreg.engine.divided_rows import are_divided, estimate_of_divided_rows
from jaxreg.engine.estimate import Estimate, without_squares
from jaxreg.engine.moments import Moments
from jaxreg.engine.operation import Operands, moments_of
from jaxreg.engine.sandwich import Covariance
from jaxreg.inference.covariance import covariance_of
from jaxreg.inference.fitted import Fitted
from jaxreg.inference.result import Fit
from jaxreg.numerics.precision import in_own_precision
from jaxreg.solvers import reweighting, ridge, user_cost
from jaxreg.solvers.closed_form import ClosedForm
from jaxreg.solvers.gauss_newton import GaussNewton
from jaxreg.solvers.gradient_descent import GradientDescent
from jaxreg.solvers.interior_point import InteriorPoint
from jaxreg.solvers.minimization import AtOnce, InTiles, least_squares_start, minimize, with_batch_axes
from jaxreg.solvers.newtons_method import Newton
from jaxreg.solvers.reweighted import Reweighted
from jaxreg.solvers.ridge_in_transformation import ridge_in_transformation
from jaxreg.solvers.solver import Solver


def fit(
    x: Any,
    y: Any,
    *,
    ansatz: Ansatz | Features | Curve = Line(),
    cost: Cost = mean_squared_error,
    solver: Solver | None = None,
    weights: Any = None,
    sigma: Any = None,
    offset: Any = None,
    exposure: Any = None,
    nan_policy: str = "omit",
    cov_type: str | Covariance = "nonrobust",
    use_t: bool | None = None,
    block_size: int | np.integer | str = "auto",
    progress: bool = False,
    devices: Any = None,
    **retired: Any,
) -> Fit:
    """Fit y = f(θ, x) to every data set in one call: minimize S(θ) = Σ w ε(θ)² / Σ w, ε(θ) = y − f(θ, x).

    Axis 0 of y is the observation; every further axis is data sets, here called `*batch`. The dtype of y is
    that of the results: float32 data are fitted in float32 and float64 data in float64, without a change of
    any JAX setting.

    Args:
        x: (n,), shared by all data sets, or (n, *batch), an x for each data set. For an ansatz of vectors,
            such as `Linear`, (n, k) or (n, k, *batch). To fit one y on many x, pass
            `np.broadcast_to(y[:, None], x.shape)` as y, which copies nothing. x is rounded to the dtype of
            y; a ValueError is raised if that would noticeably change its spacing.
        y: (n, *batch): arrays, lists, DataFrames or DataArrays of float32, float64, integers or booleans.
            NaN is a gap, as are masked elements of NumPy's masked arrays and missing values of pandas.
            float16 and bfloat16 are refused, since three digits are too few for a fit.
        ansatz: `Line()`, `Polynomial(degree)`, `Linear(intercept=True)` or `Features(function, names)`; or a
            curve that is not linear in its params, `Curve(function, names, start)` or one of
            `exponential_decay`, `gaussian_peak`, `logistic_growth`, `power_law`, `sine`.
        cost: `mean_squared_error`; a mean of a loss, such as `Huber()`, `Quantile(q)`, `Logistic()`,
            `Poisson()` or `mean_loss(rho)`; `Ridge(alpha)`, also added to one of these, or
            `Ridge.choose(alphas)`; or any function with the signature of the first, which is called with x
            and params in the units of the data. Numbers that change between calls or are differentiated, such
            as the strength of a penalty, belong in the leaves of a callable pytree, such as
            `jax.tree_util.Partial(penalized, strength=0.1)`.
        solver: if omitted, that of the cost: `ClosedForm()` for the mean squared error, `Reweighted()` for a
            mean of a loss, `InteriorPoint()` for a quantile, `GaussNewton()` for a curve, and `Newton()` for
            a function of your own. `GradientDescent(...)` minimizes any cost.
        weights: inverse variances of the observations, (n,) or (n, *batch); for likelihoods and `mean_loss`
            factors of the loss. An observation of weight 0 (or of a subnormal weight) is a gap.
        sigma: standard deviations of the observations, in place of weights = 1/sigma².
        offset: known part of f(θ, x) for costs with a link, such as `Poisson` and `Logistic`, (n,) or
            (n, *batch).
        exposure: observation time or size of the population behind each count, positive, (n,) or (n, *batch):
            its logarithm is an offset, so that the mean is exposure · e^f.
        nan_policy: "omit": leave out NaN, in each data set separately. "propagate": data sets with a NaN
            get the status `invalid_data`. "raise": raise a ValueError.
        cov_type: the covariance used for bse and all tests. "nonrobust": all observations of a data set have
            one variance (divided by their weight). "HC0" to "HC3": each has a variance of its own.
            `Cluster(groups)`: errors correlate within groups. `HAC(maxlags)`: errors of successive
            observations correlate. All but "nonrobust" take a second pass over the data; the numbers are
            those of statsmodels, except for likelihoods: there statsmodels omits the factor of HC1, and the
            leverages of HC2 and HC3.
        use_t: whether params are tested with Student's t instead of the normal distribution. If omitted,
            True for a nonrobust covariance and False otherwise, as in statsmodels.
        block_size: number of data sets in memory at once. "auto" bounds the memory, on an accelerator by
            its free memory: arrays that are not on the device (NumPy arrays, memory maps, and other arrays
            that are read by slicing, such as those of h5py, zarr and dask) are read block by block, the next
            block while the present one is fitted. The results do not depend on it (except, on an
            accelerator, in the last bits for a shared design of many columns).
        progress: whether to show a progress bar over the blocks (needs tqdm).
        devices: devices of this process, such as `jax.devices()`, or a mesh of them, to which the data sets
            of each block are sent in equal shares. If omitted, one device computes: that of the data, or the
            default one; arrays that are sharded over several already are fitted where they are. If y is
            sharded along its observations each device sums its own, and moments are exchanged: for least
            squares in closed form with nonrobust errors (`llf` is NaN with weights).

    Returns:
        `Fit`. A data set that cannot be fitted has NaN params and a `status` that says why, and does not
        affect the others; see `Fit.describe`. float64 results are NumPy arrays if JAX's 64-bit switch is off.

    Raises:
        ValueError, TypeError: if shapes, dtypes or options do not fit together. Bad values in the data never
            raise, unless `nan_policy="raise"`.
        MemoryError: if a device has no memory for a block; the error names a smaller `block_size`.

    Source: seed paper, equations 6, 7, 14 and 15.

    >>> x = np.array([0.0, 1.0, 2.0, 3.0])
    >>> y = np.array([[1.0, 0.0], [3.0, np.nan], [5.0, 1.0], [6.0, 2.0]])  # two data sets, one gap
    >>> lines = fit(x, y)
    >>> intercept, slope = lines.params
    >>> print(slope.round(3), lines.bse[1].round(3), lines.nobs)
    [1.7   0.643] [0.173 0.124] [4 3]
    """
    checks.check_retired(retired)
    solver = _default_solver(ansatz, cost) if solver is None else solver
    checks.check_options(ansatz, cost, solver, nan_policy, block_size)
    if use_t not in (None, True, False):
        raise ValueError(f"use_t is True, False or None, got {use_t!r}")
    check_dims(x, y, weights if sigma is None else sigma)
    compiled = compiled_ansatz(ansatz)
    is_curve = isinstance(ansatz, Curve)
    if are_divided(y):
        _check_divided(cost, solver, cov_type)
    labels = labels_of(x, y, isinstance(ansatz, Linear))
    source = source_of(checks.design_of(ansatz, x), y, weights, sigma, nan_policy, compiled)
    source = with_devices(source, checks.checked_devices(devices))
    link = getattr(cost, "link", "identity")
    offset = checks.checked_offset(offset, exposure, source.y, link)
    covariance = covariance_of(cov_type, source.y.shape[0])
    task = Task(compiled, solver.precision, _without_precision(solver), covariance)
    _check_solver(cost, solver, covariance, offset, is_curve)
    if is_curve:
        check_function(ansatz, source.x.shape[1] if compiled.x_is_vector else 1)
        start = checked_start(ansatz, source.batch)
        cost = SquaredError() if cost is mean_squared_error else cost
        checks.check_numbers(cost, source.y)
        source = replace(source, integers_keep_origin=False, cost=cost, offset=offset, start=start)
        estimate = _solve_iteratively(task, source, block_size, progress)
    elif isinstance(cost, Ridge):
        checks.check_numbers(cost, source.y)
        source = replace(source, integers_keep_origin=False, cost=cost)
        estimate = _ridge(task, source, block_size, progress)
    elif are_divided(source.y):
        estimate = _of_divided_rows(task, source)
    elif cost is mean_squared_error:
        estimate = _least_squares(task, source, block_size, progress)
    elif isinstance(solver, Reweighted | InteriorPoint):
        if isinstance(cost, Penalized):
            _check_columns(compiled)
        checks.check_numbers(cost, source.y)
        source = replace(source, integers_keep_origin=False, cost=cost, offset=offset)
        estimate = _solve_iteratively(task, source, block_size, progress)
    else:
        source = replace(source, integers_keep_origin=False)
        estimate = _minimize_cost(task, cost, source, block_size, progress)
        estimate = estimate if link == "identity" else without_squares(estimate)
    name = getattr(cost, "cov_type", "nonrobust") if covariance is None else covariance.name
    uses_t = covariance is None and getattr(cost, "uses_t", True) if use_t is None else use_t
    constant = "implicit" if is_curve else constant_column(source)
    options = (name, uses_t, constant, link)
    return Fit(Fitted(estimate, compiled, *options), ansatz, labels)


def _default_solver(ansatz: Any, cost: Any) -> Solver:
    """The solver for an ansatz and a cost."""
    return GaussNewton() if isinstance(ansatz, Curve) else _solver_of(cost)()


def _solver_of(cost: Any) -> Any:
    """The class of the solver of a cost, for ansätze that are linear in their params."""
    if isinstance(cost, Quantile):
        return InteriorPoint
    if isinstance(cost, MeanLoss | Penalized):
        return Reweighted
    return ClosedForm if cost is mean_squared_error or isinstance(cost, Ridge) else Newton


def _check_solver(cost: Any, solver: Solver, covariance: Any, offset: Any, is_curve: bool) -> None:
    """Raise unless the solver minimizes the cost, and the cost has such a covariance."""
    if is_curve != isinstance(solver, GaussNewton):
        raise ValueError(
            "GaussNewton fits curves; omit solver"
            if not is_curve
            else f"{type(solver).__name__} does not fit curves; omit solver, or pass GaussNewton(). "
            "jaxreg.descend minimizes any function"
        )
    if is_curve:
        _check_cost_of_curve(cost)
        return
    if cost is mean_squared_error and not isinstance(solver, InteriorPoint):
        return
    if isinstance(cost, Ridge):
        if not isinstance(solver, ClosedForm) or covariance is not None:
            raise ValueError(
                "ridge regressions are solved in closed form, without standard errors; omit "
                "solver and cov_type"
            )
        return
    if isinstance(cost, Penalized) and covariance is not None:
        raise ValueError("penalized params are biased and have no standard errors; omit cov_type")
    if isinstance(cost, Quantile) and covariance is not None:
        raise ValueError("Quantile has standard errors of its own, which may depend on x; omit cov_type")
    own = _solver_of(cost)
    others = (GradientDescent,) if isinstance(cost, Quantile) else (GradientDescent, Newton)
    if not isinstance(solver, (own, *others)):
        name = getattr(cost, "__name__", type(cost).__name__)
        raise ValueError(
            f"{type(solver).__name__} does not minimize {name}; omit solver, or pass {own.__name__}()"
        )
    if offset is not None and isinstance(solver, GradientDescent | Newton):
        raise ValueError(f"{type(solver).__name__} takes no offset or exposure; omit solver")


def _check_columns(ansatz: Ansatz) -> None:
    """Raise unless params are slopes of columns, which a penalty takes."""
    if not ansatz.basis_is_x:
        raise ValueError(
            f"Ridge penalizes coefficients of columns, of Linear, Features or Line; got {ansatz}"
        )


def _check_cost_of_curve(cost: Any) -> None:
    """Raise unless curves can be fitted with the cost."""
    if cost is mean_squared_error:
        return
    if not isinstance(cost, MeanLoss) or cost.has_scale or cost.is_piecewise_linear:
        raise ValueError(
            "curves are fitted with mean_squared_error, a likelihood such as Poisson(), or mean_loss(rho); "
            f"got {cost!r}"
        )


def _without_precision(solver: Solver) -> Solver:
    """The solver as compiled programs take it, one for all precisions."""
    return ClosedForm() if isinstance(solver, ClosedForm) else solver


def _check_divided(cost: Any, solver: Solver, cov_type: Any) -> None:
    """Raise unless moments are enough, which devices exchange in place of observations."""
    if cost is mean_squared_error and isinstance(solver, ClosedForm) and cov_type == "nonrobust":
        return
    raise ValueError(
        "y is divided among devices along its observations, for which there is least squares in closed form "
        "with nonrobust errors; for other fits divide the data sets instead, as in "
        "jax.device_put(y, NamedSharding(mesh, PartitionSpec(None, name)))"
    )


@in_own_precision
def _of_divided_rows(task: Task, source: Source) -> Estimate:
    """Least squares of observations on several devices."""
    columns = source.whole()
    w = columns.weights
    if columns.sigma_unit is not None:
        w = w / jnp.square(columns.sigma_unit)
    origins = columns.x_origin, columns.y_origin
    operands = Operands(columns.x, columns.y, w, None, *origins, solver=task.solver)
    return estimate_of_divided_rows(task.ansatz, operands)


@in_own_precision
def _least_squares(task: Task, source: Source, block_size: Any, progress: bool) -> Estimate:
    """Least squares: block by block for concrete values, and as one operation within transformations."""
    if not _has_values(source, task.solver):
        operands = _operands(source, task.solver, task.covariance)
        return operation.estimate(task.ansatz, task.precision == "certified", operands).estimate
    place = host if source.is_on_host else device
    task = replace(task, finish=estimate_only)
    if task.covariance is not None:
        task = replace(task, finish=estimate_and_exact, postprocess=place.robust_errors)
    return in_blocks(partial(place.compute, task), source, block_size, progress, _state_size(task, source))


def _state_size(task: Task, source: Source) -> int:
    """Numbers per data set that a robust covariance keeps while it sums."""
    if task.covariance is None:
        return 0
    ansatz = source.ansatz
    p = len(ansatz.param_names(source.x.shape[1] if ansatz.x_is_vector else 1))
    return task.covariance.state_size(p, source.y.shape[0])


@in_own_precision
def _solve_iteratively(task: Task, source: Source, block_size: Any, progress: bool) -> Estimate:
    """A mean of a loss: block by block for concrete values, and as one operation within transformations."""
    ansatz = task.ansatz
    if not _has_values(source):
        operands = _operands(source, task.solver, task.covariance)
        return reweighting.reweight(ansatz, False, operands).estimate
    place, postprocess = (
        (host, reweighting.InTiles(ansatz)) if source.is_on_host else (device, reweighting.AtOnce(ansatz))
    )
    first = reweighting.ansatz_of_start(ansatz)
    task = replace(task, ansatz=first, finish=estimate_and_exact, postprocess=postprocess)
    return in_blocks(partial(place.compute, task), source, block_size, progress, _state_size(task, source))


@in_own_precision
def _ridge(task: Task, source: Source, block_size: Any, progress: bool) -> Estimate:
    """Ridge regressions: block by block for concrete values, otherwise as plain JAX."""
    _check_columns(source.ansatz)
    if not _has_values(source):
        return ridge_in_transformation(source.ansatz, source.whole())
    place, postprocess = (host, ridge.InTiles()) if source.is_on_host else (device, ridge.AtOnce())
    task = replace(task, precision="fast", finish=ridge.parts_of, postprocess=postprocess)
    return in_blocks(partial(place.compute, task), source, block_size, progress)


@in_own_precision
def _minimize_cost(task: Task, cost: Cost, source: Source, block_size: Any, progress: bool) -> Estimate:
    """The minimum of a cost of the user: block by block for concrete values, otherwise as one operation."""
    cost_pytree = user_cost.as_pytree(cost, task.ansatz, source)
    if not _has_values(source, task.solver, cost_pytree):
        cost_operand = with_batch_axes(cost_pytree, len(source.batch))
        operands = _operands(source, task.solver, task.covariance)._replace(cost=cost_operand)
        return minimize(task.ansatz, task.precision == "certified", operands).estimate
    x64 = jax.config.read("jax_enable_x64")
    if source.is_on_host:
        place, postprocess = host, InTiles(cost_pytree, x64)
    else:
        place, postprocess = device, AtOnce(cost_pytree, x64)
    task = replace(task, finish=least_squares_start, postprocess=postprocess)
    return in_blocks(partial(place.compute, task), source, block_size, progress)


def moments(x: Any, y: Any, weights: Any = None, *, ansatz: Ansatz | Features = Line()) -> Moments:
    """The moments ⟨φφᵀ⟩, ⟨φy⟩ and ⟨y²⟩ of every data set, in one pass over the data.

    ⟨a⟩ = Σ w a / Σ w over the valid observations of a data set: those with a weight other than 0 and without
    NaN in x or y. Data sets where rounding would be noticeable in the params are summed in double-double, as
    in `fit`.

    Args:
        x: (n,), shared by all data sets, or (n, *batch); (n, k) or (n, k, *batch) for an ansatz of vectors.
        y: (n, *batch); its dtype is that of the results, as in `fit`.
        weights: inverse variances, (n,) or (n, *batch).
        ansatz: with the features φ that are averaged.

    Returns:
        `Moments`, differentiable in x, y and weights. Data sets with an infinite value, or a negative or NaN
        weight, are marked `invalid`.

    Raises:
        ValueError, TypeError: if shapes or dtypes do not fit together.
    """
    check_dims(x, y, weights)
    compiled = compiled_ansatz(ansatz)
    return _moments(compiled, source_of(checks.design_of(ansatz, x), y, weights, None, "omit", compiled))


@in_own_precision
def _moments(ansatz: Ansatz, source: Source) -> Moments:
    if not _has_values(source):
        return operation.moments(ansatz, False, _operands(source, ClosedForm()))
    place = host if source.is_on_host else device
    task = Task(ansatz, "auto", ClosedForm(), finish=moments_of)
    return in_blocks(partial(place.compute, task), source, "auto", progress=False)


def _operands(source: Source, solver: Solver, covariance: Covariance | None = None) -> Operands:
    """All data sets as the arguments of an operation."""
    columns = source.whole()
    return Operands(*columns[:6], solver, covariance, columns.cost, columns.offset, columns.start)


def _has_values(source: Source, *pytrees: Any) -> bool:
    """Whether all values are concrete and on one device, so that the eager caller can inspect them."""
    is_inside_jit = isinstance(jnp.zeros(()), Tracer)
    is_traced = source.is_traced or any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(pytrees))
    return not is_traced and not is_inside_jit and not source.is_distributed
