import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxreg import false_discovery


@pytest.mark.parametrize("method", ["bh", "by"])
def test_false_discovery_equals_scipy_without_the_nan(rng, dtype, tol, method):
    p = rng.uniform(size=(40, 5)).astype(dtype) ** 3
    p[3, 2] = p[7, 1]
    expected = stats.false_discovery_control(p.ravel().astype("f8"), method=method).reshape(p.shape)
    np.testing.assert_allclose(false_discovery(p, method), expected, rtol=tol)
    valid = rng.random(p.shape) > 0.2
    expected = stats.false_discovery_control(p[valid].astype("f8"), method=method)
    adjusted = false_discovery(np.where(valid, p, np.nan).astype(dtype), method)
    assert adjusted.dtype == dtype
    np.testing.assert_allclose(adjusted[valid], expected, rtol=tol)
    assert np.isnan(adjusted[~valid]).all()


def test_all_nan_and_a_single_p_value():
    assert np.isnan(false_discovery(np.array([np.nan, np.nan]))).all()
    np.testing.assert_allclose(false_discovery(np.array(0.25)), 0.25)


def test_jit():
    p = jnp.float32([0.01, 0.2, 0.03])
    np.testing.assert_array_equal(jax.jit(false_discovery)(p), false_discovery(p))


@pytest.mark.parametrize(
    ("pvalues", "method", "error", "message"),
    [
        (np.array([0.1, 1.2]), "bh", ValueError, "between 0 and 1"),
        (np.array([0.1]), "holm", ValueError, '"bh" or "by"'),
        (np.array([0, 1]), "bh", TypeError, "floats"),
    ],
)
def test_bad_arguments_are_errors(pvalues, method, error, message):
    with pytest.raises(error, match=message):
        false_discovery(pvalues, method)
