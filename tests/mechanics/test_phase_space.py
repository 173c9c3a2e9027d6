"""Energy along the flow, with and without friction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from jaxreg import exact_flow, leapfrog, mean_squared_error, moments, momentum


def double_well(q, depth):
    return depth * (q[0] ** 2 - 1) ** 2 + (q[1] - 0.3 * q[0]) ** 2


@pytest.fixture
def line(rng):
    return rng.uniform(-1, 1, 30), rng.normal(size=30)


def test_the_flow_loses_cost_as_fast_as_the_momentum_squared(line):
    """dS/dt = −|∇S|², by central differences in t."""
    x, y = line
    flow, times, h = exact_flow(moments(x, y)), np.array([0.1, 0.5, 2.0]), 1e-4
    later, earlier = (flow.trajectory(np.array([2.0, -1.0]), times + d).cost for d in (h, -h))
    path = flow.trajectory(np.array([2.0, -1.0]), times)
    p = np.stack([momentum(mean_squared_error, theta, x, y) for theta in path.params])
    np.testing.assert_allclose((later - earlier) / (2 * h), -np.sum(p**2, axis=1), rtol=1e-6)
    np.testing.assert_allclose(path.power, -np.sum(p**2, axis=1), rtol=1e-12)


def test_friction_dissipates_energy(line):
    """d(½|θ̇|² + S)/dt = −γ|θ̇|²."""
    x, y = line
    flow, times, h = exact_flow(moments(x, y)), np.array([0.1, 0.5, 2.0]), 1e-4
    for gamma in (0.0, 0.4, 4.0):
        later, earlier = (flow.oscillation(np.zeros(2), times + d, gamma).energy for d in (h, -h))
        velocity = flow.oscillation(np.zeros(2), times, gamma).velocity
        lost = -gamma * np.sum(np.square(velocity), axis=1)
        np.testing.assert_allclose((later - earlier) / (2 * h), lost, rtol=1e-5, atol=1e-9)


def test_leapfrog_conserves_the_energy_to_its_order():
    """Halving the step quarters the oscillation of ½|θ̇|² + S, and it does not grow with time."""
    start, velocity = np.array([0.4, 0.0]), np.array([0.0, 0.5])

    def oscillation(h, until):
        path = leapfrog(double_well, start, 1.0, time_step=h, steps=round(until / h), velocity=velocity)
        energy = np.asarray(path.energy)
        return np.abs(energy - energy[0]).max()

    oscillations = [oscillation(h, 20) for h in (0.08, 0.04, 0.02, 0.01)]
    assert oscillations[0] < 0.02
    np.testing.assert_allclose(np.divide(oscillations[:-1], oscillations[1:]), 4, rtol=0.1)
    assert oscillation(0.04, 2000) < 1.5 * oscillations[1]


@pytest.mark.slow_in("float64")
def test_leapfrog_solves_newtons_equation(dtype):
    start, velocity = np.array([0.4, 0.0], dtype), np.array([0.0, 0.5], dtype)
    path = leapfrog(double_well, start, dtype.type(1), time_step=0.001, steps=3000, velocity=velocity)

    def newton(t, state):
        q, v = state[:2], state[2:]
        pull = 2 * (q[1] - 0.3 * q[0])
        return [*v, -4 * q[0] * (q[0] ** 2 - 1) + 0.3 * pull, -pull]

    state = np.concatenate([start, velocity]).astype("f8")
    end = scipy.integrate.solve_ivp(newton, (0, 3), state, "DOP853", rtol=1e-11, atol=1e-11).y[:, -1]
    result = np.concatenate([path.params[-1], path.velocity[-1]])
    np.testing.assert_allclose(result, end, rtol=0, atol=2e-5)
    assert path.times[-1] == pytest.approx(3)
    assert path.params.dtype == dtype
    assert path.params.shape == (3001, 2)


@pytest.mark.slow_in("float64")
def test_leapfrog_is_reversible(dtype):
    """With the velocity reversed it returns to the start."""
    start = np.array([0.4, 0.1], dtype)
    forward = leapfrog(double_well, start, dtype.type(1), time_step=0.01, steps=500)
    backward = leapfrog(
        double_well,
        np.asarray(forward.params)[-1],
        dtype.type(1),
        time_step=0.01,
        steps=500,
        velocity=-np.asarray(forward.velocity)[-1],
    )
    np.testing.assert_allclose(backward.params[-1], start, rtol=0, atol=5e4 * np.finfo(dtype).eps)


def test_leapfrog_under_vmap():
    starts = jnp.array([[0.4, 0.0], [1.5, -1.0], [-0.2, 0.3]])
    many = jax.vmap(lambda q: leapfrog(double_well, q, 1.0, time_step=0.02, steps=40).params)(starts)
    for start, path in zip(starts, many, strict=True):
        expected = leapfrog(double_well, start, 1.0, time_step=0.02, steps=40).params
        np.testing.assert_allclose(path, expected, rtol=0, atol=1e-5)


def test_a_negative_number_of_steps_is_an_error():
    with pytest.raises(ValueError, match="steps must be a non-negative integer, got -1"):
        leapfrog(double_well, jnp.zeros(2), 1.0, time_step=0.1, steps=-1)


def test_a_cost_of_many_numbers_is_an_error():
    with pytest.raises(ValueError, match=r"a cost returns one number, .* got shape \(2,\)"):
        leapfrog(jnp.square, jnp.zeros(2), time_step=0.1, steps=3)


def test_integer_params_are_converted_to_floats():
    path = leapfrog(double_well, [1, 0], 1.0, time_step=0.1, steps=3)
    expected = leapfrog(double_well, jnp.array([1.0, 0.0]), 1.0, time_step=0.1, steps=3)
    np.testing.assert_array_equal(path.params, expected.params)
