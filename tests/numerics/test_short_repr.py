"""Reprs stay short for any size of the arrays, and never raise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import (
    descend,
    exact_flow,
    laplace,
    leapfrog,
    mean_squared_error,
    moments,
    sample,
    stationary_phase,
)


def parabola(q):
    return q @ q / 2


def make_descent():
    y = np.linspace(0, 1, 20, dtype="f4")[:, None] * np.arange(500, dtype="f4")
    y[:, 7] = np.nan

    def of_one(y):
        return descend(
            mean_squared_error, jnp.zeros(2), np.linspace(-1, 1, 20, dtype="f4"), y, steps=9, history=True
        )

    return jax.vmap(of_one, 1, -1)(y)


def make_flow():
    flow = exact_flow(moments(np.arange(40, dtype="f4"), np.ones((40, 3), "f4")))
    return jax.tree.map(lambda a: jnp.repeat(a, 150, axis=-1), flow)


RESULTS = {
    "Descent": make_descent,
    "Flow": make_flow,
    "Trajectory": lambda: leapfrog(parabola, np.ones(2, "f4"), time_step=0.1, steps=300),
    "StationaryPhase": lambda: stationary_phase(parabola, np.zeros(2, "f4"), hbar=np.full(99, 0.1, "f4")),
    "Laplace": lambda: laplace(parabola, np.zeros(3, "f4"), temperature=1.0),
    "Samples": lambda: sample(parabola, np.ones(2, "f4"), temperature=1.0, key=jax.random.key(0), steps=300),
}


@pytest.mark.parametrize("name", RESULTS)
def test_reprs_are_short_and_never_raise(name):
    result = RESULTS[name]()
    text = repr(result)
    assert text.startswith(f"{name}: ")
    assert len(text.splitlines()) <= 5
    assert max(map(len, text.splitlines())) <= 100
    structs = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), result)
    for tree in (
        structs,
        *(jax.tree.map(lambda _, leaf=leaf: leaf, result) for leaf in (None, 1.5, "x", object())),
    ):
        assert repr(tree).startswith(f"{name}: ")
    assert repr(jax.tree.map(lambda a: a * 100, result)).startswith(f"{name}: ")
    traced = []
    jax.make_jaxpr(lambda result: traced.append(repr(result)))(result)
    assert traced == [repr(structs)]


def test_the_repr_of_descents_counts_what_became_of_them():
    text = " ".join(repr(make_descent()).split())
    assert "status 499 ok, 1 diverged," in text
    assert "params (2, 500) from 0 to " in text
    assert "(2 of 1000 NaN or infinite)" in text


def test_small_arrays_are_printed():
    gaussian = laplace(parabola, np.zeros(2, "f4"), temperature=2.0)
    assert repr(gaussian) == "Laplace: mean [0 0], covariance (2, 2) from 0 to 2, log_evidence 2.531"
    assert repr(stationary_phase(parabola, np.zeros(1, "f4"), hbar=0.5)).startswith(
        "StationaryPhase: amplitude 1.253+1.253j,"
    )
