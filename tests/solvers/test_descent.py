import inspect
import warnings

import jax
import jax.numpy as jnp
import jaxtyping
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


def rising_rate(x, factor=1.05):
    """A learning rate beyond 2/λmax of ∇²S by a factor."""
    design = np.stack([np.ones_like(x), x], axis=1).astype("f8")
    return factor * 2 / np.linalg.eigvalsh(2 * design.T @ design / len(x))[-1]


@pytest.mark.parametrize("tol", [None, 1e-9])
def test_a_cost_above_that_at_the_start_is_not_ok(data, dtype, tol):
    """Beyond the largest learning rate the params stay finite for a while."""
    x, y = data
    descent = descend(
        mean_squared_error, START.astype(dtype), x, y, optimizer=optax.sgd(rising_rate(x)), steps=60, tol=tol
    )
    assert descent.status == Status.cost_increased
    assert not descent.converged
    assert np.isfinite(descent.params).all()
    assert descent.cost > mean_squared_error(START, x, y)


def test_a_gradient_below_the_tolerance_is_ok_at_any_cost():
    """One long step from the lower of two minima to the upper one."""

    def wells(q):
        return (q**2 - 1) ** 2 + 0.1 * q

    upper = descend(wells, 1.0, optimizer=optax.sgd(0.1), steps=300).params
    step = optax.sgd(float((-1.1 - upper) / jax.grad(wells)(-1.1)))
    assert descend(wells, -1.1, optimizer=step, steps=1, tol=1e-3).status == Status.ok
    assert descend(wells, -1.1, optimizer=step, steps=1, tol=1e-30).status == Status.cost_increased


def test_a_cost_that_rises_in_between_is_ok(data):
    """Adam overshoots, and its last steps circle the minimum."""
    x, y = data
    descent = descend(
        mean_squared_error, START.astype(x.dtype), x, y, optimizer=optax.adam(0.5), history=True
    )
    assert (np.diff(descent.history.cost) > 0).any()
    assert descent.status == Status.ok


def test_a_start_at_the_minimum_is_ok(data):
    x, y = data
    best = minimum(x, y).astype(x.dtype)
    for offset in np.linspace(-3, 3, 7, dtype=x.dtype) * np.finfo(x.dtype).eps:
        assert descend(mean_squared_error, best + offset, x, y, optimizer=SGD, steps=20).converged


@pytest.mark.slow
@pytest.mark.slow_in("float64")
def test_fits_with_a_tolerance_report_a_risen_cost(rng, dtype):
    """The same status eagerly and within jit, where other loops run."""
    x = rng.normal(size=20).astype(dtype)
    y = (2 * x[:, None] + rng.normal(size=(20, 3)) ** 3).astype(dtype)
    solver = GradientDescent(learning_rate=20.0, steps=10, tol=1e-9)

    def run(x, y):
        return fit(x, y, cost=smooth_absolute_error, solver=solver)

    with jax.enable_x64(bool(dtype == np.float64)):
        for result in (run(x, y), jax.jit(run)(x, y)):
            assert (np.asarray(result.status) == Status.cost_increased).all()
            assert np.isfinite(result.params).all()


def smooth_absolute_error(params, x, y, weights=None, *, ansatz):
    return jnp.mean(jnp.sqrt(1e-4 + (y - ansatz.predict(params, x)) ** 2))


def test_the_history_of_a_divergence_keeps_its_numbers(data):
    x, y = data
    descent = descend(
        mean_squared_error, START.astype(x.dtype), x, y, optimizer=optax.sgd(10.0), steps=1000, history=True
    )
    assert descent.status == Status.diverged
    assert np.isnan(descent.params).all()
    assert np.isfinite(descent.history.params[10]).all()
    assert not np.isfinite(descent.history.cost[-1])


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [(0.01, r"such as optax.sgd\(0.01\), got 0.01"), (optax.adam, "got the function adam itself: call it")],
)
def test_a_rate_or_a_function_in_place_of_an_optimizer_is_an_error(data, monkeypatch, optimizer, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # its check of the types comes first
    with pytest.raises(TypeError, match=message):
        descend(mean_squared_error, START, *data, optimizer=optimizer)


def test_integer_params_are_converted_to_floats(data, dtype, tol):
    def S(theta, x, y):
        return jnp.mean((y - theta["a"] - theta["b"] * x) ** 2)

    x, y = data
    descent = descend(S, {"a": 0, "b": np.array(2)}, x, y, optimizer=SGD)
    np.testing.assert_allclose([descent.params["a"], descent.params["b"]], minimum(x, y), rtol=tol)
    default = np.float64 if jax.config.read("jax_enable_x64") else dtype  # as JAX converts integers
    assert descent.params["a"].dtype == default


@pytest.mark.parametrize(
    ("params", "message"),
    [("ab", "params are numbers; got a str"), (np.ones(2, complex), "params are real numbers; got complex")],
)
def test_params_that_are_not_real_numbers_are_an_error(data, params, message):
    with pytest.raises(TypeError, match=message):
        descend(mean_squared_error, params, *data)


def test_a_cost_of_many_numbers_is_an_error(data):
    x, y = data
    with pytest.raises(ValueError, match=r"a cost returns one number, .* got shape \(20,\)"):
        descend(lambda theta, x, y: (y - theta * x) ** 2, 1.0, x, y)
    with pytest.raises(ValueError, match="got a tuple"):
        descend(lambda theta, x, y: (jnp.sum(x * theta), y), 1.0, x, y)


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


QUICK = ("sgd", "adam", "adamw", "lion", "rmsprop")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in OPTIMIZERS]
)
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


@pytest.mark.slow_in("float64")
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
