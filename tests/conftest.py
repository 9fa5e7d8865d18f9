"""Shared fixtures. The tests run against the installed package, not against an unbuilt checkout beside them."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
if not list((ROOT / "saffu").glob("_core*.so")) + list((ROOT / "saffu").glob("_core*.pyd")):
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != ROOT]
sys.path.append(str(ROOT / "tests"))  # for reference.py

settings.register_profile("saffu", max_examples=40, deadline=None, derandomize=True, database=None)
settings.load_profile("saffu")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of the real data sets, or skip."""
    folder = os.environ.get("SAFFU_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set SAFFU_DATA to the folder of the data sets to run this test")
    return Path(folder)
