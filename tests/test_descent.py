import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import GradientDescent, Status, descend, fit, mean_squared_error

ALPHA, STEPS = 0.1, 200
SGD = optax.sgd(ALPHA)
ADAM = optax.adam(optax.cosine_decay_schedule(0.05, 3000))  # with a constant rate it circles the minimum
START = np.array([-1.0, 2.0])


@pytest.fixture
def data(rng, dtype):
    x = rng.normal(size=20).astype(dtype)
    return x, (1 + 2 * x + 0.5 * rng.normal(size=20)).astype(dtype)


def minimum(x, y):
    return np.polyfit(x.astype("f8"), y.astype("f8"), 1)[::-1]


def test_every_step_is_that_of_equation_16(data, dtype):
    """Equation 16, θ ← θ − α∇S: on S = θᵀAθ − 2bᵀθ + … it is θ_k = θ* + (1 − 2αA)^k (θ₀ − θ*)."""
    x, y = data
    descent = descend(mean_squared_error, START.astype(dtype), x, y, optimizer=SGD, steps=STEPS, history=True)
    design = np.stack([np.ones(20), x.astype("f8")], axis=1)
    best = minimum(x, y)
    step = np.eye(2) - 2 * ALPHA * design.T @ design / 20
    expected = [best + np.linalg.matrix_power(step, k) @ (START - best) for k in range(STEPS + 1)]
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(descent.history.params, expected, atol=40 * eps)
    costs = ((y[:, None] - design @ np.transpose(expected)) ** 2).mean(axis=0)
    np.testing.assert_allclose(descent.history.cost, costs, rtol=100 * eps)
    np.testing.assert_array_equal(descent.history.params[-1], descent.params)
    assert descent.params.dtype == dtype
    assert int(descent.steps) == STEPS


@pytest.mark.parametrize(
    "optimizer",
    [SGD, ADAM, optax.sgd(0.02, momentum=0.9)],
    ids=["sgd", "adam", "momentum"],
)
def test_any_optimizer_reaches_the_minimum(data, tol, optimizer):
    x, y = data
    descent = descend(mean_squared_error, START.astype(x.dtype), x, y, optimizer=optimizer, steps=3000)
    rtol = 1e-4 if optimizer is ADAM else tol
    np.testing.assert_allclose(descent.params, minimum(x, y), rtol=rtol)
    assert bool(descent.converged)


def test_jit_vmap_and_grad(rng):
    x = rng.normal(size=20).astype("f4")
    y = rng.normal(size=(20, 3)).astype("f4")
    start = np.zeros(2, "f4")

    def end(y):
        return descend(mean_squared_error, start, x, y, optimizer=SGD, steps=STEPS).params

    expected = np.polyfit(x, y, 1)[::-1]
    np.testing.assert_allclose(jax.jit(end)(y[:, 0]), expected[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(end, 1, 1)(y), expected, rtol=1e-4, atol=1e-5)
    slope_gradient = jax.grad(lambda y: end(y)[1])(jnp.asarray(y[:, 0]))
    expected = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    np.testing.assert_allclose(slope_gradient, expected, rtol=1e-4, atol=1e-5)


def test_params_may_be_a_pytree(data, tol):
    def S(theta, x, y):
        return jnp.mean((y - theta["a"] - theta["b"] * x) ** 2)

    x, y = data
    start = {"a": np.zeros((), x.dtype), "b": np.zeros((), x.dtype)}
    descent = descend(S, start, x, y, optimizer=SGD).params
    np.testing.assert_allclose([descent["a"], descent["b"]], minimum(x, y), rtol=tol)


def test_params_freeze_at_the_tolerance(data, dtype):
    x, y = data
    descent = descend(
        mean_squared_error,
        START.astype(dtype),
        x,
        y,
        optimizer=SGD,
        steps=STEPS,
        tol=0.01,
        history=True,
    )
    steps = int(descent.steps)
    e = y - descent.history.params @ np.stack([np.ones_like(x), x])
    norm = 2 * np.hypot(e.mean(axis=1), (x * e).mean(axis=1))
    assert 0 < steps < STEPS
    assert norm[steps] <= 0.01 < norm[steps - 1]
    assert np.all(np.asarray(descent.history.params)[steps:] == np.asarray(descent.params))
    assert float(descent.gradient_norm) == pytest.approx(norm[steps], rel=1e-4)
    assert descent.status == Status.ok


@pytest.mark.parametrize(
    ("alpha", "tol", "status"),
    [
        (ALPHA, None, Status.ok),
        (ALPHA, 1e-9, Status.not_converged),
        (10.0, None, Status.diverged),
        (10.0, 1e-9, Status.diverged),
    ],
)
def test_status(data, dtype, alpha, tol, status):
    steps = 20 if status != Status.diverged else 1000
    descent = descend(
        mean_squared_error,
        START.astype(dtype),
        *data,
        optimizer=optax.sgd(alpha),
        steps=steps,
        tol=tol,
    )
    assert descent.status == status
    assert bool(descent.converged) == (status == Status.ok)
    assert np.isnan(descent.params).all() == (status == Status.diverged)


def test_zero_steps_return_the_start(data):
    start = START.astype(data[0].dtype)
    descent = descend(mean_squared_error, start, *data, steps=0)
    np.testing.assert_array_equal(descent.params, start)
    assert descent.history is None


def test_new_data_do_not_recompile(rng):
    traces = []

    def S(theta, x, y):
        traces.append(1)
        return jnp.mean((y - theta * x) ** 2)

    x, y = rng.normal(size=(2, 10)).astype("f4")
    descend(S, jnp.float32(0), x, y)
    once = len(traces)
    assert once > 0
    descend(S, jnp.float32(1), 2 * x, y - 1)
    assert len(traces) == once


def test_a_negative_number_of_steps_is_an_error():
    with pytest.raises(ValueError, match=r"steps.*-1"):
        descend(jnp.sum, jnp.zeros(2), steps=-1)


def test_the_64_bit_switch_is_unchanged(data):
    before = jax.config.read("jax_enable_x64")
    descend(mean_squared_error, np.zeros(2), *(a.astype("f8") for a in data), optimizer=SGD)
    assert jax.config.read("jax_enable_x64") == before


def _optimizers():
    """Every optimizer of optax that needs no argument, or only a learning rate."""
    for name in dir(optax):
        make = getattr(optax, name)
        if not inspect.isfunction(make):
            continue
        parameters = inspect.signature(make).parameters.values()
        required = [a.name for a in parameters if a.default is a.empty]
        if required not in ([], ["learning_rate"]) or "GradientTransformation" not in str(
            make.__annotations__
        ):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about an omitted random key
            yield name, make(*[0.05] * len(required))


OPTIMIZERS = dict(_optimizers())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_optax_runs(name):
    """Traced, not compiled: an error in the update or a change of the dtypes of the state raises here."""
    x, y = jnp.linspace(-1, 1, 8), jnp.linspace(0, 3, 8)

    def run(x, y):
        return descend(mean_squared_error, jnp.zeros(2), x, y, optimizer=OPTIMIZERS[name], steps=3, tol=1e-3)

    def fitted(x, y):
        return fit(x, y, solver=GradientDescent(OPTIMIZERS[name], steps=3)).params

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert jax.eval_shape(run, x, y).params.shape == (2,)
        assert jax.eval_shape(fitted, x, y).shape == (2,)


def test_the_list_of_optimizers_is_complete():
    assert {"sgd", "adam", "lbfgs", "polyak_sgd", "noisy_sgd", "adafactor"} < set(OPTIMIZERS)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.lbfgs(),
        optax.polyak_sgd(),
        optax.chain(optax.adam(0.3), optax.contrib.reduce_on_plateau(patience=20, accumulation_size=5)),
    ],
    ids=["lbfgs", "polyak_sgd", "reduce_on_plateau"],
)
def test_optimizers_that_evaluate_the_cost_reach_the_minimum(data, optimizer):
    x, _ = data
    descent = descend(mean_squared_error, np.zeros(2, x.dtype), x, 1 + 2 * x, optimizer=optimizer, steps=300)
    np.testing.assert_allclose(descent.params, [1, 2], atol=0.01)
