"""Least squares of observations that are divided among devices: the moments of each, gathered and added."""

from __future__ import annotations

from functools import partial, reduce
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.engine import operation, running_sums
from jaxreg.engine.estimate import Estimate
from jaxreg.engine.moments import Moments
from jaxreg.engine.operation import Operands
from jaxreg.engine.running_estimate import estimate_of_running_sums

Names = tuple[Any, ...]  # of the axes of a mesh along which each axis of an array is divided

HAVE_ROWS = ("x", "y", "weights")  # operands whose first axis is the observations


def are_divided(y: Any) -> bool:
    """Whether the observations of an array, its first axis, are on several devices."""
    sharding = y.sharding if isinstance(y, jax.Array) and not isinstance(y, Tracer) else None
    return isinstance(sharding, NamedSharding) and sharding.shard_shape(y.shape)[0] < len(y)


def estimate_of_divided_rows(ansatz: Ansatz, operands: Operands) -> Estimate:
    """The estimate of each data set, on the devices of its observations.

    Each device sums its own. One all-gather gives all devices the moments of each, which are added in the
    order of the devices, so that the bits depend on the mesh alone.

    Args:
        ansatz: what is fitted.
        operands: with y sharded along its first axis; other arrays are moved beside it.
    """
    y: Any = operands.y
    mesh, names = y.sharding.mesh, (*y.sharding.spec, *(None,) * y.ndim)[: y.ndim]
    specs = _specs(names, y.shape, operands)
    placed = jax.tree.map(lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec)), operands, specs)
    whole = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), operands)
    one = jax.eval_shape(lambda operands: _estimate_of([operation.moments(ansatz, False, operands)]), whole)
    results = jax.tree.map(partial(_spec, names, y.shape, False), one)
    return _divided(ansatz, mesh, names[0], specs, results, placed)


@partial(jax.jit, static_argnums=range(5))
def _divided(
    ansatz: Ansatz, mesh: Any, rows: Any, specs: Operands, results: Estimate, operands: Operands
) -> Estimate:
    @partial(jax.shard_map, mesh=mesh, in_specs=(specs,), out_specs=results, check_vma=False)
    def estimate(own: Operands) -> Estimate:
        parts = jax.lax.all_gather(operation.moments(ansatz, False, own), rows)
        leaves, tree = jax.tree.flatten(parts)
        return _estimate_of([tree.unflatten(part) for part in zip(*leaves, strict=True)])

    return estimate(operands)


def _estimate_of(parts: list[Moments]) -> Estimate:
    sums = reduce(running_sums.added, map(running_sums.of_moments, parts))
    return estimate_of_running_sums(sums, forgets=False)


def _specs(names: Names, shape: tuple[int, ...], operands: Operands) -> Operands:
    return Operands(
        **{
            field: jax.tree.map(partial(_spec, names, shape, field in HAVE_ROWS), value)
            for field, value in operands._asdict().items()
        }
    )


def _spec(names: Names, shape: tuple[int, ...], has_rows: bool, a: Array) -> PartitionSpec:
    """How an array is divided whose last axes are the data sets of y, or of length 1."""
    data_sets = len(shape) - 1
    own = a.shape[a.ndim - data_sets :]
    last = [
        name if size == full else None for name, size, full in zip(names[1:], own, shape[1:], strict=True)
    ]
    first: list[Any] = [None] * (a.ndim - data_sets)
    return PartitionSpec(*([names[0], *first[1:]] if has_rows else first), *last)
