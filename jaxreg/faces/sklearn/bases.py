"""scikit-learn's base classes, which have no annotations, and what type checkers see of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    class BaseEstimator:
        """Parameters by name, and requests of metadata."""

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            """The arguments of the constructor."""
            ...

        def set_params(self, **params: Any) -> Any:
            """Change arguments of the constructor, and return the estimator."""
            ...

        def set_fit_request(self, **requests: bool | str | None) -> Any:
            """Which metadata `fit` requests from a meta-estimator."""
            ...

        def __sklearn_tags__(self) -> Any: ...

    class ClassifierMixin:
        """The accuracy as score."""

        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
            """The share of labels that are predicted."""
            ...

    class RegressorMixin:
        """Marks a regressor."""

    class MultiOutputMixin:
        """Marks an estimator of many targets."""

else:
    from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin

__all__ = ["BaseEstimator", "ClassifierMixin", "MultiOutputMixin", "RegressorMixin"]
