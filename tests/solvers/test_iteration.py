"""k steps at once against single steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.solvers.iteration import iterated

ITERATED = jax.jit(iterated, static_argnums=3)


def step_by_step(H, gradient, alpha, steps, tol):
    """The loop for one data set: displacement of θ, ∇S at its end, and the number of steps."""
    displacement, end_gradient = np.zeros_like(gradient), gradient.copy()
    for steps_taken in range(steps):
        if tol is not None and np.linalg.norm(end_gradient) <= tol:
            return displacement, end_gradient, steps_taken
        displacement -= alpha * end_gradient
        end_gradient = end_gradient - alpha * H @ end_gradient
    return displacement, end_gradient, steps


def quadratic(rng, *eigenvalues):
    """∇²S with these eigenvalues, and its eigenvectors in columns."""
    Q = np.linalg.qr(rng.normal(size=(len(eigenvalues),) * 2))[0]
    return Q * np.array(eigenvalues) @ Q.T, Q


def assert_equals_single_steps(H, gradient, alpha, steps, tol=None):
    """`iterated` against the loop, data sets on the last axis; returns the steps of each."""
    with jax.enable_x64(True):
        displacement, end_gradient = map(
            np.asarray, ITERATED(jnp.asarray(H), jnp.asarray(gradient), alpha, steps, tol)
        )
    ends = [step_by_step(H[..., i], gradient[:, i], alpha, steps, tol) for i in range(H.shape[-1])]
    for i, (expected_displacement, expected_gradient, _) in enumerate(ends):
        tolerance = 1e-10 * np.abs(expected_displacement).max(initial=np.abs(gradient[:, i]).max())
        np.testing.assert_allclose(displacement[:, i], expected_displacement, rtol=0, atol=tolerance)
        tolerance = 1e-10 * np.linalg.norm(expected_gradient) + 1e-13 * np.linalg.norm(gradient[:, i])
        np.testing.assert_allclose(end_gradient[:, i], expected_gradient, rtol=0, atol=tolerance)
    return [steps_taken for *_, steps_taken in ends]


@pytest.fixture
def quadratics(rng):
    H = np.stack([quadratic(rng, *rng.uniform(0.05, 2, size=3))[0] for _ in range(8)], axis=-1)
    return H, rng.normal(size=(3, 8)) * 10.0 ** np.arange(-3, 5)


@pytest.mark.parametrize("steps", [0, 1, 7, 1000])
@pytest.mark.parametrize("tol", [None, 0.05])
def test_many_steps_at_once_equal_single_steps(quadratics, steps, tol):
    steps_taken = assert_equals_single_steps(*quadratics, 0.3, steps, tol)
    assert (
        max(steps_taken) == steps
        if steps < 1000 or tol is None
        else 0 in steps_taken and len(set(steps_taken)) > 4
    )


@pytest.mark.parametrize(
    "steps", [pytest.param(n, marks=() if n in (8, 13) else pytest.mark.slow) for n in range(8, 18)]
)
def test_any_number_of_steps_is_exact(quadratics, steps):
    assert_equals_single_steps(*quadratics, 0.3, steps)
    assert_equals_single_steps(*quadratics, 0.3, steps, 0.05)


def test_any_step_can_be_the_first_below_the_tolerance(rng):
    """|∇S| = 0.9ᵏ and the tolerance just above and just below it."""
    H = np.full((1, 1, 1), 1.0)
    for k in range(9):
        for factor, expected in ((1 + 1e-9, k), (1 - 1e-9, k + 1)):
            steps_taken = assert_equals_single_steps(H, np.ones((1, 1)), 0.1, 1000, factor * 0.9**k)
            assert steps_taken == [expected]


@pytest.mark.parametrize("tol", [None, 1e-3])
def test_divergence_equals_that_of_single_steps(rng, tol):
    H, Q = quadratic(rng, 0.5, 2.2)  # factors 0.5 and −1.2 at α = 1
    gradient = np.stack([Q @ [1, 1], Q @ [1e-4, 1e-4]], axis=-1)
    steps_taken = assert_equals_single_steps(np.stack([H, H], axis=-1), gradient, 1.0, 100, tol)
    assert steps_taken == ([100, 100] if tol is None else [100, 0])


def test_it_stops_at_the_tolerance_even_if_the_gradient_would_grow_again(rng):
    """∇S falls below the tolerance along a slow direction before it grows along a fast one."""
    H, Q = quadratic(rng, 0.5, 2.2)
    gradient = np.stack([Q @ [1, 1e-9], Q @ [1, 1e-2], Q @ [0, 1.0]], axis=-1)
    H = np.stack([H] * 3, axis=-1)
    steps_taken = assert_equals_single_steps(H, gradient, 1.0, 100, 1e-3)
    assert 5 < steps_taken[0] < 20  # and not after 100, when it has diverged
    assert steps_taken[1:] == [100, 100]  # never below
    end_gradients = [step_by_step(H[..., i], gradient[:, i], 1.0, 100, None)[1] for i in range(3)]
    assert np.linalg.norm(end_gradients, axis=1).min() > 0.01


def test_it_stops_at_the_tolerance_even_if_later_steps_would_overflow(rng):
    H, Q = quadratic(rng, 0.5, 6.0)  # factors 0.5 and −5: 5^1000 overflows
    gradient = (Q @ [1, 1e-9])[:, None]
    steps_taken = assert_equals_single_steps(H[..., None], gradient, 1.0, 1000, 1e-2)
    assert 3 < steps_taken[0] < 10
