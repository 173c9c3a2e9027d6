"""The fit as a layer of a larger model, in the ways that models are built."""

import os
import subprocess
import sys
from functools import partial

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import ClosedForm, GradientDescent, Line, Linear, fit


@pytest.fixture
def curves(rng):
    """20 curves y = sin(3x) + noise, float32."""
    x = jnp.linspace(-1, 1, 40, dtype="f4")
    return x, jnp.sin(3 * x)[:, None] + jnp.asarray(rng.normal(0, 0.05, size=(40, 20)), "f4")


def unexplained(features, y):
    """Mean cost of the regression of y on features, differentiable in both."""
    return fit(features, y, ansatz=Linear()).cost.mean()


def hidden(weights, x):
    return jnp.tanh(x[:, None] * weights["slope"] + weights["bias"])


@pytest.mark.slow
def test_a_training_loop_of_optax_learns_features_for_the_fit(curves):
    x, y = curves
    weights = {"slope": jnp.array([1.0, -1.5, 0.5], "f4"), "bias": jnp.array([0.0, 0.5, -0.5], "f4")}
    optimizer = optax.adam(0.05)
    traces = []

    @jax.jit
    def step(weights, memory, x, y):
        traces.append(1)
        loss, gradient = jax.value_and_grad(lambda w: unexplained(hidden(w, x), y))(weights)
        updates, memory = optimizer.update(gradient, memory)
        return optax.apply_updates(weights, updates), memory, loss

    memory, losses = optimizer.init(weights), []
    for _ in range(40):
        weights, memory, loss = step(weights, memory, x, y)
        losses.append(float(loss))
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] / 2
    assert len(traces) == 1


def test_new_data_of_one_shape_trace_a_users_function_once(curves):
    x, y = curves
    traces = []

    @jax.jit
    def slope(x, y):
        traces.append(1)
        return fit(x, y).params[1]

    for k in range(4):
        slope(x + k, y * k)
    slope(x, y.at[3].set(jnp.nan))
    assert len(traces) == 1


@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
@pytest.mark.slow
def test_donated_arguments(curves):
    x, y = curves
    expected = fit(x, y).params
    residuals = jax.jit(lambda x, y: y - fit(x, y).predict(x), donate_argnums=1)
    np.testing.assert_allclose(
        residuals(x, y.copy()).std(axis=0),
        (y - expected[0] - expected[1] * x[:, None]).std(axis=0),
        rtol=1e-4,
    )


class Trend(eqx.Module):
    """An Equinox module: y without its trend, with a learned unit of x."""

    scale: jax.Array
    ansatz: Line = eqx.field(static=True, default=Line())

    def __call__(self, x, y):
        return y - fit(jnp.tanh(self.scale * x), y, ansatz=self.ansatz).predict(jnp.tanh(self.scale * x))


def test_an_equinox_module(curves):
    x, y = curves

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def loss(model, x, y):
        return jnp.mean(model(x, y) ** 2)

    value, gradient = loss(Trend(jnp.float32(1.0)), x, y)
    moved, _ = loss(Trend(jnp.float32(1.0) - 0.1 * gradient.scale), x, y)
    assert np.isfinite(gradient.scale)
    assert gradient.scale != 0
    assert moved < value


class Head(nn.Module):
    """A Flax module whose last layer is a least-squares fit."""

    @nn.compact
    def __call__(self, x, y):
        features = nn.tanh(nn.Dense(4)(x[:, None]))
        return fit(features, y, ansatz=Linear()).predict(features)


@pytest.mark.slow
def test_a_flax_module(curves):
    x, y = curves
    model = Head()
    variables = model.init(jax.random.key(0), x, y)

    @jax.jit
    def loss(variables):
        return jnp.mean((model.apply(variables, x, y) - y) ** 2)

    value, gradient = jax.value_and_grad(loss)(variables)
    moved = loss(jax.tree.map(lambda w, g: w - 0.01 * g, variables, gradient))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
    assert moved < value


@pytest.mark.parametrize(
    "solver", [ClosedForm(), ClosedForm(precision="certified"), GradientDescent(steps=50)]
)
@pytest.mark.slow
def test_debug_nans_is_silent_on_healthy_data(rng, dtype, solver):
    x, y = rng.normal(size=20).astype(dtype), rng.normal(size=(20, 3)).astype(dtype)
    with jax.debug_nans(True):
        fit(x, y, solver=solver)
        with jax.enable_x64(dtype == np.float64):
            gradient = jax.grad(lambda y: fit(x, y, solver=solver).params.sum())(y)
    assert np.isfinite(gradient).all()


def test_vmap_over_an_axis_of_the_users(curves):
    x, y = curves
    mapped = jax.vmap(lambda y: fit(x, y, solver=ClosedForm(precision="fast")).params, in_axes=1, out_axes=1)(
        y
    )
    np.testing.assert_allclose(mapped, fit(x, y).params, rtol=1e-6)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from functools import partial
from jax.sharding import PartitionSpec as P
from jaxreg import fit
assert jax.device_count() == 4
x = jnp.linspace(0, 1, 30, dtype="f4")
y = jnp.asarray(np.random.default_rng(0).normal(size=(30, 64)), "f4").at[3, 5].set(jnp.nan)
mesh = jax.make_mesh((4,), ("sets",), axis_types=(jax.sharding.AxisType.Auto,))
spread = jax.jit(jax.shard_map(
    lambda x, y: fit(x, y).params, mesh=mesh, in_specs=(P(), P(None, "sets")), out_specs=P(None, "sets"),
))
np.testing.assert_array_equal(np.asarray(spread(x, y)), np.asarray(fit(x, y).params))
gradient = jax.grad(lambda y: spread(x, y).sum())(y)
np.testing.assert_allclose(gradient, jax.grad(lambda y: fit(x, y).params.sum())(y), rtol=1e-5, atol=1e-7)
"""


def run_alone(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("wide", ["0", "1"])
def test_shard_map_over_devices(wide):
    run_alone(
        SHARDED,
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
        JAX_ENABLE_X64=wide,
        JAX_PLATFORMS="cpu",
    )


def test_importing_and_fitting_change_no_setting_of_jax():
    run_alone(
        "import jax, numpy as np\n"
        "before = dict(jax.config.values)\n"
        "import jaxreg\n"
        "jaxreg.fit(np.arange(5.0), np.arange(5.0) ** 2)\n"
        "assert dict(jax.config.values) == before\n"
    )


def test_a_fit_passes_through_jit_scan_and_tree_map(curves):
    x, y = curves
    found = fit(x, y)
    again = jax.jit(lambda f: jax.tree.map(lambda a: a, f))(found)
    np.testing.assert_array_equal(again.params, found.params)
    assert again.ansatz == found.ansatz

    @partial(jax.jit, static_argnums=0)
    def rolling(window, x, y):
        starts = jnp.arange(0, 40 - window, 5)

        def one(_, start):
            cut = partial(jax.lax.dynamic_slice_in_dim, start_index=start, slice_size=window)
            return None, fit(cut(x), cut(y)).params[1]

        return jax.lax.scan(one, None, starts)[1]

    np.testing.assert_allclose(rolling(10, x, y)[1], fit(x[5:15], y[5:15]).params[1], rtol=1e-5)
