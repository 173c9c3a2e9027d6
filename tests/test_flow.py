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
