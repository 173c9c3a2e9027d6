"""Frozen dataclasses that are pytrees."""

from __future__ import annotations

import copy
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform

import jax

T = TypeVar("T")


def tangent(like: T, **changes: Any) -> T:
    """A tangent of a tree: zero but for the fields that change; its leaves may have other dtypes."""
    tree = copy.copy(jax.tree.map(jax.custom_derivatives.zero_from_primal, like))
    for name, value in changes.items():
        object.__setattr__(tree, name, value)
    return tree


def static(*, default: Any = MISSING) -> Any:
    """A field that is not data: part of the structure of the pytree, and hashable."""
    return field(default=default, metadata={"static": True})


@dataclass_transform(frozen_default=True, field_specifiers=(field, static))
def pytree(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass and a pytree of its fields, but for the static ones.

    Unlike with `jax.tree_util.register_dataclass`, a tree put together again does not pass `__init__`:
    the leaves of a tree may be anything, and are not to be checked as those of a result are.
    """
    dataclass(frozen=True)(cls)
    every = fields(cls)  # pyright: ignore[reportArgumentType]
    still = tuple(f.name for f in every if f.metadata.get("static"))
    data = tuple(f.name for f in every if f.name not in still)

    def flatten(tree: T) -> tuple[list[tuple[Any, Any]], tuple]:
        children = [(jax.tree_util.GetAttrKey(name), getattr(tree, name)) for name in data]
        return children, tuple(getattr(tree, name) for name in still)

    def unflatten(values: tuple, children: Any) -> T:
        tree = object.__new__(cls)
        for name, value in zip((*still, *data), (*values, *children), strict=True):
            object.__setattr__(tree, name, value)
        return tree

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)
    return cls
