"""A cost of the user as a pytree, whose numbers can change without recompilation and be differentiated."""

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

OUTSIDE_TRANSFORMATIONS = get_opaque_trace_state()


def as_pytree(cost: Cost, ansatz: Ansatz, source: Source) -> Partial:
    """The cost as a pytree whose leaves are its own leaves and the traced values it closes over."""
    is_leaf = jax.tree_util.treedef_is_leaf(jax.tree.structure(cost))
    return _with_traced_constants(Partial(cost) if is_leaf else Partial(_call, cost), ansatz, source)


def _call(cost: Cost, *args: Any, **options: Any) -> Array:
    return cost(*args, **options)


def _with_traced_constants(cost: Partial, ansatz: Ansatz, source: Source) -> Partial:
    """The cost with the traced values it closes over as leaves, since only leaves are differentiated."""
    if get_opaque_trace_state() == OUTSIDE_TRANSFORMATIONS:
        return cost
    p = len(ansatz.param_names(source.x.shape[1] if ansatz.x_is_vector else 1))
    n = source.y.shape[0]
    observations = jax.ShapeDtypeStruct((n,), source.dtype)
    arguments = (
        jax.ShapeDtypeStruct((p,), source.dtype),
        jax.ShapeDtypeStruct(source.x.shape[: 1 + ansatz.x_is_vector], source.dtype),
        observations,
        None if source.weights is None else observations,
    )
    closed_jaxpr = jax.make_jaxpr(partial(_call, ansatz=ansatz))(cost, *arguments)
    if not any(isinstance(a, Tracer) for a in closed_jaxpr.consts):
        return cost
    return Partial(partial(_evaluate, closed_jaxpr.jaxpr), closed_jaxpr.consts, cost)


def _evaluate(jaxpr: Any, constants: list, cost: Partial, *data: Any, ansatz: Ansatz) -> Array:
    (value,) = eval_jaxpr(jaxpr, constants, *jax.tree.leaves((cost, *data)))
    return value
