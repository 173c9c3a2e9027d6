import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.numerics import small

BATCHES = [(), (4,), (2, 3)]


@pytest.fixture
def close(dtype):
    eps = 10 * np.finfo(dtype).eps

    def check(function, arrays, expected):
        with jax.enable_x64(dtype == np.float64):
            found = function(*(jnp.asarray(a.astype(dtype)) for a in arrays))
        assert found.dtype == dtype
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=eps, atol=eps)

    return check


def stored(rng, dtype, *shape):
    return rng.normal(size=shape).astype(dtype).astype("f8")


@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_products_are_einsums(rng, dtype, close, batch):
    a, b = stored(rng, dtype, 2, 3, *batch), stored(rng, dtype, 3, 4, *batch)
    v, u = stored(rng, dtype, 3, *batch), stored(rng, dtype, 3, *batch)
    close(small.matmul, (a, b), np.einsum("ik...,kj...->ij...", a, b))
    close(small.matvec, (a, v), np.einsum("ik...,k...->i...", a, v))
    close(small.dot, (u, v), np.einsum("k...,k...->...", u, v))
    close(small.norm, (v,), np.sqrt(np.einsum("k...,k...->...", v, v)))


@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_the_diagonal_and_the_largest(rng, dtype, close, batch):
    a, v = stored(rng, dtype, 3, 3, *batch), stored(rng, dtype, 3, *batch)
    close(small.diagonal, (a,), np.einsum("ii...->i...", a))
    close(small.largest, (v,), v.max(axis=0))


def test_one_by_one_is_a_number(rng, dtype, close):
    a, b = stored(rng, dtype, 1, 1, 4), stored(rng, dtype, 1, 4)
    close(small.matmul, (a, a), a * a)
    close(small.matvec, (a, b), a[0] * b)
    close(small.dot, (b, b), b[0] ** 2)
    close(small.norm, (b,), abs(b[0]))
    close(small.diagonal, (a,), a[0])
    close(small.largest, (b,), b[0])


def test_a_matrix_without_data_sets_goes_with_those_of_many(rng, dtype, close):
    a, b = stored(rng, dtype, 2, 2, 1), stored(rng, dtype, 2, 2, 5)
    close(small.matmul, (a, b), np.einsum("ik,kjm->ijm", a[..., 0], b))
