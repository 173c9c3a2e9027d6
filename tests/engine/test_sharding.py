"""Data sets on several devices stay where they lie: what is compiled holds no collective operation."""

import os
import subprocess
import sys

import jax
import pytest

IMPORTS = """
import re
from functools import partial
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from jaxreg import (
    ClosedForm, GradientDescent, Linear, Logistic, Polynomial, Quantile, Ridge, Stream, exponential_decay, fit
)

COLLECTIVE = re.compile("all-gather|all-reduce|all-to-all|collective-[a-z]+|reduce-scatter")
rng = np.random.default_rng(0)
x, X = np.linspace(0, 1, 30, dtype="f4"), rng.normal(size=(30, 3)).astype("f4")
y = rng.normal(size=(30, 4, 6)).astype("f4")
y[3, 1, 2] = np.nan


def certified(y):
    return fit(x, y, solver=ClosedForm(precision="certified")).params


def of_a_function(y, solver=None):
    def smooth(params, x, y, weights=None, *, ansatz):
        return jnp.mean(jnp.sqrt(1 + (y - ansatz.predict(params, x)) ** 2))

    return fit(x, jnp.nan_to_num(y), cost=smooth, solver=solver).params


def of_classes(y):
    found = fit(X, jnp.where(y > 0, 1.0, 0.0), ansatz=Linear(), cost=Logistic() + Ridge(1.0))
    return jax.tree.leaves(found)


def of_a_curve(y):
    decays = 3 * jnp.exp(-3 * jnp.asarray(x))[:, None, None] + y / 50
    return fit(x, decays, ansatz=exponential_decay).params


def of_a_ridge(y):
    return fit(X, y, ansatz=Linear(), cost=Ridge.choose([0.1, 1.0, 10.0])).params


def of_a_quantile(y):
    return fit(x, y, cost=Quantile(0.3)).bse


def of_a_stream(y):
    return Stream().update(x[:20], y[:20]).update(x[20:], y[20:]).downdate(x[:1], y[:1]).fit().params


def mesh_of(kind):
    return jax.make_mesh((2, 2), ("a", "b"), axis_types=(kind, kind))


def stays(function, y, spec):
    compiled = jax.jit(function).lower(y).compile()
    assert not COLLECTIVE.findall(compiled.as_text()), COLLECTIVE.findall(compiled.as_text())
    for found, want in zip(jax.tree.leaves(compiled(y)), jax.tree.leaves(jax.jit(function)(np.asarray(y)))):
        want = np.asarray(want)
        batch = tuple(spec)[1:]
        own = NamedSharding(y.sharding.mesh, P(*(None,) * (want.ndim - len(batch)), *batch))
        assert found.sharding.is_equivalent_to(own, want.ndim), (found.sharding, own)
        np.testing.assert_allclose(np.asarray(found), want, rtol=2e-5, atol=1e-6)
"""

MESH = """
def named(y):
    found = fit(x, y)
    return found.params, found.bse, found.nobs, found.status, found.pvalues, found.rsquared


mesh = mesh_of(AxisType.{kind})
spec = P(None, "a", "b")
at = jax.device_put(y, NamedSharding(mesh, spec))
jax.set_mesh(mesh)
"""

RESULTS = """
stays(named, at, spec)
gradient = jax.jit(jax.grad(lambda y: fit(x, y).params.sum()))
sums = gradient.lower(at).compile()
assert not COLLECTIVE.findall(sums.as_text())
np.testing.assert_allclose(sums(at), gradient(y), rtol=1e-4, atol=1e-6)
want = fit(x, y)
total = jax.jit(lambda y: fit(x, y).ssr.sum()).lower(at).compile()
assert set(COLLECTIVE.findall(total.as_text())) == {"all-reduce"}  # the sum over data sets alone
np.testing.assert_allclose(total(at), want.ssr.sum(), rtol=1e-5)
eager = fit(jnp.asarray(x), at)
np.testing.assert_allclose(eager.params, want.params, rtol=1e-5, atol=1e-6)
"""

OTHERS = """
def of_other_kinds(y):
    return (
        fit(x, y).conf_int(),
        fit(y, 2 * y + y**2).params,
        fit(X, y, ansatz=Linear()).bse,
        fit(x, y, cov_type="HC3").bse,
        fit(x, y, ansatz=Polynomial(2), weights=jnp.abs(y)).params,
        fit(x, y, solver=GradientDescent(steps=20)).params,
    )


stays(of_other_kinds, at, spec)
for other in (P(None, None, ("a",)), P(None, ("a", "b"), None)):
    stays(named, jax.device_put(y, NamedSharding(mesh, other)), other)
"""

STREAMS = """
stays(of_a_stream, at, spec)
spread = jax.jit(jax.shard_map(of_a_stream, mesh=mesh, in_specs=spec, out_specs=spec))
np.testing.assert_allclose(spread(at), fit(x[1:], y[1:]).params, rtol=1e-5, atol=1e-6)
"""

# Of loops that go on as long as one data set does, and of a Hessian.
LOOPS = """
def gradient(function):
    return jax.grad(lambda y: function(y).sum())


descended = partial(of_a_function, solver=GradientDescent(steps=50))
for function in ({functions}):
    results, wants = jax.jit(function)(at), jax.jit(function)(y)
    for found, want in zip(jax.tree.leaves(results), jax.tree.leaves(wants)):
        if want.shape[-2:] == y.shape[-2:]:
            assert tuple(found.sharding.spec)[-2:] == ("a", "b"), found.sharding
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)
"""
FIRST = "certified, gradient(descended), gradient(of_a_ridge)"
SECOND = "of_a_curve, gradient(of_a_function), gradient(of_a_quantile), of_classes"

SHARD_MAP = """
want = fit(x, y).params
gradient = jax.jit(jax.grad(lambda y: fit(x, y).params.sum()))(y)
one = jax.make_mesh((4,), ("a",), axis_types=(AxisType.Auto,))
two = mesh_of(AxisType.Auto)
for mesh, axes in {meshes}:
    spread = jax.shard_map(
        lambda x, y: fit(x, y).params, mesh=mesh, in_specs=(P(), P(None, *axes)), out_specs=P(None, *axes),
        axis_names={{name for name in axes if name}},
    )
    value, pulled = jax.jit(lambda y: (spread(x, y), jax.grad(lambda y: spread(x, y).sum())(y)))(y)
    np.testing.assert_allclose(value, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pulled, gradient, rtol=1e-4, atol=1e-6)
"""

VMAP = """
mapped = jax.jit(jax.vmap(lambda y: fit(x, y).params, in_axes=2, out_axes=-1))
at = jax.device_put(y, NamedSharding(two, P(None, "a", "b")))
compiled = mapped.lower(at).compile()
assert not COLLECTIVE.findall(compiled.as_text())
np.testing.assert_allclose(compiled(at), want, rtol=1e-5, atol=1e-6)
"""

CERTIFIED = """
spread = jax.jit(jax.shard_map(
    certified, mesh=two, in_specs=P(None, "a", "b"), out_specs=P(None, "a", "b"),
))
np.testing.assert_allclose(spread(y), want, rtol=1e-6, atol=1e-7)
"""

EXPORT = """
from jax import export
mesh = mesh_of(AxisType.Auto)
sharding = NamedSharding(mesh, P(None, "a", "b"))
program = jax.jit(lambda y: fit(x, y).params, in_shardings=sharding, out_shardings=sharding)
stored = export.export(program)(jax.ShapeDtypeStruct(y.shape, "f4"))
at = jax.device_put(y, sharding)
np.testing.assert_allclose(jax.jit(stored.call)(at), want, rtol=1e-5, atol=1e-6)
"""

BOTH = '[(two, ("a", "b"))]'
SOME = '[(one, ("a", None)), (two, ("a", None))]'
SLOW = pytest.mark.slow
PROGRAMS = {
    "mesh with Auto axes": (MESH.format(kind="Auto") + RESULTS, ()),
    "mesh with Explicit axes": (MESH.format(kind="Explicit") + RESULTS, SLOW),
    "other fits on a mesh with Auto axes": (MESH.format(kind="Auto") + OTHERS, SLOW),
    "other fits on a mesh with Explicit axes": (MESH.format(kind="Explicit") + OTHERS, SLOW),
    "a stream on a mesh with Auto axes": (MESH.format(kind="Auto") + STREAMS, SLOW),
    "a stream on a mesh with Explicit axes": (MESH.format(kind="Explicit") + STREAMS, SLOW),
    "loops on a mesh with Auto axes": (MESH.format(kind="Auto") + LOOPS.format(functions=FIRST), SLOW),
    "loops on a mesh with Explicit axes": (
        MESH.format(kind="Explicit") + LOOPS.format(functions=FIRST),
        SLOW,
    ),
    "costs on a mesh with Explicit axes": (
        MESH.format(kind="Explicit") + LOOPS.format(functions=SECOND),
        SLOW,
    ),
    "shard_map, vmap, export": (SHARD_MAP.format(meshes=BOTH) + VMAP + EXPORT, ()),
    "shard_map over some axes, certified": (SHARD_MAP.format(meshes=SOME) + CERTIFIED, SLOW),
}


@pytest.mark.parametrize(
    "program", [pytest.param(text, id=name, marks=marks) for name, (text, marks) in PROGRAMS.items()]
)
def test_on_four_devices(program):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS + program],
        capture_output=True,
        text=True,
        env=os.environ
        | {
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_X64": "0",
            "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        },
        check=False,
    )
    assert done.returncode == 0, done.stderr
