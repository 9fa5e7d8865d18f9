"""scikit-learn's own checks of estimators, on BitCipherTransformer; it has none for transformers of texts."""

import pytest

pytest.importorskip("sklearn.utils.estimator_checks")

from helpers.sklearn_checks import Checks, check_array_api
from saffu import BitCipherTransformer

CHECKS = Checks([BitCipherTransformer(), BitCipherTransformer(3, shared=True)])


@pytest.mark.filterwarnings("default")  # some checks warn of what they do themselves
@pytest.mark.parametrize(CHECKS.names, CHECKS.cases, **CHECKS.options)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_at_least_40_checks_of_each_run():
    assert min(CHECKS.green().values()) >= 40


def test_array_api_dispatch_changes_nothing():
    check_array_api("BitCipherTransformer()")
