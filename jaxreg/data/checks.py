"""Checks of arguments: options, shapes, weights, and the x of predictions."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.data.arrays import as_array, cast, result_dtype
from jaxreg.numerics.precision import in_own_precision

NAN_POLICIES = ("omit", "propagate", "raise")


def check_options(ansatz: Any, cost: Any, solver: Any, nan_policy: Any, block_size: Any) -> None:
    """Raise on an option that does not exist."""
    if isinstance(ansatz, type) or not (hasattr(ansatz, "basis") or hasattr(ansatz, "design")):
        raise TypeError(f"ansatz is an object such as Line() or Polynomial(2), got {ansatz!r}")
    if not callable(cost):
        raise TypeError(f"cost is a function such as mean_squared_error, got {cost!r}")
    _check_signature(cost)
    if isinstance(solver, type) or not hasattr(solver, "on_moments"):
        raise TypeError(f"solver is an object such as GradientDescent(), got {solver!r}")
    if nan_policy not in NAN_POLICIES:
        raise ValueError(f"nan_policy is one of {NAN_POLICIES}, got {nan_policy!r}")
    whole = isinstance(block_size, int | np.integer) and not isinstance(block_size, bool) and block_size > 0
    if block_size != "auto" and not whole:
        raise ValueError(f'block_size is "auto" or a number of data sets, got {block_size!r}')


def _check_signature(cost: Any) -> None:
    """Raise where a cost cannot be called as `mean_squared_error` is."""
    try:
        signature = inspect.signature(cost)
    except (TypeError, ValueError):  # builtins have none
        return
    try:
        signature.bind("params", "x", "y", "weights", ansatz="ansatz")
    except TypeError as error:
        raise TypeError(
            f"fit calls cost(params, x, y, weights, ansatz=ansatz), and this takes {signature} ({error}); "
            "jaxreg.descend takes a cost of any arguments"
        ) from None


RETIRED = {
    "precision": 'solver=ClosedForm(precision="{value}")',
    "groups": "cov_type=Cluster(groups)",
    "maxlags": "cov_type=HAC(maxlags={value})",
}


def check_retired(options: dict[str, Any]) -> None:
    """Raise on keywords that `fit` does not take, with the new place of those that it once took."""
    for name, value in options.items():
        if name in RETIRED:
            place = RETIRED[name].format(value=value)
            raise TypeError(f"{name}= has moved: pass {place}")
        raise TypeError(f"fit() got an unexpected keyword argument {name!r}")


def check_shapes(x: Any, y: Any, ansatz: Ansatz) -> None:
    """Raise where x and y do not have the same observations and data sets."""
    if y.ndim == 0 or 0 in y.shape:
        raise ValueError(f"y has shape {y.shape}; pass one axis of observations, not empty")
    n, batch = y.shape[0], y.shape[1:]
    if ansatz.x_is_vector:
        allowed = "(n, k), shared, or (n, k, *batch), own"
        fits = x.ndim >= 2 and x.shape[0] == n and x.shape[2:] in ((), batch) and x.shape[1] > 0
    else:
        allowed = f"({n},), shared, or {y.shape}, own"
        fits = x.shape in ((n,), y.shape)
    if not fits:
        hint = _hint(x.shape, y.shape, ansatz)
        raise ValueError(
            hint or f"x has shape {x.shape} and y {y.shape}: {ansatz} takes x of shape {allowed}"
        )


def _hint(x: tuple[int, ...], y: tuple[int, ...], ansatz: Ansatz) -> str | None:
    """What to pass instead for the usual mistakes of shape."""
    both = f"x has shape {x} and y {y}"
    if len(y) == 2 and x and x[0] == y[1] and x[0] != y[0] and len(x) == 1 + ansatz.x_is_vector:
        return f"{both}: axis 0 of y is the observation; pass y.T"
    if ansatz.x_is_vector and len(x) == 1 and x[0] == y[0]:
        return f"{both}: {ansatz} takes columns of x; pass x[:, None] for a single one"
    if ansatz.x_is_vector and len(x) == 2 and x[1] == y[0] != x[0]:
        return f"{both}: axis 0 of x is the observation; pass x.T"
    if not ansatz.x_is_vector and len(y) == 1 and len(x) > 1 and x[0] == y[0]:
        return (
            f"{both}: for one y on each column of x pass np.broadcast_to(y[:, None], x.shape), which copies "
            "nothing; for one regression on all columns ansatz=Linear(); x comes first, fit(x, y)"
        )
    return None


def checked_weights(weights: Any, sigma: Any, y: Any) -> Any:
    """Weights, or sigma, as an array; None if omitted."""
    given, name = (sigma, "sigma") if weights is None else (weights, "weights")
    if given is None:
        return None
    w = as_array(given, name)
    _check_range(w, result_dtype(y, y), name)
    if w.shape not in ((y.shape[0],), y.shape):
        raise ValueError(f"{name} has shape {w.shape}: pass ({y.shape[0]},), shared, or {y.shape}, own")
    return w


def _check_range(w: Any, dtype: np.dtype, name: str) -> None:
    """Raise where the dtype of y has not the range of the weights."""
    if isinstance(w, np.ndarray) and w.dtype.itemsize > dtype.itemsize:
        with np.errstate(over="ignore", under="ignore"):
            cast = w.astype(dtype)
        lost = np.isfinite(w) & (w != 0) & ((cast == 0) | np.isinf(cast))
        if lost.any():
            raise ValueError(
                f"{name} has values such as {w[lost][0]:.3g}, beyond the range of {dtype}, the dtype of y; "
                f"pass y as float64 or {name} in other units"
            )


def new_x(
    x: Any, dtype: Any, ansatz: Ansatz, batch: tuple[int, ...], columns: int, origin: Array | None
) -> Array:
    """The x of a prediction from the origin that integers had, with axes of length 1 where it is shared."""
    x = as_array(x, "x")
    one = (columns,) if ansatz.x_is_vector else ()
    if x.shape[1:] not in (one, one + batch):
        shared, own = (f"({', '.join(['n', *map(str, rest)])})" for rest in (one, one + batch))
        raise ValueError(f"predict takes x of shape {shared}, shared, or {own}, own; got {x.shape}")
    if origin is None:
        return cast(x, dtype)
    return in_own_precision(partial(_from_origin, np.dtype(dtype)))(x, origin)


def _from_origin(dtype: np.dtype, x: Any, origin: Array) -> Array:
    """x − origin, each data set's own; of integers exact."""
    x = x.reshape(*x.shape, *(1,) * (origin.ndim - (x.ndim - 1))) if x.ndim else x
    return (x - origin.astype(x.dtype)).astype(dtype)


def new_y(y: Any, dtype: Any, batch: tuple[int, ...], origin: Array | None) -> Array:
    """The y of residuals, counted from the origin that integers had."""
    y = as_array(y, "y")
    if y.ndim == 0 or y.shape[1:] != batch:
        raise ValueError(f"y has shape {y.shape}; the fit has data sets {batch}: pass (n, *{batch})")
    if origin is None:
        return cast(y, dtype)
    return in_own_precision(partial(_from_origin, np.dtype(dtype)))(y, origin)


def new_weights(weights: Any, shape: tuple[int, ...]) -> Any:
    """The weights of new observations, 1 where none are given."""
    if weights is None:
        return 1.0
    given = jnp.shape(weights)
    behind = shape[len(shape) - len(given) :]
    if len(given) > len(shape) or any(a not in (1, b) for a, b in zip(given, behind, strict=True)):
        raise ValueError(f"weights of new observations are a number or of shape {shape}, got {given}")
    return weights
