"""Sums over the rows as an accelerator makes them, which any platform computes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial.chebyshev import chebvander

from jaxreg import Line, Linear, Polynomial
from jaxreg.engine.row_sums import row_sums
from jaxreg.engine.rows import ROWS
from jaxreg.engine.sums import sum_scaling
from jaxreg.numerics.precision import rounding_unit

pytestmark = pytest.mark.either_mode
M = 5


def data_sets(rng, n, ansatz, weighted):
    """x, y and weights with gaps, an infinity and a negative weight, each in a data set of its own."""
    x = rng.normal(size=(n, 2, M) if ansatz.x_is_vector else (n, M)).astype("f4")
    y, w = rng.normal(size=(n, M)).astype("f4"), rng.uniform(0.5, 2, size=(n, M)).astype("f4")
    x[n // 2, ..., 0] = y[0, 0] = np.nan
    w[-1, 0], x[-1, ..., 0], w[0, 0] = 0, np.inf, np.nan  # weights matter only where x and y are there
    y[n // 3, 1] = np.inf
    w[n // 3, 2] = -1
    w[n // 3, 3] = np.nan
    return (x, y, w) if weighted else (np.where(np.isinf(x), 0, x), y, None)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ansatz", [Line(), Polynomial(3), Linear()])
@pytest.mark.parametrize("n", [1, 7, 30, 31, 127])
def test_sums_of_an_accelerator_are_those_of_numpy(rng, n, ansatz, weighted):
    x, y, w = data_sets(rng, n, ansatz, weighted)
    with jax.enable_x64(True):
        arrays = [None if a is None else jnp.asarray(a) for a in (x, y, w)]
        scaling = sum_scaling(ansatz, *arrays)
        found = jax.jit(partial(row_sums, ansatz, scaling, rows=ROWS["default"]))(*arrays)
        found = jax.tree.map(np.asarray, found)
        t = x if scaling is None else (x - np.asarray(scaling.x_center)) / np.asarray(scaling.x_scale)
    t = np.where(
        np.isinf(t), np.nan, t
    )  # of a data set that is invalid, or of an observation that is missing
    z = (
        [t[:, 0], t[:, 1]]
        if ansatz.x_is_vector
        else [*np.moveaxis(chebvander(t, len(ansatz.param_names()) - 1), -1, 0)[1:]]
    )
    z = [a.astype("f8") for a in (*z, y)]
    weight = np.ones_like(y) if w is None else w
    valid = ~np.isnan(x if x.ndim == 2 else x.sum(axis=1)) & ~np.isnan(y) & (weight != 0)
    for j in range(M):
        seen = valid[:, j]
        Z, omega = np.array([a[seen, j] for a in z]), weight[seen, j].astype("f8")
        assert found.nobs[j] == seen.sum()
        if np.isinf(y[seen, j]).any() or np.isinf(x[seen, ..., j]).any() or not (omega >= 0).all():
            assert not np.isfinite(found.weight[j] + found.second[-1][j])
            continue
        second = (omega * Z) @ Z.T
        size = np.sqrt(np.outer(np.diag(second), np.diag(second)))
        size[size == 0] = 1
        i, k = np.tril_indices(len(Z))
        np.testing.assert_allclose([a[j] for a in found.first], Z @ omega, rtol=1e-12, atol=1e-12 * n)
        np.testing.assert_allclose(
            [a[j] for a in found.second] / size[i, k], (second / size)[i, k], atol=1e-12
        )
        if weighted:
            np.testing.assert_allclose(found.log_weight[j], np.log(omega).sum(), rtol=1e-12, atol=1e-12)


def test_the_rounding_unit_is_that_of_the_platform():
    with jax.enable_x64(True):
        assert rounding_unit() == np.finfo(np.float64).eps / 2
        lowered = jax.jit(rounding_unit).trace().lower(lowering_platforms=("tpu",)).as_text()
    assert "2.84217" in lowered  # 2⁻⁴⁵
    assert "1.11022" not in lowered
