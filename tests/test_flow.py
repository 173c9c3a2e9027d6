import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import (
    Linear,
    Polynomial,
    Status,
    descend,
    learning_rates,
    mean_squared_error,
    moments,
    momentum,
)
from jaxreg.flow import iterated

THETA = np.array([0.7, -1.2])


@pytest.fixture
def data(rng, dtype):
    x = rng.normal(size=30).astype(dtype) + dtype.type(0.5)
    return x, (1 + 2 * x + rng.normal(size=30)).astype(dtype)


def test_momentum_is_the_sums_of_equations_10_and_11(data, dtype):
    """Equations 8, 10, 11: p = ∂S is −(2/n)Σ(y − β₀ − β₁x) and −(2/n)Σx(y − β₀ − β₁x)."""
    x, y = data
    p = momentum(mean_squared_error, THETA.astype(dtype), x, y)
    theta = THETA.astype(dtype).astype("f8")
    e = y.astype("f8") - theta[0] - theta[1] * x.astype("f8")
    expected = [-2 / 30 * e.sum(), -2 / 30 * (x * e).sum()]
    np.testing.assert_allclose(p, expected, rtol=20 * np.finfo(dtype).eps)
    assert p.dtype == dtype


def test_the_moments_give_the_momentum_of_equations_12_and_13(data, dtype):
    """Equations 12, 13: −2[⟨y⟩ − β₀ − β₁⟨x⟩] and −2[⟨xy⟩ − β₀⟨x⟩ − β₁⟨x²⟩], against 10 and 11."""
    x, y = data
    m = moments(x, y)
    ((_, x1), (_, x2)), (y1, xy) = np.asarray(m.gram, "f8"), np.asarray(m.cross, "f8")
    b0, b1 = THETA
    from_moments = [-2 * (y1 - b0 - b1 * x1), -2 * (xy - b0 * x1 - b1 * x2)]
    e = y.astype("f8") - b0 - b1 * x.astype("f8")
    expected = [-2 * e.mean(), -2 * (x * e).mean()]
    np.testing.assert_allclose(from_moments, expected, rtol=20 * np.finfo(dtype).eps)


def test_momentum_is_zero_only_at_the_turning_point(data, dtype):
    """Equation 7 by way of 8."""
    x, y = data
    best = np.polyfit(x.astype("f8"), y.astype("f8"), 1)[::-1].astype(dtype)
    assert np.abs(momentum(mean_squared_error, best, x, y)).max() < 50 * np.finfo(dtype).eps
    assert np.abs(momentum(mean_squared_error, best + dtype.type(0.1), x, y)).max() > 0.1


@pytest.mark.parametrize("ansatz", [Polynomial(2), Linear(intercept=False)], ids=repr)
def test_learning_rates_are_of_the_eigenvalues_of_the_curvature(rng, ansatz):
    x = rng.normal(size=(30, 2) if ansatz.x_is_vector else 30)
    y = rng.normal(size=(30, 3))
    y[4:9, 1] = np.nan
    rates = learning_rates(moments(x, y, ansatz=ansatz))
    with jax.enable_x64(True):
        features = np.asarray(ansatz.features(jnp.asarray(x)))
    for i in range(3):
        phi = features[~np.isnan(y[:, i])]
        eigenvalues = np.linalg.eigvalsh(2 * phi.T @ phi / len(phi))
        assert float(rates.largest[i]) == pytest.approx(2 / eigenvalues[-1], rel=1e-12)
        best = 2 / (eigenvalues[0] + eigenvalues[-1])
        assert float(rates.best[i]) == pytest.approx(best, rel=1e-12)


def test_learning_rates_of_no_data_are_nan(dtype):
    y = np.full((5, 3), np.nan, dtype)
    y[:, 0] = 1
    y[:, 2] = np.inf
    rates = learning_rates(moments(np.arange(5, dtype=dtype), y))
    np.testing.assert_array_equal(np.isnan(rates.largest), [False, True, True])
    assert rates.largest.dtype == dtype


@pytest.mark.parametrize(("factor", "status"), [(0.97, Status.ok), (1.03, Status.diverged)])
def test_the_largest_rate_parts_what_converges_from_what_diverges(data, dtype, factor, status):
    """Equation 16: 'too large one may just miss the minimum completely'."""
    x, y = data
    alpha = factor * float(learning_rates(moments(x, y)).largest)
    start = THETA.astype(dtype)
    found = descend(mean_squared_error, start, x, y, optimizer=optax.sgd(alpha), steps=20_000)
    assert found.status == status
    if status == Status.ok:
        best = np.polyfit(x.astype("f8"), y.astype("f8"), 1)[::-1]
        np.testing.assert_allclose(found.params, best, rtol=100 * np.finfo(dtype).eps)


def test_no_rate_shrinks_the_error_faster_than_the_best(rng):
    x = rng.normal(size=30) + 0.5
    y = rng.normal(size=30)
    best = float(learning_rates(moments(x, y)).best)
    phi = np.stack([np.ones(30), x], axis=1)
    H = 2 * phi.T @ phi / 30

    def shrinkage(alpha):
        return np.abs(np.linalg.eigvalsh(np.eye(2) - alpha * H)).max()

    others = best * np.array([0.5, 0.9, 0.99, 1.01, 1.1])
    assert shrinkage(best) < min(map(shrinkage, others))


# --- the steps that need not be taken ------------------------------------------------------------


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
