"""scikit-learn's own checks of estimators, on both classifiers."""

import os
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import pytest

estimator_checks = pytest.importorskip("sklearn.utils.estimator_checks")

import saffu  # noqa: E402
from saffu import ExplicitNetwork, SoftmaxLayer  # noqa: E402

NEGATIVE = "feeds negative input, whatever the tag positive_only says"
EXPECTED_FAILURES = {
    "SoftmaxLayer": {"check_decision_proba_consistency": NEGATIVE},
    "ExplicitNetwork": {},
}
APART = "check_array_api_input"  # needs an environment variable from the start of the process


def parametrized():
    estimators = [SoftmaxLayer(), ExplicitNetwork(hidden=(12,), rounds=3, corrections=2)]
    with warnings.catch_warnings():
        # They are estimators by what they do and not by inheritance, which would need scikit-learn.
        warnings.filterwarnings("ignore", "Estimator .* does not inherit from `sklearn.base.BaseEstimator`")
        mark = estimator_checks.parametrize_with_checks(
            estimators,
            expected_failed_checks=lambda estimator: EXPECTED_FAILURES[type(estimator).__name__],
            xfail_strict=True,
        )
    names, cases = mark.args
    return names, [case for case in cases if APART not in str(case)], mark.kwargs


NAMES, CASES, OPTIONS = parametrized()


@pytest.mark.filterwarnings("default")  # some checks warn of what they do themselves
@pytest.mark.parametrize(NAMES, CASES, **OPTIONS)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_at_least_45_checks_of_each_run():
    green = Counter(type(case[0]).__name__ for case in CASES if isinstance(case, tuple) and not hasattr(case, "marks"))
    assert green.keys() == EXPECTED_FAILURES.keys()
    assert min(green.values()) >= 45
    for name, expected in EXPECTED_FAILURES.items():
        marked = [case for case in CASES if hasattr(case, "marks") and type(case.values[0]).__name__ == name]
        assert len(marked) == len(expected)


def test_array_api_dispatch_changes_nothing():
    script = f"""
from sklearn.utils.estimator_checks import {APART}
from saffu import ExplicitNetwork, SoftmaxLayer
for estimator in (SoftmaxLayer(), ExplicitNetwork(hidden=(12,), rounds=3, corrections=2)):
    {APART}(type(estimator).__name__, estimator, array_namespace="numpy", expect_only_array_outputs=False)
print("done")
"""
    environment = os.environ | {"SCIPY_ARRAY_API": "1", "PYTHONPATH": str(Path(saffu.__file__).parents[1])}
    command = [sys.executable, "-P", "-c", script]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.stdout == "done\n", run.stderr
