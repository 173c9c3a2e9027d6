"""The steps that need not be taken, against the steps taken one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.solvers.iteration import iterated

ITERATED = jax.jit(iterated, static_argnums=3)


def step_by_step(H, gradient, alpha, steps, tol):
    """The loop itself for one data set: by what θ has moved, ∇S at its end, and the steps taken."""
    moved, slope = np.zeros_like(gradient), gradient.copy()
    for taken in range(steps):
        if tol is not None and np.linalg.norm(slope) <= tol:
            return moved, slope, taken
        moved -= alpha * slope
        slope = slope - alpha * H @ slope
    return moved, slope, steps


def quadratic(rng, *eigenvalues):
    """∇²S with these eigenvalues, and its eigenvectors in columns."""
    Q = np.linalg.qr(rng.normal(size=(len(eigenvalues),) * 2))[0]
    return Q * np.array(eigenvalues) @ Q.T, Q


def assert_steps_are_taken(H, gradient, alpha, steps, tol=None):
    """`iterated` against the loop, data sets on the last axis; returns the steps of each."""
    with jax.enable_x64(True):
        moved, slope = map(np.asarray, ITERATED(jnp.asarray(H), jnp.asarray(gradient), alpha, steps, tol))
    ends = [step_by_step(H[..., i], gradient[:, i], alpha, steps, tol) for i in range(H.shape[-1])]
    for i, (expected_moved, expected_slope, _) in enumerate(ends):
        room = 1e-10 * np.abs(expected_moved).max(initial=np.abs(gradient[:, i]).max())
        np.testing.assert_allclose(moved[:, i], expected_moved, rtol=0, atol=room)
        room = 1e-10 * np.linalg.norm(expected_slope) + 1e-13 * np.linalg.norm(gradient[:, i])
        np.testing.assert_allclose(slope[:, i], expected_slope, rtol=0, atol=room)
    return [taken for *_, taken in ends]


@pytest.fixture
def quadratics(rng):
    H = np.stack([quadratic(rng, *rng.uniform(0.05, 2, size=3))[0] for _ in range(8)], axis=-1)
    return H, rng.normal(size=(3, 8)) * 10.0 ** np.arange(-3, 5)


@pytest.mark.parametrize("steps", [0, 1, 7, 1000])
@pytest.mark.parametrize("tol", [None, 0.05])
def test_steps_taken_at_once_end_where_steps_taken_one_by_one_do(quadratics, steps, tol):
    taken = assert_steps_are_taken(*quadratics, 0.3, steps, tol)
    assert max(taken) == steps if steps < 1000 or tol is None else 0 in taken and len(set(taken)) > 4


@pytest.mark.parametrize("steps", range(8, 18))
def test_any_number_of_steps_is_exact(quadratics, steps):
    assert_steps_are_taken(*quadratics, 0.3, steps)
    assert_steps_are_taken(*quadratics, 0.3, steps, 0.05)


def test_every_step_can_be_the_one_that_meets_the_tolerance(rng):
    """|∇S| = 0.9ᵏ and the tolerance just above and just below it."""
    H = np.full((1, 1, 1), 1.0)
    for k in range(9):
        for factor, expected in ((1 + 1e-9, k), (1 - 1e-9, k + 1)):
            taken = assert_steps_are_taken(H, np.ones((1, 1)), 0.1, 1000, factor * 0.9**k)
            assert taken == [expected]


@pytest.mark.parametrize("tol", [None, 1e-3])
def test_what_diverges_does_so_step_by_step(rng, tol):
    H, Q = quadratic(rng, 0.5, 2.2)  # factors 0.5 and −1.2 at α = 1
    gradient = np.stack([Q @ [1, 1], Q @ [1e-4, 1e-4]], axis=-1)
    taken = assert_steps_are_taken(np.stack([H, H], axis=-1), gradient, 1.0, 100, tol)
    assert taken == ([100, 100] if tol is None else [100, 0])


def test_it_stops_on_the_way_down_even_where_it_would_climb_again(rng):
    """∇S along a slow direction falls below the tolerance before a little along a fast one has grown."""
    H, Q = quadratic(rng, 0.5, 2.2)
    gradient = np.stack([Q @ [1, 1e-9], Q @ [1, 1e-2], Q @ [0, 1.0]], axis=-1)
    H = np.stack([H] * 3, axis=-1)
    taken = assert_steps_are_taken(H, gradient, 1.0, 100, 1e-3)
    assert 5 < taken[0] < 20  # and not after 100, where it has left
    assert taken[1:] == [100, 100]  # never below
    climbed = [step_by_step(H[..., i], gradient[:, i], 1.0, 100, None)[1] for i in range(3)]
    assert np.linalg.norm(climbed, axis=1).min() > 0.01


def test_it_stops_on_the_way_down_even_where_later_steps_overflow(rng):
    H, Q = quadratic(rng, 0.5, 6.0)  # factors 0.5 and −5: 5^1000 is no number
    gradient = (Q @ [1, 1e-9])[:, None]
    taken = assert_steps_are_taken(H[..., None], gradient, 1.0, 1000, 1e-2)
    assert 3 < taken[0] < 10
