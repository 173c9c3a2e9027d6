"""Short texts for results whose arrays may be large."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

MAX_NUMBERS = 6  # of an array that is printed in full
WIDTH = 100


def short_repr(tree: Any, **texts: Callable[[np.ndarray], str]) -> str:
    """The name of a dataclass that is a pytree, and of each of its arrays the values or the shape and range.

    Args:
        tree: the dataclass; its leaves may be traced, abstract or anything else.
        texts: functions for the values of certain leaves, by their names.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda leaf: leaf is None)
    named = [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]
    text = ", ".join(f"{name} {_text(leaf, texts.get(name, _summary))}" for name, leaf in named)
    return textwrap.fill(
        f"{type(tree).__name__}: {text}",
        WIDTH,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _text(leaf: Any, of_values: Callable[[np.ndarray], str]) -> str:
    if leaf is None:
        return "None"
    if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
        return f"{leaf:.4g}" if isinstance(leaf, float) else textwrap.shorten(repr(leaf), 40)
    return of_values(np.asarray(leaf)) if _has_numbers(leaf) else f"{leaf.shape} {leaf.dtype}"


def _has_numbers(leaf: Any) -> bool:
    if isinstance(leaf, Tracer) or not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        return False
    if isinstance(leaf, jax.Array) and (leaf.is_deleted() or not leaf.is_fully_addressable):
        return False
    return jnp.issubdtype(leaf.dtype, jnp.number)


def _summary(a: np.ndarray) -> str:
    if a.ndim == 0:
        return _number(a[()])
    if a.ndim == 1 and 0 < a.size <= MAX_NUMBERS:
        return f"[{' '.join(map(_number, a))}]"
    finite = a[np.isfinite(a)]
    if not finite.size:
        return f"{a.shape} all NaN or infinite" if a.size else f"{a.shape}"
    is_complex = np.iscomplexobj(finite)
    size = np.abs(finite) if is_complex else finite
    limits = f"{_number(size.min())} to {_number(size.max())}"
    missing = f" ({a.size - finite.size} of {a.size} NaN or infinite)" if finite.size < a.size else ""
    return f"{a.shape} {'of modulus' if is_complex else 'from'} {limits}{missing}"


def _number(a: Any) -> str:
    if jnp.issubdtype(a.dtype, jnp.integer):
        return f"{int(a)}"
    return f"{complex(a) if jnp.issubdtype(a.dtype, jnp.complexfloating) else float(a):.4g}"
