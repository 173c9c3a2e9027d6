"""The estimators: scikit-learn's contract and numbers; statsmodels' standard errors."""

import pickle
import subprocess
import sys

import numpy as np
import optax
import pandas as pd
import pytest
import sklearn
import statsmodels.api as sm
from sklearn import linear_model as peers
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, UndefinedMetricWarning
from sklearn.metrics import d2_tweedie_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from jaxreg import Status
from jaxreg.sklearn import (
    GradientDescentRegressor,
    HuberRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
)

ESTIMATORS = [
    LinearRegression(),
    Ridge(),
    HuberRegressor(),
    LogisticRegression(),
    PoissonRegressor(),
    GradientDescentRegressor(),
]


@pytest.mark.slow
@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_accepts(estimator, check):
    check(estimator)


N, K, M = 60, 3, 4

with_and_without_intercept = pytest.mark.parametrize(
    "fit_intercept", [True, pytest.param(False, marks=pytest.mark.slow)]
)


@pytest.fixture
def X(rng):
    return rng.normal(size=(N, K)) * [1, 2, 3] + [0, 5, -3]


@pytest.fixture
def Y(rng, X):
    return X @ rng.normal(size=(K, M)) + rng.normal(size=(N, M))


@pytest.fixture
def W(rng):
    return rng.uniform(0.1, 2, (N, M))


@pytest.fixture
def gappy(rng, Y):
    return np.where(rng.random(Y.shape) < 0.2, np.nan, Y)


@pytest.fixture
def counts(rng, X):
    return rng.poisson(np.exp(0.3 * X[:, :1] + np.zeros(M)))


def assert_same(ours, peer, target=None, tol=1e-10):
    coef, intercept = ours.coef_, ours.intercept_
    if target is not None:
        coef, intercept = coef[target], intercept[target] if np.ndim(intercept) else intercept
    assert coef.shape == peer.coef_.shape
    assert np.shape(intercept) == np.shape(peer.intercept_)
    np.testing.assert_allclose(coef, peer.coef_, rtol=tol, atol=tol)
    np.testing.assert_allclose(intercept, peer.intercept_, rtol=tol, atol=tol)


def assert_same_per_target(ours, peer, X, Y, W):
    """With the peer in a loop over targets, on the observations without gaps."""
    for j in range(Y.shape[1]):
        valid = ~np.isnan(Y[:, j])
        assert_same(ours, peer.fit(X[valid], Y[valid, j], W[valid, j]), j)


@with_and_without_intercept
def test_least_squares_is_that_of_scikit_learn(X, Y, W, gappy, fit_intercept):
    peer = peers.LinearRegression(fit_intercept=fit_intercept)
    model = LinearRegression(fit_intercept=fit_intercept)
    assert_same(model.fit(X, Y, W[:, 0]), peer.fit(X, Y, W[:, 0]))
    np.testing.assert_allclose(model.predict(X), peer.predict(X), rtol=1e-10)
    assert_same_per_target(model.fit(X, gappy, W), peer, X, gappy, W)
    assert_same(model.fit(X, Y[:, 0]), peer.fit(X, Y[:, 0]))


@pytest.mark.slow
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_ridge_is_that_of_scikit_learn(X, Y, W, gappy, fit_intercept):
    alphas = np.array([0.1, 1.0, 10.0, 0.0])
    model = Ridge(alphas, fit_intercept=fit_intercept)
    assert_same(model.fit(X, Y, W[:, 0]), peers.Ridge(alphas, fit_intercept=fit_intercept).fit(X, Y, W[:, 0]))
    assert (model.alpha_ == alphas).all()
    model = Ridge(2.0, fit_intercept=fit_intercept).fit(X, gappy, W)
    assert_same_per_target(model, peers.Ridge(2.0, fit_intercept=fit_intercept), X, gappy, W)


def test_alpha_is_chosen_per_target_as_by_scikit_learn(X, Y, W):
    alphas = np.logspace(-2, 3, 11)
    model = Ridge(alphas=alphas).fit(X, Y, W[:, 0])
    peer = peers.RidgeCV(alphas, alpha_per_target=True).fit(X, Y, W[:, 0])
    assert (model.alpha_ == peer.alpha_).all()
    assert_same(model, peer)
    assert Ridge(alphas=alphas, by="gcv").fit(X, Y).alpha_.shape == (M,)


@pytest.mark.slow
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_poisson_is_that_of_scikit_learn(X, counts, W, rng, fit_intercept):
    y = np.where(rng.random(counts.shape) < 0.2, np.nan, counts)
    for alpha in (0.0, 0.7):
        peer = peers.PoissonRegressor(
            alpha=alpha, fit_intercept=fit_intercept, solver="newton-cholesky", tol=1e-14
        )
        model = PoissonRegressor(alpha=alpha, fit_intercept=fit_intercept).fit(X, y, W)
        assert_same_per_target(model, peer, X, y, W)


@pytest.mark.slow
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("C", [0.3, np.inf])
def test_logistic_is_that_of_scikit_learn(X, Y, W, C, fit_intercept):
    y = np.where(Y[:, 0] + 5 * np.sin(99 * X[:, 0]) > np.mean(Y[:, 0]), "yes", "no")
    peer = peers.LogisticRegression(
        C=C, fit_intercept=fit_intercept, solver="newton-cholesky", tol=1e-14, max_iter=1000
    ).fit(X, y, W[:, 0])
    model = LogisticRegression(C=C, fit_intercept=fit_intercept).fit(X, y, W[:, 0])
    assert_same(model, peer)
    assert (model.classes_ == peer.classes_).all()
    assert (model.predict(X) == peer.predict(X)).all()
    np.testing.assert_allclose(model.predict_proba(X), peer.predict_proba(X), rtol=1e-9)
    np.testing.assert_allclose(model.predict_log_proba(X), peer.predict_log_proba(X), rtol=1e-9)
    np.testing.assert_allclose(model.decision_function(X), peer.decision_function(X), atol=1e-9)
    assert model.score(X, y) == peer.score(X, y)


@pytest.mark.slow
def test_descent_ends_at_least_squares(X, Y, gappy):
    peer = peers.LinearRegression()
    for optimizer in (optax.sgd, optax.adam):
        model = GradientDescentRegressor(optimizer, steps=1000).fit(X, gappy)
        assert_same_per_target(model, peer, X, gappy, np.ones_like(Y))
    with pytest.warns(ConvergenceWarning, match=r"4 of 4 targets were not fitted\n4 not_converged"):
        assert (GradientDescentRegressor(steps=3).fit(X, Y).status_ == Status.not_converged).all()


@pytest.mark.slow
def test_huber_is_near_scikit_learn_and_equal_at_its_scale(X, Y):
    y = Y[:, 0] + 50 * (np.arange(N) % 10 == 0)
    model = HuberRegressor().fit(X, y)
    residual = y - model.predict(X)
    assert model.scale_ == pytest.approx(np.median(abs(residual)) / 0.6744897501960817, rel=1e-9)
    clipped = np.clip(residual / model.scale_, -1.345, 1.345)
    np.testing.assert_allclose(clipped @ np.c_[np.ones(N), X], 0, atol=1e-7)  # the gradient of Huber's cost
    reference = sm.RLM(y, sm.add_constant(X), sm.robust.norms.HuberT()).fit(scale_est="mad", tol=1e-12)
    np.testing.assert_allclose(model.coef_, reference.params[1:], rtol=1e-3)
    assert abs(model.coef_ - peers.HuberRegressor(alpha=0).fit(X, y).coef_).max() < 0.1
    assert np.isnan(HuberRegressor(alpha=1.0).fit(X, y).bse_).all()


def test_standard_errors_are_those_of_statsmodels(X, gappy, W, statsmodels):
    model = LinearRegression().fit(X, gappy, W)
    for j in range(M):
        reference = statsmodels(sm.add_constant(X), gappy[:, j], W[:, j])
        bse = np.append(model.intercept_bse_[j], model.bse_[j])
        pvalues = np.append(model.intercept_pvalues_[j], model.pvalues_[j])
        np.testing.assert_allclose(bse, reference.bse, rtol=1e-10)
        np.testing.assert_allclose(pvalues, reference.pvalues, rtol=1e-8)
    robust = LinearRegression(cov_type="HC3").fit(X, gappy[:, 0])
    valid = ~np.isnan(gappy[:, 0])
    reference = sm.OLS(gappy[valid, 0], sm.add_constant(X[valid])).fit(cov_type="HC3")
    np.testing.assert_allclose(robust.bse_, reference.bse[1:], rtol=1e-10)


@pytest.mark.slow
def test_standard_errors_of_likelihoods_are_those_of_statsmodels(X, counts):
    family = sm.families.Poisson()
    reference = sm.GLM(counts[:, 0], sm.add_constant(X), family=family).fit(tol=1e-14)
    np.testing.assert_allclose(
        PoissonRegressor(alpha=0).fit(X, counts[:, 0]).bse_, reference.bse[1:], rtol=1e-8
    )
    y = counts[:, 1] > 1
    reference = sm.Logit(y, sm.add_constant(X)).fit(disp=0, tol=1e-14, method="newton")
    model = LogisticRegression(C=np.inf).fit(X, y)
    np.testing.assert_allclose(model.bse_[0], reference.bse[1:], rtol=1e-8)
    np.testing.assert_allclose(model.intercept_pvalues_[0], reference.pvalues[0], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_chunks_give_what_all_data_give(X, gappy, W, fit_intercept):
    whole = LinearRegression(fit_intercept=fit_intercept).fit(X, gappy, W)
    model = LinearRegression(fit_intercept=fit_intercept)
    for chunk in (slice(0, 2), slice(2, 40), slice(40, N)):
        model.partial_fit(X[chunk], gappy[chunk], W[chunk])
        if chunk.stop == 2:
            assert np.isin(model.status_, (Status.too_few_observations, Status.no_observations)).all()
    names = ["coef_", "bse_", "pvalues_", "status_"]
    for name in names + ["intercept_", "intercept_bse_", "intercept_pvalues_"] * fit_intercept:
        np.testing.assert_allclose(getattr(model, name), getattr(whole, name), rtol=1e-9, atol=1e-300)
    assert_same(
        model.fit(X[:40], gappy[:40]), LinearRegression(fit_intercept=fit_intercept).fit(X[:40], gappy[:40])
    )


@pytest.mark.slow
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_dependent_columns_have_the_solution_of_smallest_norm(X, Y, W, fit_intercept):
    X = np.column_stack([X, X[:, 0] - X[:, 1], np.full(N, 0.1)])
    options = {"fit_intercept": fit_intercept}
    peer = peers.LinearRegression(**options).fit(X, Y, W[:, 0])
    model = LinearRegression(**options).fit(X, Y, W[:, 0])
    assert_same(model, peer)
    assert (model.status_ == Status.rank_deficient).all()
    assert np.isnan(model.bse_).all()
    chunks = LinearRegression(**options).partial_fit(X[:9], Y[:9], W[:9, 0])
    assert_same(chunks.partial_fit(X[9:], Y[9:], W[9:, 0]), peer, tol=1e-8)
    few = LinearRegression(**options).fit(X[:3], Y[:3])
    assert_same(few, peers.LinearRegression(**options).fit(X[:3], Y[:3]))
    assert (few.status_ == Status.too_few_observations).all()


@pytest.mark.slow
def test_dependent_columns_of_likelihoods_have_the_solution_of_smallest_norm(X, counts):
    """Predictions are those of the independent columns, and no vector of the null space is in β."""
    twice = np.column_stack([X, X[:, 0] + X[:, 1]])
    model = PoissonRegressor(alpha=0).fit(twice, counts)
    np.testing.assert_allclose(
        model.predict(twice), PoissonRegressor(alpha=0).fit(X, counts).predict(X), rtol=1e-8
    )
    np.testing.assert_allclose(model.coef_ @ [1, 1, 0, -1], 0, atol=1e-8)
    assert (model.status_ == Status.rank_deficient).all()
    assert np.isnan(model.bse_).all()


def test_a_target_without_observations_is_nan_alone(X, Y):
    y = Y.copy()
    y[:, 1] = np.nan
    model = LinearRegression().fit(X, y)
    assert np.isnan(model.coef_[1]).all()
    assert model.status_.tolist() == [Status.ok, Status.no_observations, Status.ok, Status.ok]
    others = [0, 2, 3]
    peer = peers.LinearRegression().fit(X, Y[:, others])
    np.testing.assert_allclose(model.coef_[others], peer.coef_, rtol=1e-10)
    expected = r2_score(Y[:, others], peer.predict(X))
    assert model.score(X, y) == pytest.approx(expected, rel=1e-12)
    assert np.isnan(model.score(X, Y))  # target 1 has y, and no prediction


@pytest.mark.slow
def test_dtypes_are_those_of_the_data(X, Y):
    X32, Y32 = X.astype(np.float32), Y.astype(np.float32)
    for model in (LinearRegression(), Ridge()):
        assert model.fit(X32, Y32).coef_.dtype == model.predict(X32).dtype == np.float32
        assert model.fit(X32, Y).coef_.dtype == np.float64  # y keeps its digits
        assert model.fit(X, Y32).coef_.dtype == np.float64
    assert LinearRegression().fit(X32, Y32).bse_.dtype == np.float32
    assert LinearRegression().partial_fit(X32, Y32).partial_fit(X, Y).coef_.dtype == np.float32


def test_scores_are_those_of_scikit_learn(X, Y, gappy, W, counts):
    model = LinearRegression().fit(X, Y)
    assert model.score(X, Y, W[:, 0]) == pytest.approx(r2_score(Y, model.predict(X), sample_weight=W[:, 0]))
    valid = ~np.isnan(gappy)
    each = [r2_score(Y[v, j], model.predict(X)[v, j], sample_weight=W[v, j]) for j, v in enumerate(valid.T)]
    assert model.score(X, gappy, W) == pytest.approx(np.mean(each))
    constant = LinearRegression().fit(X, Y[:, 0])
    constant.coef_, constant.intercept_ = np.zeros(K), 1.0
    assert constant.score(X, np.ones(N)) == 1.0
    assert constant.score(X, np.full(N, 2.0)) == 0.0
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(constant.score(X[:1], Y[:1, 0]))
    rates = PoissonRegressor()
    rates.coef_, rates.intercept_, rates.n_features_in_ = np.full(K, 0.1), 0.2, K
    assert rates.score(X, counts[:, 0], W[:, 0]) == pytest.approx(
        d2_tweedie_score(counts[:, 0], rates.predict(X), sample_weight=W[:, 0], power=1)
    )


def test_estimators_clone_and_pickle(X, gappy):
    for model in (LinearRegression().partial_fit(X, gappy), Ridge(alphas=[1.0, 2.0]).fit(X, gappy)):
        again = pickle.loads(pickle.dumps(model))
        assert (again.predict(X) == model.predict(X)).all()
        assert not hasattr(clone(model), "coef_")
    again = pickle.loads(pickle.dumps(LinearRegression().partial_fit(X[:30], gappy[:30])))
    assert_same(again.partial_fit(X[30:], gappy[30:]), LinearRegression().fit(X, gappy))
    descent = clone(GradientDescentRegressor(optax.adam, learning_rate=0.2))
    assert pickle.loads(pickle.dumps(descent)).optimizer is optax.adam


def test_estimators_work_in_searches_and_pipelines(X, gappy):
    search = GridSearchCV(Ridge(), {"alpha": [0.1, 100.0]}, cv=3).fit(X, gappy)
    assert search.best_params_ == {"alpha": 0.1}
    pipeline = make_pipeline(StandardScaler(), LinearRegression()).fit(X, gappy)
    np.testing.assert_allclose(
        pipeline.predict(X), LinearRegression().fit(X, gappy).predict(X), rtol=1e-9, atol=1e-9
    )


def test_weights_are_routed(X, gappy, W):
    with sklearn.config_context(enable_metadata_routing=True):
        model = LinearRegression().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scores = cross_validate(model, X, gappy, params={"sample_weight": W}, cv=3)["test_score"]
    train, test = np.arange(20, N), np.arange(20)
    expected = LinearRegression().fit(X[train], gappy[train], W[train]).score(X[test], gappy[test], W[test])
    assert scores[0] == pytest.approx(expected, rel=1e-12)


def test_names_of_columns_are_kept(X, Y):
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model = LinearRegression().fit(frame, pd.Series(Y[:, 0]))
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    assert model.n_features_in_ == K
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame.rename(columns={"a": "z"}))


def test_mistakes_raise(X, Y):
    model, y = LinearRegression(), Y[:, 0]
    bad = X.copy()
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="X contains NaN"):
        model.fit(bad, y)
    with pytest.raises(ValueError, match="y contains infinity"):
        model.fit(X, np.where(np.arange(N) == 4, np.inf, y))
    with pytest.raises(ValueError, match="y has no observation"):
        model.fit(X, np.full(N, np.nan))
    with pytest.raises(TypeError, match="fit_intercept is True or False, got 'no'"):
        LinearRegression(fit_intercept="no").fit(X, y)
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        model.fit(X, y, -np.ones(N))
    with pytest.raises(ValueError, match="Sample weights must be 1D"):
        model.fit(X, y, np.ones((N, 2)))
    with pytest.raises(ValueError, match="at least one non-zero"):
        model.fit(X, Y, np.zeros((N, M)))
    with pytest.raises(ValueError, match='needs cov_type="nonrobust"'):
        LinearRegression(cov_type="HC3").partial_fit(X, y)
    with pytest.raises(ValueError, match=r"first chunk was \(n, 4\), and y is now \(n,\)"):
        model.partial_fit(X, Y).partial_fit(X, y)
    with pytest.raises(ValueError, match=r"alpha is a number or has shape \(4,\)"):
        Ridge(np.ones(3)).fit(X, Y)
    with pytest.raises(ValueError, match="C is a positive number"):
        LogisticRegression(C=0).fit(X, y > 0)
    with pytest.raises(ValueError, match="one class"):
        LogisticRegression().fit(X, y > 0, y > 0)
    with pytest.raises(ValueError, match="alpha is a number of 0 or more"):
        PoissonRegressor(alpha=-1.0).fit(X, abs(y))
    with pytest.raises(ValueError, match="are negative"):
        PoissonRegressor().fit(X, -abs(y))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (LogisticRegression(C="1"), "C is a positive number, or np.inf for no penalty; got '1'"),
        (PoissonRegressor(alpha=None), "alpha is a number of 0 or more, got None"),
        (HuberRegressor(epsilon=0), "epsilon is a positive number, got 0"),
        (HuberRegressor(epsilon="1"), "epsilon is a positive number, got '1'"),
        (Ridge(alphas=[[1.0, 2.0]]), "alphas are several positive numbers"),
        (GradientDescentRegressor("sgd"), "optimizer is a function of the learning rate such as optax.sgd"),
        (GradientDescentRegressor(learning_rate="1"), "learning_rate is a number of 0 or more, or None"),
        (GradientDescentRegressor(tol=-1.0), "tol is a number of 0 or more, or None; got -1.0"),
    ],
)
def test_wrong_arguments_are_named(X, Y, model, message):
    with pytest.raises((ValueError, TypeError), match=message):
        model.fit(X, abs(Y[:, 0]))


def test_mistakes_in_labels_and_scores_raise(X, Y):
    with pytest.raises(ValueError, match=r"takes labels \(n,\), got \(60, 4\)"):
        LogisticRegression().fit(X, Y > 0)
    with pytest.raises(ValueError, match=r"y has one class only, 1\.0;"):
        LogisticRegression().fit(X, np.ones(N))
    model = PoissonRegressor()
    model.coef_, model.intercept_, model.n_features_in_ = np.full(K, 0.1), 0.2, K
    with pytest.raises(ValueError, match="are negative"):
        model.score(X, -abs(Y[:, 0]))


@pytest.mark.slow
def test_a_target_with_negative_counts_is_nan_alone(X, counts):
    y = counts.astype(float)
    y[5, 2] = -1
    model = PoissonRegressor().fit(X, y)
    assert model.status_.tolist() == [Status.ok, Status.ok, Status.invalid_data, Status.ok]
    assert np.isfinite(model.coef_).all(axis=1).tolist() == [True, True, False, True]


@pytest.mark.slow
def test_separated_classes_warn_and_do_not_predict(X):
    with pytest.warns(ConvergenceWarning, match="no_minimum"):
        model = LogisticRegression(C=np.inf).fit(X, X[:, 0] > 0)
    assert model.status_ == Status.no_minimum
    with pytest.raises(ValueError, match="no coefficients"):
        model.predict(X)


def test_a_missing_extra_is_named():
    code = "import sys; sys.modules['sklearn'] = None; import jaxreg; jaxreg.sklearn"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'python -m pip install "jaxreg[sklearn]"' in run.stderr


def test_chunks_of_dependent_columns_in_other_units_and_without_observations(rng):
    b = rng.normal(size=60)
    X = np.column_stack([1e7 * rng.normal(size=60), b, 1 - b])
    y = X[:, 0] / 1e7 + 3 * b + 0.1 * rng.normal(size=60)
    chunks = LinearRegression()
    for rows in (slice(0, 25), slice(25, 60)):
        chunks.partial_fit(X[rows], y[rows])
    chunks.partial_fit(X[:5], np.full(5, np.nan)).partial_fit(X[:5], y[:5], np.zeros(5))
    whole = LinearRegression().fit(X, y)
    np.testing.assert_allclose(chunks.coef_, whole.coef_, rtol=1e-6)
    np.testing.assert_allclose(chunks.predict(X), whole.predict(X), rtol=1e-6, atol=1e-6)


def test_the_score_of_classes_leaves_gaps_out(X, rng):
    y = np.where(rng.random(N) < 0.5, 1.0, 0.0)
    y[3] = np.nan
    model = LogisticRegression().fit(X, y)
    seen = ~np.isnan(y)
    assert model.score(X, y) == model.score(X[seen], y[seen])
    assert model.score(X, y, np.ones(N)) == model.score(X[seen], y[seen])


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_labels_that_are_missing_are_gaps(X, rng, missing):
    y = np.where(rng.random(N) < 0.5, "yes", "no").astype(object)
    valid = np.arange(N) % 7 != 3
    gappy = np.where(valid, y, missing)
    model = LogisticRegression().fit(X, pd.Series(gappy))
    assert model.classes_.tolist() == ["no", "yes"]
    peer = peers.LogisticRegression(tol=1e-10).fit(X[valid], y[valid])
    np.testing.assert_allclose(model.coef_, peer.coef_, atol=1e-6)
    assert model.score(X, gappy) == peer.score(X[valid], y[valid])


def test_scores_take_a_column_for_a_single_target(X, Y):
    model = LinearRegression().fit(X, Y[:, 0])
    assert model.score(X, Y[:, :1]) == pytest.approx(r2_score(Y[:, 0], model.predict(X)))
    with pytest.raises(ValueError, match=r"y has shape \(60, 4\), and predictions have \(60,\)"):
        model.score(X, Y)
