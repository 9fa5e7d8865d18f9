"""Shared fixtures. The tests run against the installed package, not against an unbuilt checkout beside them."""

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


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of the real data sets, or skip."""
    folder = os.environ.get("SAFFU_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set SAFFU_DATA to the folder of the data sets to run this test")
    return Path(folder)
