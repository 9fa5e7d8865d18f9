"""scikit-learn's own checks of estimators, as parameters of a test."""

import os
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

from sklearn.utils.estimator_checks import parametrize_with_checks

import saffu

APART = "check_array_api_input"  # needs an environment variable from the start of the process


class Checks:
    """The checks of some estimators: `names`, `cases` and `options` of pytest.mark.parametrize."""

    def __init__(self, estimators, failures=lambda estimator: {}):
        with warnings.catch_warnings():
            # They are estimators by what they do and not by inheritance, which would need scikit-learn.
            warnings.filterwarnings("ignore", "Estimator .* does not inherit from `sklearn.base.BaseEstimator`")
            warnings.filterwarnings("ignore", "Can't test estimator ExplicitTextClassifier")
            mark = parametrize_with_checks(estimators, expected_failed_checks=failures, xfail_strict=True)
        self.names, cases = mark.args
        self.cases = [case for case in cases if APART not in str(case)]
        self.options = mark.kwargs

    def green(self):
        """How many checks are expected to pass, by estimator."""
        return Counter(repr(case[0]) for case in self.cases if not hasattr(case, "marks"))

    def failing(self):
        """How many are expected to fail, by estimator."""
        return Counter(repr(case.values[0]) for case in self.cases if hasattr(case, "marks"))


def check_array_api(*estimators):
    """The check that needs a process of its own; each estimator as the expression that makes it, of saffu."""
    script = f"""
import saffu
from sklearn.utils.estimator_checks import {APART}
for estimator in ({", ".join(f"saffu.{made}" for made in estimators)},):
    {APART}(type(estimator).__name__, estimator, array_namespace="numpy", expect_only_array_outputs=False)
print("done")
"""
    environment = os.environ | {"SCIPY_ARRAY_API": "1", "PYTHONPATH": str(Path(saffu.__file__).parents[1])}
    command = [sys.executable, "-P", "-c", script]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.stdout == "done\n", run.stderr
