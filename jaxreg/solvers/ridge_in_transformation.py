"""Ridge regressions within transformations: plain JAX in the dtype of the data, which has derivatives."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.data.source import Columns
from jaxreg.engine.estimate import Estimate
from jaxreg.engine.scores import observed_response
from jaxreg.engine.sums import columns_of
from jaxreg.gaps import is_valid
from jaxreg.numerics import small
from jaxreg.solvers.minimization import without_errors
from jaxreg.solvers.ridge import Solution, estimate_at, root
from jaxreg.solvers.ridge_system import Parts, chosen_alpha, system_of

MIN_EIGENVALUE = {"float32": 2.0**-20, "float64": 2.0**-48}  # relative to the largest: less is rounding


def ridge_in_transformation(ansatz: Ansatz, columns: Columns) -> Estimate:
    """The estimate of each data set."""
    parts = _parts_of_arrays(ansatz, *columns[:4])
    system = system_of(lax.stop_gradient(parts), None)
    alpha = jnp.asarray(columns.cost.alpha, parts.total.dtype) + jnp.zeros_like(parts.total)
    if columns.cost.alphas is not None:
        alpha = lax.stop_gradient(chosen_alpha(ansatz, columns.cost, system, columns[:3]))
    weight = jnp.where(parts.weight > 0, parts.weight, 1)
    k = len(parts.gram)
    identity = jnp.eye(k, dtype=alpha.dtype).reshape(k, k, *(1,) * alpha.ndim)
    a = alpha / weight
    s = system.eigenvalues + lax.stop_gradient(a)
    is_regular = s[0] > MIN_EIGENVALUE[alpha.dtype.name] * k * s[-1]
    V, s = system.vectors, jnp.where(is_regular, s, 1)
    K = jnp.where(is_regular, parts.gram + a * identity, identity)
    # Two of Newton's steps from the constant K⁻¹ have its first three derivatives.
    inverse = small.matmul(V / s, jnp.swapaxes(V, 0, 1))
    for _ in range(2):
        inverse = 2 * inverse - small.matmul(inverse, small.matmul(K, inverse))
    beta = small.matvec(inverse, parts.cross)
    fitted = small.matvec(parts.gram, beta)
    mean_square = parts.total - jnp.sum(beta * (2 * parts.cross - fitted), axis=0)
    dof = k - a * jnp.trace(inverse) + ansatz.has_intercept
    solution = Solution(alpha, beta, jnp.maximum(mean_square, 0), dof)
    return without_errors(estimate_at(ansatz, columns.y.dtype, parts, solution, is_regular), jnp)


def _parts_of_arrays(
    ansatz: Ansatz, x: Array, y: Array, weights: Array | None, sigma_unit: Array | None
) -> Parts:
    """The normal equations from whole arrays."""
    columns, dtype = columns_of(ansatz, x, 1), y.dtype
    row = observed_response(columns, y, weights, dtype)
    zero = jnp.zeros_like(y)
    X = jnp.stack([jnp.where(row.valid, a, 0) + zero for a in columns])
    w = row.weight + zero
    total_weight = jnp.sum(w, axis=0)
    w = w / jnp.where(total_weight > 0, total_weight, 1)
    x_mean, y_mean = jnp.sum(w * X, axis=1), jnp.sum(w * row.y, axis=0)
    if not ansatz.has_intercept:
        x_mean, y_mean = jnp.zeros_like(x_mean), jnp.zeros_like(y_mean)
    X, y_centered = jnp.where(row.valid, X - x_mean[:, None], 0), jnp.where(row.valid, row.y - y_mean, 0)
    counts = is_valid(columns, y, weights) | (zero > 0)  # also where a value is infinite
    usable = jnp.stack([jnp.isfinite(a + zero) for a in (*columns, y)]).all(axis=0)
    if weights is not None:
        usable = usable & (weights >= 0) & (weights < jnp.inf)
    finite = (usable | ~counts).all(axis=0)
    if sigma_unit is not None:
        total_weight = total_weight / jnp.square(sigma_unit)
    nobs = jnp.sum(counts, axis=0).astype(jnp.int32)
    batch = jnp.zeros_like(y_mean)
    center = jnp.zeros_like(x_mean) if ansatz.x_is_vector else batch
    p = len(columns) + ansatz.has_intercept
    template = Estimate(
        params=jnp.zeros((p, *batch.shape), dtype),
        bse=jnp.zeros((p, *batch.shape), dtype),
        nobs=nobs,
        status=jnp.zeros_like(nobs, jnp.int8),
        digits=jnp.zeros_like(nobs, jnp.int8),
        coefs=jnp.zeros((p, *batch.shape), dtype),
        unit_cov=jnp.zeros((p * (p + 1) // 2, *batch.shape), dtype),
        x_center=center,
        x_scale=jnp.ones_like(center),
        residual=batch,
        explained=batch,
        y_mean=batch if ansatz.has_intercept else None,
        y_deviation=None if ansatz.has_intercept else root(_variance(w, row.y)),
        root_weight=None if weights is None else batch,
        log_weight=None if weights is None else jnp.sum(jnp.log(jnp.where(w > 0, row.weight, 1)), axis=0),
    )
    gram = jnp.sum(w * X[:, None] * X[None], axis=2)
    cross = jnp.sum(w * X * y_centered, axis=1)
    return Parts(
        template, finite, total_weight, x_mean, y_mean, gram, cross, jnp.sum(w * y_centered**2, axis=0)
    )


def _variance(w: Array, y: Array) -> Array:
    return jnp.sum(w * jnp.square(y - jnp.sum(w * y, axis=0)), axis=0)
