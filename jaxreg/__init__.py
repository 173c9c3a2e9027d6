"""Millions of small regressions in one call, with gradients through the fit.

In reading order: what is fitted, how, the fit and its inference, and regression as mechanics after the paper
"Machine Learning for the eager theorist", whose equation numbers docstrings give as of the seed paper.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from jaxreg import datasets, distributions
from jaxreg.ansatz import Ansatz, Features, Line, Linear, Polynomial
from jaxreg.cost import Cost, mean_squared_error, residuals
from jaxreg.costs.likelihoods import Gamma, Logistic, NegativeBinomial, Poisson
from jaxreg.costs.mean_loss import MeanLoss, mean_loss
from jaxreg.costs.quantile import Quantile
from jaxreg.costs.ridge import Ridge
from jaxreg.costs.robust import Bisquare, Huber, PseudoHuber
from jaxreg.curves.curve import Curve
from jaxreg.curves.ready import exponential_decay, gaussian_peak, logistic_growth, power_law, sine
from jaxreg.engine.moments import Moments
from jaxreg.engine.sandwich import Covariance
from jaxreg.fitting import fit, moments
from jaxreg.inference.covariance import HAC, HC0, HC1, HC2, HC3, Cluster
from jaxreg.inference.multiple_testing import false_discovery, familywise_error
from jaxreg.inference.result import Fit, load
from jaxreg.mechanics.flow import Flow, exact_flow, learning_rates, linearized_flow, momentum
from jaxreg.mechanics.langevin import Samples, sample
from jaxreg.mechanics.path_integral import Laplace, StationaryPhase, laplace, stationary_phase
from jaxreg.mechanics.phase_space import Trajectory, leapfrog
from jaxreg.solvers.closed_form import ClosedForm, closed_form
from jaxreg.solvers.descent import Descent, descend
from jaxreg.solvers.gauss_newton import GaussNewton
from jaxreg.solvers.gradient_descent import GradientDescent
from jaxreg.solvers.interior_point import InteriorPoint
from jaxreg.solvers.newtons_method import Newton
from jaxreg.solvers.reweighted import Reweighted
from jaxreg.solvers.solver import Solver
from jaxreg.status import FitError, Status, describe

if TYPE_CHECKING:
    from jaxreg import frame as frame
    from jaxreg import physics as physics
    from jaxreg import plot as plot
    from jaxreg import sklearn as sklearn
    from jaxreg import widget as widget
    from jaxreg import xarray as xarray

__version__ = version("jaxreg")

FACES = (
    "frame",
    "physics",
    "plot",
    "sklearn",
    "widget",
    "xarray",
)  # imported when they are used: each needs an extra

__all__ = [  # noqa: RUF022 in reading order
    # what is fitted
    "fit",
    "Ansatz",
    "Line",
    "Polynomial",
    "Linear",
    "Features",
    "Curve",
    "exponential_decay",
    "gaussian_peak",
    "logistic_growth",
    "power_law",
    "sine",
    "Cost",
    "mean_squared_error",
    "residuals",
    "Huber",
    "PseudoHuber",
    "Quantile",
    "Bisquare",
    "Logistic",
    "Poisson",
    "NegativeBinomial",
    "Gamma",
    "Ridge",
    "mean_loss",
    "MeanLoss",
    # how
    "Solver",
    "ClosedForm",
    "GradientDescent",
    "Newton",
    "Reweighted",
    "InteriorPoint",
    "GaussNewton",
    # the fit and its inference
    "Fit",
    "load",
    "Status",
    "FitError",
    "describe",
    "Covariance",
    "HC0",
    "HC1",
    "HC2",
    "HC3",
    "Cluster",
    "HAC",
    "false_discovery",
    "familywise_error",
    "distributions",
    # the moments, and the turning point
    "moments",
    "Moments",
    "closed_form",
    # mechanics
    "momentum",
    "descend",
    "Descent",
    "learning_rates",
    "exact_flow",
    "linearized_flow",
    "Flow",
    "leapfrog",
    "Trajectory",
    "stationary_phase",
    "StationaryPhase",
    "laplace",
    "Laplace",
    "sample",
    "Samples",
    # data
    "datasets",
]


def __dir__() -> list[str]:
    return [*__all__, *FACES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in FACES:
        return import_module(f"jaxreg.{name}")
    raise AttributeError(f"module 'jaxreg' has no attribute {name!r}")
