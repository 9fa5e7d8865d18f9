"""Shared fixtures. The tests run against the installed package, not against an unbuilt checkout beside them.

Where ``CI`` is set the data sets must be there; with ``SAFFU_TEST_LIBRARIES=all`` a test that would be skipped because
a library is not installed fails instead. ``SAFFU_TEST_VARIANT`` names the SIMD variant to test, for a core that chooses
it by function pointers.
"""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
built = [*(ROOT / "saffu").glob("_core*.so"), *(ROOT / "saffu").glob("_core*.pyd")]
if not built:  # behind the installed package, where its tests still find bench
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != ROOT]
if not built or str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

settings.register_profile("saffu", max_examples=40, deadline=None, derandomize=True, database=None)
settings.load_profile("saffu")


@pytest.fixture(scope="session", autouse=True)
def _simd_variant():
    """Test the variant that is asked for, or fail if this processor or this build has it not."""
    if variant := os.environ.get("SAFFU_TEST_VARIANT"):
        from saffu import _core

        assert _core.choose_variant(variant) == variant


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of the real data sets, or skip."""
    folder = os.environ.get("SAFFU_DATA")
    if not folder or not Path(folder).is_dir():
        message = "set SAFFU_DATA to the folder of the data sets to run this test"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return Path(folder)


def _strict(report):
    """The report of a test or a module, failed if it was skipped for want of a library that must be there."""
    if (
        os.environ.get("SAFFU_TEST_LIBRARIES") == "all"
        and report.skipped
        and "could not import" in str(report.longrepr)
    ):
        report.outcome, report.longrepr = "failed", f"a library is missing: {report.longrepr[-1]}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return _strict((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _strict((yield))
