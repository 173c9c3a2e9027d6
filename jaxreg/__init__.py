"""Very many small regressions at once, on CPU, GPU and TPU, with gradients through the fit."""

from importlib.metadata import version

from jaxreg import datasets, distributions
from jaxreg.ansatz import Line, Linear, Polynomial
from jaxreg.cost import mean_squared_error, residuals
from jaxreg.engine.moments import Moments
from jaxreg.fitting import fit, moments
from jaxreg.inference.multiple_testing import false_discovery
from jaxreg.inference.result import Fit, load
from jaxreg.mechanics.flow import Flow, exact_flow, learning_rates, linearized_flow, momentum
from jaxreg.mechanics.langevin import Samples, sample
from jaxreg.mechanics.path_integral import Laplace, StationaryPhase, laplace, stationary_phase
from jaxreg.mechanics.phase_space import Trajectory, leapfrog
from jaxreg.solvers.closed_form import closed_form
from jaxreg.solvers.descent import Descent, descend
from jaxreg.solvers.gradient_descent import ClosedForm, GradientDescent
from jaxreg.status import FitError, Status, describe

__version__ = version("jaxreg")

__all__ = [
    "ClosedForm",
    "Descent",
    "Fit",
    "FitError",
    "Flow",
    "GradientDescent",
    "Laplace",
    "Line",
    "Linear",
    "Moments",
    "Polynomial",
    "Samples",
    "StationaryPhase",
    "Status",
    "Trajectory",
    "closed_form",
    "datasets",
    "descend",
    "describe",
    "distributions",
    "exact_flow",
    "false_discovery",
    "fit",
    "laplace",
    "leapfrog",
    "learning_rates",
    "linearized_flow",
    "load",
    "mean_squared_error",
    "moments",
    "momentum",
    "residuals",
    "sample",
    "stationary_phase",
]
