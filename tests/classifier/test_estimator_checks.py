"""scikit-learn's own checks of estimators, on both classifiers of rows."""

import pytest

pytest.importorskip("sklearn.utils.estimator_checks")

from helpers.sklearn_checks import Checks, check_array_api
from saffu import ExplicitNetwork, SoftmaxLayer

NEGATIVE = "feeds negative input, whatever the tag positive_only says"
FAILURES = {"SoftmaxLayer": {"check_decision_proba_consistency": NEGATIVE}, "ExplicitNetwork": {}}
CHECKS = Checks(
    [SoftmaxLayer(), ExplicitNetwork(hidden=(12,), rounds=3, corrections=2)],
    lambda estimator: FAILURES[type(estimator).__name__],
)


@pytest.mark.filterwarnings("default")  # some checks warn of what they do themselves
@pytest.mark.parametrize(CHECKS.names, CHECKS.cases, **CHECKS.options)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_at_least_45_checks_of_each_run():
    assert len(CHECKS.green()) == 2
    assert min(CHECKS.green().values()) >= 45
    assert CHECKS.failing().total() == 1


def test_array_api_dispatch_changes_nothing():
    check_array_api("SoftmaxLayer()", "ExplicitNetwork(hidden=(12,), rounds=3, corrections=2)")
