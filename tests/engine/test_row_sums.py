"""Sums over the rows as an accelerator makes them, which any platform computes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial.chebyshev import chebvander

from jaxreg import Line, Linear, Polynomial
from jaxreg.engine.reduced_sums import reduced_sums
from jaxreg.engine.row_sums import row_sums
from jaxreg.engine.rows import ROWS
from jaxreg.engine.shared_sums import shared_sums
from jaxreg.engine.sums import sum_scaling
from jaxreg.numerics.precision import rounding_unit

pytestmark = pytest.mark.either_mode
M = 5


def data_sets(rng, n, ansatz, weighted, dtype):
    """x, y and weights with gaps, an infinity and a negative weight, each in a data set of its own."""
    x = 50 + rng.normal(size=(n, 2, M) if ansatz.x_is_vector else (n, M))
    y, w = rng.normal(size=(n, M)), rng.uniform(0.5, 2, size=(n, M))
    x, y, w = (a.astype(dtype) for a in (x, y, w))
    x[n // 2, ..., 0] = y[0, 0] = np.nan
    w[-1, 0], x[-1, ..., 0], w[0, 0] = 0, np.inf, np.nan  # weights matter only where x and y are there
    y[n // 3, 1] = np.inf
    w[n // 3, 2] = -1
    w[n // 3, 3] = np.nan
    return (x, y, w) if weighted else (np.where(np.isinf(x), 0, x), y, None)


@pytest.mark.parametrize("function", [partial(row_sums, rows=ROWS["default"]), reduced_sums])
@pytest.mark.parametrize("weighted", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("ansatz", [Line(), Polynomial(3), Linear()])
@pytest.mark.parametrize(
    ("n", "dtype"),
    [
        (29, "f8"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, "f4"), (7, "f8"), (127, "f4"))),
    ],
)
def test_sums_of_an_accelerator_are_those_of_numpy(rng, n, dtype, ansatz, weighted, function):
    x, y, w = data_sets(rng, n, ansatz, weighted, dtype)
    with jax.enable_x64(True):
        arrays = [None if a is None else jnp.asarray(a) for a in (x, y, w)]
        scaling = sum_scaling(ansatz, *arrays)
        found = jax.jit(partial(function, ansatz, scaling))(*arrays)
        found = jax.tree.map(np.asarray, found)
    t, u = x.astype("f8"), y.astype("f8")
    if scaling is not None:
        x_center, x_scale = np.stack(scaling.x_center), np.stack(scaling.x_scale)
        squeeze = (lambda a: a) if ansatz.x_is_vector else (lambda a: a[0])
        t = (t - squeeze(x_center)) / squeeze(x_scale)
        u = (u - np.asarray(scaling.y_center)) / np.asarray(scaling.y_scale)
    t = np.where(np.isinf(t), np.nan, t)  # of an invalid data set, or where an observation is missing
    if ansatz.x_is_vector:
        z = [t[:, 0], t[:, 1]]
    else:
        z = [*np.moveaxis(chebvander(t, len(ansatz.param_names()) - 1), -1, 0)[1:]]
    z = [*z, u]
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
        np.testing.assert_allclose([a[j] for a in found.first], Z @ omega, rtol=1e-12, atol=1e-11 * n)
        np.testing.assert_allclose(
            [a[j] for a in found.second] / size[i, k], (second / size)[i, k], atol=1e-12
        )
        if weighted:
            np.testing.assert_allclose(found.log_weight[j], np.log(omega).sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("function", [partial(row_sums, rows=ROWS["default"]), reduced_sums])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [31, pytest.param(702, marks=pytest.mark.slow)])
def test_a_shared_design_may_have_gaps_and_infinities(rng, n, weighted, function):
    x, y = rng.normal(size=(n, 2, 1, 1)), rng.normal(size=(n, 2, M)).astype("f4")
    w = rng.uniform(0.5, 2, size=(n, 1, 1)) if weighted else np.ones((n, 1, 1))
    x[3, 0], w[-1], y[0, 0, 0], y[5, 1, 1] = np.nan, w[-1] if not weighted else 0, np.nan, np.nan
    x[5, 1] = np.inf  # invalid, except where y has a gap
    x, w = x.astype("f4"), w.astype("f4")
    with jax.enable_x64(True):
        arrays = jnp.asarray(x), jnp.asarray(y), jnp.asarray(w) if weighted else None
        scaling = sum_scaling(Linear(), *arrays)
        found = jax.jit(partial(function, Linear(), scaling))(*arrays)
        found = jax.tree.map(np.asarray, found)
    seen = ~np.isnan(y[:, 1, 1]) & ~np.isnan(x[:, 0, 0, 0]) & (w[:, 0, 0] > 0)
    Z, omega = np.column_stack([x[seen, :, 0, 0], y[seen, 1, 1]]).astype("f8"), w[seen, 0, 0].astype("f8")
    assert found.nobs[1, 1] == len(Z) == n - 2 - weighted
    assert found.nobs[0, 0] == n - 2 - weighted
    assert found.nobs[0, 1] == n - 1 - weighted
    np.testing.assert_allclose([a[1, 1] for a in found.first], omega @ Z, atol=1e-12 * n)
    second = (Z.T * omega @ Z)[np.tril_indices(3)]
    np.testing.assert_allclose([a[1, 1] for a in found.second], second, rtol=1e-12, atol=1e-11)
    if weighted:
        np.testing.assert_allclose(found.weight[1, 1], omega.sum(), rtol=1e-13)
        np.testing.assert_allclose(found.log_weight[1, 1], np.log(omega).sum(), atol=1e-10)
    others = np.ones((2, M), bool)
    others[1, 1] = False
    assert not np.isfinite(found.second[2][others]).any()


def test_the_rounding_unit_is_that_of_the_platform():
    with jax.enable_x64(True):
        assert rounding_unit() == np.finfo(np.float64).eps / 2
        lowered = jax.jit(rounding_unit).trace().lower(lowering_platforms=("tpu",)).as_text()
    assert "2.84217" in lowered  # 2⁻⁴⁵
    assert "1.11022" not in lowered


def test_a_basis_that_needs_its_interval_is_not_evaluated_outside_of_it(rng):
    """x = 0, which is far from the data, must not take the place of a gap."""
    x, y = 5 + rng.random(40), rng.normal(size=40)
    y[3] = np.nan
    with jax.enable_x64(True):
        arrays = jnp.asarray(x)[:, None], jnp.asarray(y)[:, None], None
        scaling = sum_scaling(Arccos(2), *arrays)
        found = row_sums(Arccos(2), scaling, *arrays, rows=ROWS["default"])
        expected = row_sums(Polynomial(2), scaling, *arrays, rows=ROWS["default"])
        np.testing.assert_allclose(found.second, expected.second, rtol=1e-12)


class Arccos(Polynomial):
    """Chebyshev polynomials that are NaN outside of [−1, 1]."""

    def basis(self, t):
        return [jnp.cos(k * jnp.arccos(t[0])) for k in range(self.degree + 1)]


@pytest.mark.parametrize("rows", [ROWS["default"], ROWS["cuda"]])
@pytest.mark.parametrize("n", [17, 702])
def test_sums_on_a_shared_design_are_those_of_numpy(rng, n, rows):
    x, y, w = rng.normal(size=(n, 6, 1)), rng.normal(size=(n, M)), rng.uniform(0.5, 2, size=(n, 1))
    y[n // 2, 1], y[-1, 2] = np.inf, np.nan
    with jax.enable_x64(True):
        arrays = [jnp.asarray(a) for a in (x, y, w)]
        scaling = sum_scaling(Linear(), *arrays, centered=True)
        found = jax.tree.map(np.asarray, jax.jit(partial(shared_sums, Linear(), scaling, rows=rows))(*arrays))
    scaling = jax.tree.map(np.asarray, scaling)
    t = (x[..., 0] - np.concatenate(scaling.x_center)) / np.concatenate(scaling.x_scale)
    u = (y - scaling.y_center) / scaling.y_scale
    np.testing.assert_allclose(found.gram[..., 0], t.T @ (w * t), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.cross[:, 3:], t.T @ (w * u[:, 3:]), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.y[3:], (w * u[:, 3:]).sum(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.square[3:], (w * u[:, 3:] ** 2).sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.log_weight, np.log(w).sum(), rtol=1e-12, atol=1e-12)
    assert not np.isfinite(found.square[1:3]).any()
