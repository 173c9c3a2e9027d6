"""Annotations of the package are checked while the tests run; what many tests share."""

import jaxtyping

jaxtyping.install_import_hook("jaxreg", "beartype.beartype")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import statsmodels.api as sm  # noqa: E402


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(20231201)


@pytest.fixture
def tol(dtype):
    """What two right answers may differ by, relative."""
    return {"float32": 1e-5, "float64": 1e-10}[dtype.name]


@pytest.fixture
def statsmodels():
    """Weighted least squares of statsmodels on the observations without NaN and with weight."""

    def solve(design, y, weights=None):
        w = np.ones(len(y)) if weights is None else np.asarray(weights, float)
        design, y = np.asarray(design, float), np.asarray(y, float)
        there = np.isfinite(y) & np.isfinite(design).all(axis=1)
        there &= np.where(there, w, 0) != 0
        return sm.WLS(y[there], design[there], w[there]).fit()

    return solve
