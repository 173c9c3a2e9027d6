"""The data of an estimator: checked as scikit-learn does, but with gaps in y and weights for every target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_consistent_length,
    validate_data,
)

FLOATS: list[Any] = [np.float64, np.float32]
PADDED_ROWS = (32, 128, 512)
PADDED_TARGETS = 16


@dataclass(frozen=True)
class Data:
    """X, y and weights of one dtype.

    Attributes:
        X: (n, k), finite.
        y: (n, m), one column per target; NaN is a gap.
        weights: None, (n,) or (n, m), finite and not negative.
        is_single: whether y came as (n,).
    """

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    is_single: bool

    @property
    def observed_weights(self) -> np.ndarray:
        """The weights, 1 if there are none, and 0 in gaps; (n, m)."""
        weights = np.ones((), self.y.dtype) if self.weights is None else self.weights.T
        return np.where(np.isnan(self.y), 0, weights.T if weights.ndim == 2 else weights[..., None])

    def astype(self, dtype: np.dtype) -> Data:
        """The data in another dtype."""
        weights = None if self.weights is None else self.weights.astype(dtype)
        return replace(self, X=self.X.astype(dtype), y=self.y.astype(dtype), weights=weights)

    def of(self, targets: np.ndarray) -> Data:
        """The data of some of the targets."""
        weights = self.weights
        return replace(
            self,
            y=self.y[:, targets],
            weights=weights if weights is None or weights.ndim == 1 else weights[:, targets],
        )


def padded(data: Data) -> Data:
    """The data with gaps appended, up to one of few numbers of rows, unless there are many rows or targets.

    Else every fold of a cross-validation, of 80 rows or of 81, would compile programs of its own.
    """
    n, m = data.y.shape
    rows = next((rows for rows in PADDED_ROWS if rows >= n), n)
    if m > PADDED_TARGETS or rows == n:
        return data
    X = np.concatenate([data.X, np.broadcast_to(data.X[:1], (rows - n, data.X.shape[1]))])
    y = np.concatenate([data.y, np.full((rows - n, m), np.nan, data.y.dtype)])
    weights = data.weights
    if weights is not None:
        weights = np.concatenate([weights, np.zeros((rows - n, *weights.shape[1:]), weights.dtype)])
    return replace(data, X=X, y=y, weights=weights)


def check_data(
    estimator: Any, X: Any, y: Any, sample_weight: Any, reset: bool = True, may_be_empty: bool = False
) -> Data:
    """The data of a regression; results have the dtype that X and y have in common.

    Args:
        estimator: gets `n_features_in_` and `feature_names_in_`.
        X: (n, k).
        y: (n,) or (n, m), NaN in gaps.
        sample_weight: None, a number, (n,), or (n, m) like y.
        reset: whether X may have other columns than before.
        may_be_empty: whether y may have no observation, as a chunk of many.

    Raises:
        ValueError: if shapes do not fit together, X is not finite, y is infinite or has no observation, or a
            weight is negative or not finite.
    """
    X, y = check_X_and_y(estimator, X, y, "numeric", reset)
    dtype = X.dtype if y.dtype.kind in "biu" else np.result_type(X, y)
    dtype = np.dtype(np.float32 if dtype.itemsize <= 4 else np.float64)
    X, y = X.astype(dtype, copy=False), y.astype(dtype, copy=False)
    weights = check_weights(sample_weight, X, y.shape, may_be_empty)
    data = Data(X, y if y.ndim == 2 else y[:, None], weights, y.ndim == 1)
    if not may_be_empty and not data.observed_weights.any():
        raise ValueError("y has no observation: all values are NaN, or have a sample_weight of zero")
    return data


def check_X_and_y(estimator: Any, X: Any, y: Any, y_dtype: Any, reset: bool = True) -> tuple[Any, Any]:
    """X without and y with gaps, as arrays of equal length."""
    columns: Any = {"dtype": FLOATS}
    targets: Any = {"ensure_2d": False, "dtype": y_dtype, "ensure_all_finite": "allow-nan"}
    separately: Any = (columns, targets)
    X, y = validate_data(estimator, X, y, reset=reset, validate_separately=separately)
    check_consistent_length(X, y)
    return X, y


def are_numbers(value: Any) -> bool:
    """Whether an argument is a number, or an array of them."""
    return np.asarray(value).dtype.kind in "fiu"


def check_new(estimator: Any, X: Any) -> np.ndarray:
    """X for predictions, (n, k), with the columns of the fit."""
    return np.asarray(validate_data(estimator, X, reset=False, dtype=FLOATS))


def check_weights(
    sample_weight: Any, X: np.ndarray, shape: tuple[int, ...], may_be_zero: bool = False
) -> np.ndarray | None:
    """The weights as (n,), or as (n, m) for y of this shape."""
    if sample_weight is None:
        return None
    if may_be_zero and not np.any(sample_weight):
        return np.zeros(len(X), X.dtype)
    dtype: Any = X.dtype
    if len(shape) == 2 and np.shape(sample_weight) == shape:
        weights = check_array(sample_weight, dtype=dtype, input_name="sample_weight")
    else:
        weights = _check_sample_weight(sample_weight, X, dtype=dtype)
    if (weights < 0).any():
        raise ValueError("Negative values in data passed to `sample_weight`")
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weights
