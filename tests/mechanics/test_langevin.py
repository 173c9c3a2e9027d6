"""Chains against Laplace, quadrature, and another sampler."""

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from jax import lax

from jaxreg import fit, laplace, mean_squared_error, sample

X = np.array([-1.5, -0.4, 0.3, 0.7, 1.2, 2.0])
OUTCOMES = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 1.0])


@pytest.fixture
def line(rng):
    x, y = rng.uniform(-1, 1, 25), rng.normal(size=25)
    return x, y


def quartic(q):
    return (q**2 / 2 + q**3 / 5 + q**4 / 4).sum()


def double_well(q):
    return ((q**2 - 1) ** 2).sum()


def logistic(q):
    return sum(jnp.logaddexp(0, q[0] * x) - s * q[0] * x for x, s in zip(X, OUTCOMES, strict=True)) / len(X)


def standard_error(draws):
    """Of the mean of a correlated chain, by the means of 30 batches."""
    batches = np.array([batch.mean(axis=0) for batch in np.array_split(draws, 30)])
    return batches.std(axis=0, ddof=1) / np.sqrt(30)


def assert_same_mean(draws, expected):
    """Within six standard errors: chains differ between machines, and four are exceeded once in 2,000."""
    draws = np.asarray(draws, float)
    assert (np.abs(draws.mean(axis=0) - expected) < 6 * standard_error(draws)).all()


@pytest.mark.slow
def test_the_chain_has_the_moments_of_laplace(line):
    x, y = line
    gaussian = laplace(mean_squared_error, np.zeros(2), x, y, temperature=0.3)
    chain = sample(
        mean_squared_error, np.zeros(2), x, y, temperature=0.3, key=jax.random.key(3), steps=60_000
    )
    assert 0.5 < chain.acceptance < 0.95
    deviation = np.asarray(chain.params) - gaussian.mean
    assert_same_mean(chain.params, gaussian.mean)
    assert_same_mean(deviation[:, :, None] * deviation[:, None], gaussian.covariance)
    assert_same_mean(chain.cost, least_squares_cost(x, y) + 2 * 0.3 / 2)  # equipartition: T/2 per param
    assert np.max(standard_error(deviation**2)) < 0.03 * np.diag(gaussian.covariance).max()


def least_squares_cost(x, y):
    line = fit(x, y)
    return float(line.ssr / line.nobs)


@pytest.mark.parametrize("time_step", [0.02, 0.1])
def test_the_density_is_exact_for_any_time_step_and_any_cost(time_step):
    """⟨q⁴⟩ in a double well against quadrature: without the Metropolis step it would depend on h."""
    chain = sample(
        double_well,
        np.zeros(1),
        temperature=0.5,
        key=jax.random.key(1),
        steps=100_000,
        time_step=time_step,
    )
    norm, fourth = (
        scipy.integrate.quad(lambda q, k=k: q**k * np.exp(-((q**2 - 1) ** 2) / 0.5), -4, 4)[0] for k in (0, 4)
    )
    assert_same_mean(chain.params[:, 0] ** 4, fourth / norm)


@pytest.mark.slow
def test_the_chain_agrees_with_nuts():
    """blackjax's sampler on the same logistic cost."""
    temperature = 0.02

    def logdensity(q):
        return -logistic(q) / temperature

    kernel = blackjax.nuts(logdensity, step_size=0.5, inverse_mass_matrix=jnp.array([0.3]))

    def step(state, key):
        state, _ = kernel.step(key, state)
        return state, state.position

    keys = jax.random.split(jax.random.key(5), 10_000)
    _, reference = jax.jit(lambda: lax.scan(step, kernel.init(jnp.zeros(1)), keys))()
    samples = sample(
        logistic, jnp.zeros(1), temperature=temperature, key=jax.random.key(2), steps=40_000
    ).params
    for power in (1, 2):
        a, b = np.asarray(reference, float) ** power, np.asarray(samples, float) ** power
        tolerance = 6 * np.hypot(standard_error(a), standard_error(b))
        assert np.abs(a.mean() - b.mean()) < tolerance
        assert tolerance < 0.1 * np.abs(b).mean()


def test_chains_from_many_keys():
    keys = jax.random.split(jax.random.key(0), 3)
    chains = jax.vmap(
        lambda key: sample(quartic, jnp.zeros(1), temperature=0.1, key=key, steps=50, warmup=0)
    )(keys)
    assert chains.params.shape == (3, 50, 1)
    assert len(np.unique(chains.params[:, -1])) == 3


@pytest.mark.slow
def test_many_params_take_shorter_steps():
    def cost(q):
        return q @ q / 2

    chain = sample(cost, jnp.zeros(100), temperature=1.0, key=jax.random.key(0), steps=4000)
    assert chain.acceptance > 0.4
    assert float(jnp.var(chain.params)) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"temperature": 1.0},
            "curvature 0.0 at the start: pass a time_step",
        ),
        ({"temperature": 1.0, "time_step": 0.0}, "time_step must be positive, got 0.0"),
        ({"temperature": -1.0, "time_step": 0.1}, "temperature must be positive, got -1.0"),
        ({"temperature": np.ones(2), "time_step": 0.1}, "temperature is one number"),
    ],
)
def test_bad_arguments_are_errors(options, message):
    def flat(q):
        return jnp.sum(q**4)

    with pytest.raises(ValueError, match=message):
        sample(flat, jnp.zeros(1), key=jax.random.key(0), **options)


@pytest.mark.parametrize("time_step", [None, 0.1])
def test_a_cost_of_many_numbers_is_an_error(time_step):
    with pytest.raises(ValueError, match=r"a cost returns one number, .* got shape \(2,\)"):
        sample(jnp.square, np.zeros(2), temperature=1.0, key=jax.random.key(0), time_step=time_step)
