"""scikit-learn's own checks of estimators, on BitCipherTransformer; it has none for transformers of texts."""

import os
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import pytest

estimator_checks = pytest.importorskip("sklearn.utils.estimator_checks")

import saffu  # noqa: E402
from saffu import BitCipherTransformer  # noqa: E402

APART = "check_array_api_input"  # needs an environment variable from the start of the process


def parametrized():
    with warnings.catch_warnings():
        # It is an estimator by what it does and not by inheritance, which would need scikit-learn.
        warnings.filterwarnings("ignore", "Estimator .* does not inherit from `sklearn.base.BaseEstimator`")
        mark = estimator_checks.parametrize_with_checks([BitCipherTransformer(), BitCipherTransformer(3, shared=True)])
    names, cases = mark.args
    return names, [case for case in cases if APART not in str(case)], mark.kwargs


NAMES, CASES, OPTIONS = parametrized()


@pytest.mark.filterwarnings("default")  # some checks warn of what they do themselves
@pytest.mark.parametrize(NAMES, CASES, **OPTIONS)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_at_least_40_checks_of_each_run():
    assert min(Counter(repr(case[0]) for case in CASES).values()) >= 40


def test_array_api_dispatch_changes_nothing():
    script = f"""
from sklearn.utils.estimator_checks import {APART}
from saffu import BitCipherTransformer
{APART}("BitCipherTransformer", BitCipherTransformer(), array_namespace="numpy", expect_only_array_outputs=False)
print("done")
"""
    environment = os.environ | {"SCIPY_ARRAY_API": "1", "PYTHONPATH": str(Path(saffu.__file__).parents[1])}
    command = [sys.executable, "-P", "-c", script]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.stdout == "done\n", run.stderr
