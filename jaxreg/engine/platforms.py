"""A function whose program depends on the platform for which it is compiled, traced for that one alone.

`lax.platform_dependent` traces the programs of all platforms in every call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import mlir

from jaxreg._typing import Array
from jaxreg.engine.rows import ROWS, Rows
from jaxreg.numerics.precision import float64, promoting
from jaxreg.numerics.vectors import lists_up_to

_by_platform = Primitive("by_platform")
_by_platform.multiple_results = True


def by_platform(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args, rows=...)` with the `Rows` of the platform for which it is compiled, in 64-bit mode.

    The shapes of the results are the same on all platforms. All arrays that the function reads are arguments:
    it is traced again when its platform is known.
    """
    leaves, tree = jax.tree.flatten(args)
    jaxpr, shapes = jax.make_jaxpr(partial(function, rows=ROWS["cpu"]), return_shape=True)(*args)
    results = _by_platform.bind(*map(jnp.asarray, leaves), function=function, tree=tree, on_cpu=jaxpr)
    return jax.tree.unflatten(jax.tree.structure(shapes), results)


@promoting
def _with_rows(
    rows: Rows, *leaves: Array, function: Callable[..., Any], tree: Any, on_cpu: ClosedJaxpr
) -> list[Array]:
    if rows.on_cpu:
        return jaxpr_as_fun(on_cpu)(*leaves)
    with float64(), lists_up_to(rows.listed):
        return jax.tree.leaves(function(*jax.tree.unflatten(tree, leaves), rows=rows))


@_by_platform.def_impl
def _on_default_backend(*leaves: Array, **options: Any) -> list[Array]:
    """Without compilation, under `jax.disable_jit`."""
    return _with_rows(ROWS.get(jax.default_backend(), ROWS["default"]), *leaves, **options)


@_by_platform.def_abstract_eval
def _shapes(*_: Any, on_cpu: ClosedJaxpr, **__: Any) -> list[Any]:
    return on_cpu.out_avals


for _platform, _rows in ROWS.items():
    mlir.register_lowering(
        _by_platform,
        mlir.lower_fun(partial(_with_rows, _rows), multiple_results=True),
        platform=None if _platform == "default" else _platform,
    )
