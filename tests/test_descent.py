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
ADAM = optax.adam(optax.cosine_decay_schedule(0.05, 3000))  # at one rate it circles the minimum
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
    found = descend(mean_squared_error, START.astype(dtype), x, y, optimizer=SGD, steps=STEPS, history=True)
    design = np.stack([np.ones(20), x.astype("f8")], axis=1)
    best = minimum(x, y)
    step = np.eye(2) - 2 * ALPHA * design.T @ design / 20
    expected = [best + np.linalg.matrix_power(step, k) @ (START - best) for k in range(STEPS + 1)]
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(found.history.params, expected, atol=40 * eps)
    costs = ((y[:, None] - design @ np.transpose(expected)) ** 2).mean(axis=0)
    np.testing.assert_allclose(found.history.cost, costs, rtol=100 * eps)
    np.testing.assert_array_equal(found.history.params[-1], found.params)
    assert found.params.dtype == dtype
    assert int(found.steps) == STEPS


@pytest.mark.parametrize(
    "optimizer",
    [SGD, ADAM, optax.sgd(0.02, momentum=0.9)],
    ids=["sgd", "adam", "momentum"],
)
def test_any_optimizer_reaches_the_minimum(data, tol, optimizer):
    x, y = data
    found = descend(mean_squared_error, START.astype(x.dtype), x, y, optimizer=optimizer, steps=3000)
    around = 1e-4 if optimizer is ADAM else tol
    np.testing.assert_allclose(found.params, minimum(x, y), rtol=around)
    assert bool(found.converged)


def test_it_runs_in_jit_vmap_and_grad(rng):
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
    found = descend(S, start, x, y, optimizer=SGD).params
    np.testing.assert_allclose([found["a"], found["b"]], minimum(x, y), rtol=tol)


def test_at_the_tolerance_the_params_freeze(data, dtype):
    x, y = data
    found = descend(
        mean_squared_error,
        START.astype(dtype),
        x,
        y,
        optimizer=SGD,
        steps=STEPS,
        tol=0.01,
        history=True,
    )
    taken = int(found.steps)
    e = y - found.history.params @ np.stack([np.ones_like(x), x])
    norm = 2 * np.hypot(e.mean(axis=1), (x * e).mean(axis=1))
    assert 0 < taken < STEPS
    assert norm[taken] <= 0.01 < norm[taken - 1]
    assert np.all(np.asarray(found.history.params)[taken:] == np.asarray(found.params))
    assert float(found.gradient_norm) == pytest.approx(norm[taken], rel=1e-4)
    assert found.status == Status.ok


@pytest.mark.parametrize(
    ("alpha", "tol", "status"),
    [
        (ALPHA, None, Status.ok),
        (ALPHA, 1e-9, Status.not_converged),
        (10.0, None, Status.diverged),
        (10.0, 1e-9, Status.diverged),
    ],
)
def test_the_status_says_how_it_ended(data, dtype, alpha, tol, status):
    steps = 20 if status != Status.diverged else 1000
    found = descend(
        mean_squared_error,
        START.astype(dtype),
        *data,
        optimizer=optax.sgd(alpha),
        steps=steps,
        tol=tol,
    )
    assert found.status == status
    assert bool(found.converged) == (status == Status.ok)
    assert np.isnan(found.params).all() == (status == Status.diverged)


def test_no_steps_leave_the_start(data):
    start = START.astype(data[0].dtype)
    found = descend(mean_squared_error, start, *data, steps=0)
    np.testing.assert_array_equal(found.params, start)
    assert found.history is None


def test_new_data_compile_nothing_anew(rng):
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


def test_a_number_of_steps_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"steps.*-1"):
        descend(jnp.sum, jnp.zeros(2), steps=-1)


def test_the_64_bit_switch_stays_where_it_is(data):
    before = jax.config.read("jax_enable_x64")
    descend(mean_squared_error, np.zeros(2), *(a.astype("f8") for a in data), optimizer=SGD)
    assert jax.config.read("jax_enable_x64") == before


def _optimizers():
    """Every optimizer of optax that a learning rate, or nothing, constructs."""
    for name in dir(optax):
        make = getattr(optax, name)
        if not inspect.isfunction(make):
            continue
        parameters = inspect.signature(make).parameters.values()
        needed = [a.name for a in parameters if a.default is a.empty]
        if needed not in ([], ["learning_rate"]) or "GradientTransformation" not in str(make.__annotations__):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a key that is not given
            yield name, make(*[0.05] * len(needed))


OPTIMIZERS = dict(_optimizers())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_optax_runs(name):
    """Traced, not compiled: a step that optax refuses, or whose state changes its type, is an error here."""
    x, y = jnp.linspace(-1, 1, 8), jnp.linspace(0, 3, 8)

    def run(x, y):
        return descend(mean_squared_error, jnp.zeros(2), x, y, optimizer=OPTIMIZERS[name], steps=3, tol=1e-3)

    def fitted(x, y):
        return fit(x, y, solver=GradientDescent(OPTIMIZERS[name], steps=3)).params

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert jax.eval_shape(run, x, y).params.shape == (2,)
        assert jax.eval_shape(fitted, x, y).shape == (2,)


def test_all_were_asked():
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
def test_optimizers_that_ask_for_the_cost_find_the_minimum(data, optimizer):
    x, _ = data
    found = descend(mean_squared_error, np.zeros(2, x.dtype), x, 1 + 2 * x, optimizer=optimizer, steps=300)
    np.testing.assert_allclose(found.params, [1, 2], atol=0.01)
