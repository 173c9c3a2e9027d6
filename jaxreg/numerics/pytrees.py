"""Frozen dataclasses that are pytrees."""

from __future__ import annotations

import copy
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform

import jax

T = TypeVar("T")


def tangent(like: T, **changes: Any) -> T:
    """A tangent of a pytree, 0 except in the given fields; its leaves may have other dtypes."""
    tree = copy.copy(jax.tree.map(jax.custom_derivatives.zero_from_primal, like))
    for name, value in changes.items():
        object.__setattr__(tree, name, value)
    return tree


def static(*, default: Any = MISSING) -> Any:
    """A hashable field that is part of the structure of the pytree, not one of its leaves."""
    return field(default=default, metadata={"static": True})


@dataclass_transform(frozen_default=True, field_specifiers=(field, static))
def pytree(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass and a pytree whose children are its fields, except the static ones.

    Unlike `jax.tree_util.register_dataclass`, unflattening skips `__init__`: leaves may be any objects, and
    the type checks of an instance must not see them.
    """
    dataclass(frozen=True)(cls)
    all_fields = fields(cls)  # pyright: ignore[reportArgumentType]
    static_names = tuple(f.name for f in all_fields if f.metadata.get("static"))
    child_names = tuple(f.name for f in all_fields if f.name not in static_names)

    def flatten(tree: T) -> tuple[list[tuple[Any, Any]], tuple]:
        children = [(jax.tree_util.GetAttrKey(name), getattr(tree, name)) for name in child_names]
        return children, tuple(getattr(tree, name) for name in static_names)

    def unflatten(static_values: tuple, children: Any) -> T:
        tree = object.__new__(cls)
        for name, value in zip((*static_names, *child_names), (*static_values, *children), strict=True):
            object.__setattr__(tree, name, value)
        return tree

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)
    return cls
