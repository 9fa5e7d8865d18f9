"""Shared fixtures of the benchmark suites."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # read once, when polars is imported

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))


@pytest.fixture
def one_thread():
    """BLAS and OpenMP of every library on one thread."""
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    with limits(1):
        yield


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of the real data sets, or skip."""
    folder = os.environ.get("SAFFU_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set SAFFU_DATA to the folder of the data sets to run this benchmark")
    return Path(folder)
