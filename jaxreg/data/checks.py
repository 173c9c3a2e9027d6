"""Checks of arguments: options, shapes, weights, and new x and y of predictions and residuals."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz, Features, design
from jaxreg.data.arrays import as_array, cast, in_memory, result_dtype
from jaxreg.numerics.precision import in_own_precision

NAN_POLICIES = ("omit", "propagate", "raise")


def design_of(ansatz: Any, x: Any) -> Any:
    """The x that programs are compiled for; the functions of `Features` are evaluated in float64 on NumPy
    arrays.

    What is not an array or a list, such as a data frame or a dictionary, goes to the functions as it is.
    """
    if isinstance(ansatz, Features) and not isinstance(x, dict | tuple) and not hasattr(x, "columns"):
        x = in_memory(as_array(x, "x"))
        x = x.astype(np.float64) if isinstance(x, np.ndarray) else x
    return design(ansatz, x)


def check_options(ansatz: Any, cost: Any, solver: Any, nan_policy: Any, block_size: Any) -> None:
    """Raise if an option of `fit` has a wrong type or value."""
    if isinstance(ansatz, type) or not hasattr(ansatz, "predict"):
        raise TypeError(f"ansatz is an object such as Line() or Polynomial(2), got {ansatz!r}")
    if isinstance(cost, type):
        raise TypeError(f"cost is an object: pass {cost.__name__}(), not the class")
    if not callable(cost):
        raise TypeError(f"cost is a function such as mean_squared_error, got {cost!r}")
    _check_signature(cost)
    if isinstance(solver, type) or not hasattr(solver, "on_moments"):
        raise TypeError(f"solver is an object such as GradientDescent(), got {solver!r}")
    if nan_policy not in NAN_POLICIES:
        raise ValueError(f"nan_policy is one of {NAN_POLICIES}, got {nan_policy!r}")
    is_integer = isinstance(block_size, int | np.integer) and not isinstance(block_size, bool)
    if block_size != "auto" and not (is_integer and block_size > 0):
        raise ValueError(f'block_size is "auto" or a number of data sets, got {block_size!r}')


def checked_devices(devices: Any) -> tuple[Any, ...]:
    """The devices of a sequence or a mesh; none if omitted."""
    if devices is None:
        return ()
    listed = tuple(devices.devices.flat) if isinstance(devices, Mesh) else devices
    expected = "devices is a list of devices, such as jax.devices(), or a mesh of them"
    if isinstance(listed, str) or not isinstance(listed, Sequence):
        raise TypeError(f"{expected}; got {devices!r}")
    for device in listed:
        if not isinstance(device, jax.Device):
            raise TypeError(f"{expected}; got {device!r} in it")
        if device.process_index != jax.process_index():
            raise ValueError(f"{device} belongs to another process: pass jax.local_devices()")
    if not listed or len(set(listed)) < len(listed):
        raise ValueError(f"{expected}, each once; got {devices!r}")
    return tuple(listed)


def _check_signature(cost: Any) -> None:
    """Raise if a cost cannot be called like `mean_squared_error`."""
    try:
        signature = inspect.signature(cost)
    except (TypeError, ValueError):  # builtins have no signature
        return
    try:
        signature.bind("params", "x", "y", "weights", ansatz="ansatz")
    except TypeError as error:
        raise TypeError(
            f"fit calls cost(params, x, y, weights, ansatz=ansatz), and this cost takes {signature} "
            f"({error}); jaxreg.descend minimizes a cost with any arguments"
        ) from None


RETIRED = {
    "precision": 'solver=ClosedForm(precision="{value}")',
    "groups": "cov_type=Cluster(groups)",
    "maxlags": "cov_type=HAC(maxlags={value})",
}


def check_retired(options: dict[str, Any]) -> None:
    """Raise on keywords that `fit` does not take; for retired ones, name the replacement."""
    for name, value in options.items():
        if name in RETIRED:
            replacement = RETIRED[name].format(value=value)
            raise TypeError(f"{name}= has moved: pass {replacement}")
        raise TypeError(f"fit() got an unexpected keyword argument {name!r}")


def check_shapes(x: Any, y: Any, ansatz: Ansatz) -> None:
    """Raise if x and y do not have the same observations and data sets."""
    if y.ndim == 0 or 0 in y.shape:
        raise ValueError(f"y has shape {y.shape}; pass (n, *batch), not empty, with observations on axis 0")
    n, batch = y.shape[0], y.shape[1:]
    if ansatz.x_is_vector:
        allowed = "(n, k), shared by all data sets, or (n, k, *batch), one for each"
        fits = x.ndim >= 2 and x.shape[0] == n and x.shape[2:] in ((), batch) and x.shape[1] > 0
    else:
        allowed = f"({n},), shared by all data sets, or {y.shape}, one for each"
        fits = x.shape in ((n,), y.shape)
    if not fits:
        advice = _advice_on_shapes(x.shape, y.shape, ansatz)
        raise ValueError(
            advice or f"x has shape {x.shape} and y {y.shape}: {ansatz} takes x of shape {allowed}"
        )


def _advice_on_shapes(x: tuple[int, ...], y: tuple[int, ...], ansatz: Ansatz) -> str | None:
    """An error message for common mistakes of shape."""
    shapes = f"x has shape {x} and y {y}"
    if len(y) == 2 and x and x[0] == y[1] and x[0] != y[0] and len(x) == 1 + ansatz.x_is_vector:
        return f"{shapes}: axis 0 of y is the observation; pass y.T"
    if ansatz.x_is_vector and len(x) == 1 and x[0] == y[0]:
        return f"{shapes}: {ansatz} takes columns of x; pass x[:, None] for a single column"
    if ansatz.x_is_vector and len(x) == 2 and x[1] == y[0] != x[0]:
        return f"{shapes}: axis 0 of x is the observation; pass x.T"
    if not ansatz.x_is_vector and len(y) == 1 and len(x) > 1 and x[0] == y[0]:
        return (
            f"{shapes}, and x comes first, as in fit(x, y). To fit one y on each column of x, pass "
            "np.broadcast_to(y[:, None], x.shape), which copies nothing; to fit it on all columns together, "
            "pass ansatz=Linear()"
        )
    return None


def checked_weights(weights: Any, sigma: Any, y: Any) -> Any:
    """Weights, or sigma, as an array; None if both are omitted."""
    values, name = (sigma, "sigma") if weights is None else (weights, "weights")
    if values is None:
        return None
    w = as_array(values, name)
    _check_range(w, result_dtype(y, y), name)
    if w.shape not in ((y.shape[0],), y.shape):
        raise ValueError(
            f"{name} has shape {w.shape}: pass ({y.shape[0]},), shared by all data sets, or {y.shape}, one "
            "for each"
        )
    return w


def checked_offset(offset: Any, exposure: Any, y: Any, link: str) -> Any:
    """The offset of f, to which the logarithm of the exposure is added; None if both are omitted."""
    given = {name: a for name, a in (("offset", offset), ("exposure", exposure)) if a is not None}
    if given and link == "identity":
        raise ValueError(
            f"{next(iter(given))} is for costs with a link, such as Poisson(); subtract it from y instead"
        )
    if exposure is not None and link != "log":
        raise ValueError(
            f"exposure is for costs with a logarithmic link, such as Poisson(); this one has {link}"
        )
    arrays = {name: in_memory(as_array(a, name)) for name, a in given.items()}
    for name, a in arrays.items():
        if a.shape not in ((y.shape[0],), y.shape):
            raise ValueError(
                f"{name} has shape {a.shape}: pass ({y.shape[0]},), shared by all data sets, or {y.shape}, "
                "one for each"
            )
    if "exposure" not in arrays:
        return arrays.get("offset")
    return in_own_precision(_with_exposure)(arrays.get("offset"), arrays["exposure"])


def _with_exposure(offset: Array | None, exposure: Array) -> Array:
    """log(exposure), plus the offset; NaN unless the exposure is positive."""
    exposure = jnp.asarray(exposure, jnp.result_type(exposure, jnp.float32))
    log = jnp.log(jnp.where(exposure > 0, exposure, jnp.nan))
    if offset is None:
        return log
    if offset.ndim < log.ndim:
        offset = offset.reshape(-1, *(1,) * (log.ndim - 1))
    return offset + (log if log.ndim == offset.ndim else log.reshape(-1, *(1,) * (offset.ndim - 1)))


def check_numbers(cost: Any, y: Any) -> None:
    """Raise unless the numbers of a cost are one for all data sets or one for each."""
    for leaf in jax.tree.leaves(cost):
        if jnp.shape(leaf) not in ((), y.shape[1:]):
            raise ValueError(
                f"a number of {type(cost).__name__} has shape {jnp.shape(leaf)}: pass one for all data sets, "
                f"or one for each, {y.shape[1:]}"
            )


def _check_range(w: Any, dtype: np.dtype, name: str) -> None:
    """Raise if weights overflow or underflow in the dtype of y."""
    if isinstance(w, np.ndarray) and w.dtype.itemsize > dtype.itemsize:
        with np.errstate(over="ignore", under="ignore"):
            cast = w.astype(dtype)
        out_of_range = np.isfinite(w) & (w != 0) & ((cast == 0) | np.isinf(cast))
        if out_of_range.any():
            raise ValueError(
                f"{name} has values such as {w[out_of_range][0]:.3g}, beyond the range of {dtype}, the dtype "
                f"of y; pass y as float64 or {name} in other units"
            )


def new_x(
    x: Any, dtype: Any, ansatz: Ansatz, batch: tuple[int, ...], columns: int, origin: Array | None
) -> Array:
    """The x of a prediction, minus the origin that was subtracted from an integer x of the fit."""
    x = in_memory(as_array(x, "x"))
    columns_axis = (columns,) if ansatz.x_is_vector else ()
    if x.shape[1:] not in (columns_axis, columns_axis + batch):
        shared, own = (_shape_text(axes) for axes in (columns_axis, columns_axis + batch))
        raise ValueError(
            f"predict takes x of shape {shared}, shared by all data sets, or {own}, one for each; got "
            f"{x.shape}"
        )
    if origin is None:
        return cast(x, dtype)
    return in_own_precision(partial(_subtract_origin, np.dtype(dtype)))(x, origin)


def _shape_text(axes: tuple[int, ...]) -> str:
    """The shape (n, *axes) for an error message."""
    return f"({', '.join(['n', *map(str, axes)])})" if axes else "(n,)"


def _subtract_origin(dtype: np.dtype, x: Any, origin: Array) -> Array:
    """x − origin for each data set; exact for integers."""
    x = x.reshape(*x.shape, *(1,) * (origin.ndim - (x.ndim - 1))) if x.ndim else x
    return (x - origin.astype(x.dtype)).astype(dtype)


def new_y(y: Any, dtype: Any, batch: tuple[int, ...], origin: Array | None) -> Array:
    """The y of residuals, minus the origin that was subtracted from an integer y of the fit."""
    y = in_memory(as_array(y, "y"))
    if y.ndim == 0 or y.shape[1:] != batch:
        raise ValueError(f"resid takes y of shape {_shape_text(batch)}, as it was fitted; got {y.shape}")
    if origin is None:
        return cast(y, dtype)
    return in_own_precision(partial(_subtract_origin, np.dtype(dtype)))(y, origin)


def new_weights(weights: Any, shape: tuple[int, ...]) -> Any:
    """The weights of new observations, 1 if omitted."""
    if weights is None:
        return 1.0
    as_array(weights, "weights")
    given_shape = jnp.shape(weights)
    last_axes = shape[len(shape) - len(given_shape) :]
    broadcasts = len(given_shape) <= len(shape) and all(
        a in (1, b) for a, b in zip(given_shape, last_axes, strict=True)
    )
    if not broadcasts:
        raise ValueError(f"weights of new observations are a number or of shape {shape}, got {given_shape}")
    return weights
