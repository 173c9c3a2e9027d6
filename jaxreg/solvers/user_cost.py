"""A cost of the user as a pytree: numbers that may change or be differentiated without compiling anew."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from jax.core import Tracer, eval_jaxpr
from jax.extend.core import get_opaque_trace_state
from jax.tree_util import Partial

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.cost import Cost
from jaxreg.data.source import Source

OUTSIDE = get_opaque_trace_state()  # of every transformation of JAX


def as_pytree(cost: Cost, ansatz: Ansatz, source: Source) -> Partial:
    """The cost as a pytree whose leaves are the numbers that it holds, and the traced ones it closes over."""
    is_leaf = jax.tree_util.treedef_is_leaf(jax.tree.structure(cost))
    return _with_traced_constants(Partial(cost) if is_leaf else Partial(_called, cost), ansatz, source)


def _called(cost: Cost, *args: Any, **options: Any) -> Array:
    return cost(*args, **options)


def _with_traced_constants(cost: Partial, ansatz: Ansatz, source: Source) -> Partial:
    """The cost with the traced numbers that its code mentions as leaves too: only these have derivatives."""
    if get_opaque_trace_state() == OUTSIDE:
        return cost
    p = len(ansatz.param_names(source.x.shape[1] if ansatz.x_is_vector else 1))
    n = source.y.shape[0]
    one = jax.ShapeDtypeStruct((n,), source.dtype)
    data = (
        jax.ShapeDtypeStruct((p,), source.dtype),
        jax.ShapeDtypeStruct(source.x.shape[: 1 + ansatz.x_is_vector], source.dtype),
        one,
        None if source.weights is None else one,
    )
    code = jax.make_jaxpr(partial(_called, ansatz=ansatz))(cost, *data)
    if not any(isinstance(a, Tracer) for a in code.consts):
        return cost
    return Partial(partial(_evaluated, code.jaxpr), code.consts, cost)


def _evaluated(code: Any, constants: list, cost: Partial, *data: Any, ansatz: Ansatz) -> Array:
    (value,) = eval_jaxpr(code, constants, *jax.tree.leaves((cost, *data)))
    return value
