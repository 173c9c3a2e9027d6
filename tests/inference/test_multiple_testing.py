import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from jaxreg import false_discovery
from jaxreg.inference.multiple_testing import familywise_error


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


@pytest.mark.parametrize("method", ["holm", "bonferroni"])
def test_familywise_error_equals_statsmodels_without_the_nan(rng, dtype, tol, method):
    p = rng.uniform(size=(40, 5)).astype(dtype) ** 5
    p[3, 2] = p[7, 1]
    valid = rng.random(p.shape) > 0.2
    for q, where in ((p, np.ones_like(valid)), (np.where(valid, p, np.nan).astype(dtype), valid)):
        expected = multipletests(p[where].astype("f8"), method=method)[1]
        adjusted = familywise_error(q, method)
        assert adjusted.dtype == dtype
        np.testing.assert_allclose(adjusted[where], expected, rtol=tol)
        assert np.isnan(adjusted[~where]).all()
        assert 0 < (expected < 0.05).sum() < (expected < 1).sum() < expected.size


def test_all_nan_and_a_single_p_value():
    assert np.isnan(false_discovery(np.array([np.nan, np.nan]))).all()
    np.testing.assert_allclose(false_discovery(np.array(0.25)), 0.25)
    for method in ("holm", "bonferroni"):
        assert np.isnan(familywise_error(np.array([np.nan, np.nan]), method)).all()
        np.testing.assert_allclose(familywise_error(np.array(0.25), method), 0.25)


def test_jit():
    p = jnp.float32([0.01, 0.2, 0.03])
    for adjusted in (false_discovery, familywise_error):
        np.testing.assert_array_equal(jax.jit(adjusted)(p), adjusted(p))


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


def test_bad_arguments_of_the_familywise_error_are_errors():
    with pytest.raises(ValueError, match='method is "holm" or "bonferroni", got \'bh\''):
        familywise_error(np.array([0.1]), "bh")
    with pytest.raises(ValueError, match="between 0 and 1"):
        familywise_error(np.array([-0.1]))
