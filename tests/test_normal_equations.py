import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from jaxreg.normal_equations import UNROLLED, rank_tolerance, solve
from jaxreg.pair import Pair

M = 3
LEAST = rank_tolerance(np.dtype("f8"))
KINDS = {"single": 2.0**-52, "float32 pairs": 2.0**-45, "float64 pairs": 2.0**-100}
COMPILED = jax.jit(solve, static_argnums=1)


def gram(Z):
    """⟨z zᵀ⟩ of (n, q, M)."""
    return np.einsum("niM,njM->ijM", Z, Z) / len(Z)


def stored(G, kind):
    """G as `solve` takes it, with low halves of its own where it is a pair; call with 64 bits on."""
    if kind == "single":
        return Pair(jnp.asarray(G), None)
    dtype = np.dtype(kind.split()[0])
    hi = G.astype(dtype)
    lo = G - hi if dtype == np.float32 else hi * 2.0**-54 * np.sin(1 + 9 * (hi + hi.swapaxes(0, 1)))
    return Pair(jnp.asarray(hi), jnp.asarray(lo.astype(dtype)))


def digits(a):
    """All digits of a pair or an array, as an object array of mpmath's numbers."""
    halves = [a.hi] if isinstance(a, Pair) and a.lo is None else [a.hi, a.lo]
    return sum(np.vectorize(mpmath.mpf, otypes=[object])(np.asarray(half, "f8")) for half in halves)


def worst(found, expected):
    """The largest difference, of the largest entry."""
    size = max(abs(e) for e in expected)
    return float(max(abs(f - e) for f, e in zip(found, expected, strict=True)) / size)


def entries(matrix):
    return [matrix[i, j] for i in range(matrix.rows) for j in range(matrix.cols)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("p", [1, 2, 5, 14])
def test_the_solution_is_that_of_exact_arithmetic(rng, p, kind):
    assert 5 < UNROLLED < 14
    with jax.enable_x64(True), mpmath.workdps(60):
        G = stored(gram(rng.normal(size=(3 * p + 3, p + 1, M))), kind)
        found, exact = COMPILED(G, LEAST), digits(G)
        coefs, inverse, rest = map(digits, found[:3])
        assert coefs.shape == (p, M)
        assert inverse.shape == (p, p, M)
        assert rest.shape == found.share.shape == (M,)
        for i in range(M):
            A, b = mpmath.matrix(exact[:p, :p, i].tolist()), mpmath.matrix(exact[:p, p, i].tolist())
            A_inverse = A**-1
            c = A_inverse * b
            square = exact[p, p, i]
            condition = float(mpmath.mnorm(A, 1) * mpmath.mnorm(A_inverse, 1))
            room = 4 * condition * KINDS[kind]
            assert worst(coefs[:, i], list(c)) < room
            assert worst(inverse[..., i].ravel(), entries(A_inverse)) < room
            assert abs(rest[i] - (square - (b.T * c)[0])) < room * square


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("p", [2, 14])
def test_the_share_is_the_smallest_that_is_left_of_a_column(rng, p, kind):
    """Of column k, 1 − R² of its regression on those before it."""
    Z = rng.normal(size=(3 * p + 3, p + 1, M))
    Z[:, p - 1] += 3 * Z[:, 0]
    with jax.enable_x64(True):
        share = COMPILED(stored(gram(Z), kind), LEAST).share
    for i in range(M):
        left = [1.0]
        for k in range(1, p):
            before, column = Z[:, :k, i], Z[:, k, i]
            e = column - before @ np.linalg.lstsq(before, column)[0]
            left.append(e @ e / (column @ column))
        np.testing.assert_allclose(share[i], min(left), rtol=1e-5 if "32" in kind else 1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("p", [2, 5, 14])
@pytest.mark.parametrize("columns", ["equal", "a combination", "zero"])
def test_dependent_columns_leave_no_share_and_all_numbers_finite(rng, p, kind, columns):
    Z = rng.normal(size=(3 * p + 3, p + 1, M))
    Z[:, p - 1, 1] = {"equal": Z[:, 0, 1], "zero": 0}.get(columns, Z[:, : p - 1, 1].sum(axis=1))
    with jax.enable_x64(True):
        found = COMPILED(stored(gram(Z), kind), LEAST)
    dependent = [False, True, False]
    least = 2.0**-43 if "32" in kind else LEAST
    np.testing.assert_array_equal(np.asarray(found.share) <= least, dependent)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(found))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("p", [2, 14])
def test_what_the_columns_explain_leaves_no_rest(rng, p, kind):
    Z = rng.normal(size=(3 * p + 3, p + 1, M))
    c = rng.normal(size=(p, M))
    Z[:, p] = np.einsum("nkM,kM->nM", Z[:, :p], c)
    with jax.enable_x64(True):
        G = gram(Z)
        found = COMPILED(stored(G, kind), LEAST)
    np.testing.assert_allclose(found.coefs.hi, c, rtol=1e-6 if "32" in kind else 1e-11)
    assert np.all(np.abs(found.rest.value) < 1e-11 * G[p, p])
