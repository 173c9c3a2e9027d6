"""Estimators with the interface of scikit-learn: many targets, gaps, standard errors (extra `sklearn`)."""

try:
    import sklearn  # noqa: F401
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        'jaxreg.sklearn needs scikit-learn: python -m pip install "jaxreg[sklearn]"'
    ) from None

from jaxreg.faces.sklearn.least_squares import GradientDescentRegressor, LinearRegression, Ridge
from jaxreg.faces.sklearn.likelihoods import LogisticRegression, PoissonRegressor
from jaxreg.faces.sklearn.robust import HuberRegressor

__all__ = [
    "GradientDescentRegressor",
    "HuberRegressor",
    "LinearRegression",
    "LogisticRegression",
    "PoissonRegressor",
    "Ridge",
]
