"""The bookkeeping of energy, along the flow and without friction."""

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
    """dS/dt = −|∇S|², the derivative by a complex step of none of our own: central differences in t."""
    x, y = line
    flow, times, h = exact_flow(moments(x, y)), np.array([0.1, 0.5, 2.0]), 1e-4
    ahead, behind = (flow.trajectory(np.array([2.0, -1.0]), times + d).cost for d in (h, -h))
    path = flow.trajectory(np.array([2.0, -1.0]), times)
    p = np.stack([momentum(mean_squared_error, theta, x, y) for theta in path.params])
    np.testing.assert_allclose((ahead - behind) / (2 * h), -np.sum(p**2, axis=1), rtol=1e-6)
    np.testing.assert_allclose(path.power, -np.sum(p**2, axis=1), rtol=1e-12)


def test_friction_takes_from_the_energy_what_it_should(line):
    """d(½|θ̇|² + S)/dt = −γ|θ̇|²."""
    x, y = line
    flow, times, h = exact_flow(moments(x, y)), np.array([0.1, 0.5, 2.0]), 1e-4
    for gamma in (0.0, 0.4, 4.0):
        ahead, behind = (flow.oscillation(np.zeros(2), times + d, gamma).energy for d in (h, -h))
        velocity = flow.oscillation(np.zeros(2), times, gamma).velocity
        lost = -gamma * np.sum(np.square(velocity), axis=1)
        np.testing.assert_allclose((ahead - behind) / (2 * h), lost, rtol=1e-5, atol=1e-9)


def test_leapfrog_conserves_the_energy_to_its_order():
    """Halving the step quarters the swing of ½|θ̇|² + S, and it does not grow with time."""
    start, push = np.array([0.4, 0.0]), np.array([0.0, 0.5])

    def swing(h, until):
        path = leapfrog(double_well, start, 1.0, time_step=h, steps=round(until / h), velocity=push)
        energy = np.asarray(path.energy)
        return np.abs(energy - energy[0]).max()

    swings = [swing(h, 20) for h in (0.08, 0.04, 0.02, 0.01)]
    assert swings[0] < 0.02
    np.testing.assert_allclose(np.divide(swings[:-1], swings[1:]), 4, rtol=0.1)
    assert swing(0.04, 2000) < 1.5 * swings[1]


def test_leapfrog_goes_where_newtons_equation_leads(dtype):
    start, push = np.array([0.4, 0.0], dtype), np.array([0.0, 0.5], dtype)
    path = leapfrog(double_well, start, dtype.type(1), time_step=0.001, steps=3000, velocity=push)

    def newton(t, state):
        q, v = state[:2], state[2:]
        pull = 2 * (q[1] - 0.3 * q[0])
        return [*v, -4 * q[0] * (q[0] ** 2 - 1) + 0.3 * pull, -pull]

    state = np.concatenate([start, push]).astype("f8")
    end = scipy.integrate.solve_ivp(newton, (0, 3), state, "DOP853", rtol=1e-11, atol=1e-11).y[:, -1]
    found = np.concatenate([path.params[-1], path.velocity[-1]])
    np.testing.assert_allclose(found, end, rtol=0, atol=2e-5)
    assert path.times[-1] == pytest.approx(3)
    assert path.params.dtype == dtype
    assert path.params.shape == (3001, 2)


def test_leapfrog_runs_backwards(dtype):
    """Turned around, it comes back to where it started."""
    start = np.array([0.4, 0.1], dtype)
    there = leapfrog(double_well, start, dtype.type(1), time_step=0.01, steps=500)
    back = leapfrog(
        double_well,
        np.asarray(there.params)[-1],
        dtype.type(1),
        time_step=0.01,
        steps=500,
        velocity=-np.asarray(there.velocity)[-1],
    )
    np.testing.assert_allclose(back.params[-1], start, rtol=0, atol=5e4 * np.finfo(dtype).eps)


def test_leapfrog_of_many_is_that_of_each():
    starts = jnp.array([[0.4, 0.0], [1.5, -1.0], [-0.2, 0.3]])
    many = jax.vmap(lambda q: leapfrog(double_well, q, 1.0, time_step=0.02, steps=40).params)(starts)
    for start, path in zip(starts, many, strict=True):
        alone = leapfrog(double_well, start, 1.0, time_step=0.02, steps=40).params
        np.testing.assert_allclose(path, alone, rtol=0, atol=1e-5)


def test_steps_that_are_none_are_refused():
    with pytest.raises(ValueError, match="steps is a whole number, 0 or more; got -1"):
        leapfrog(double_well, jnp.zeros(2), 1.0, time_step=0.1, steps=-1)
