"""The public names, in reading order; `jaxreg` has them when the first of them is used."""

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
from jaxreg.inference.associate import associate
from jaxreg.inference.association import Association
from jaxreg.inference.covariance import HAC, HC0, HC1, HC2, HC3, Cluster
from jaxreg.inference.multiple_testing import false_discovery, familywise_error
from jaxreg.inference.result import Fit, load
from jaxreg.inference.stream import Stream
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
    # many y against many x
    "associate",
    "Association",
    # the moments, and the turning point
    "moments",
    "Moments",
    "closed_form",
    "Stream",
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
