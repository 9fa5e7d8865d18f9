"""The thread policy."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import saffu
from saffu._threads import available_cpus, resolve_threads

SHOW = "import saffu; print(saffu.show_config()['threads'])"


def threads_in_a_new_process(**environment):
    env = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    env |= {"PYTHONPATH": str(Path(saffu.__file__).parent.parent), **environment}
    return int(subprocess.run([sys.executable, "-P", "-c", SHOW], env=env, check=True, capture_output=True).stdout)


def test_default_is_the_cpus_or_what_the_environment_says():
    if not saffu.show_config()["openmp"]:
        assert threads_in_a_new_process() == 1
        return
    assert threads_in_a_new_process() == available_cpus()
    assert threads_in_a_new_process(OMP_NUM_THREADS="1") == 1
    assert threads_in_a_new_process(OMP_NUM_THREADS="3,2") == 3


@pytest.mark.parametrize("bad", [0, -1])
def test_fewer_than_one_thread_is_an_error(bad):
    with pytest.raises(ValueError, match="n_threads must be at least 1"):
        resolve_threads(bad)


@pytest.mark.parametrize("bad", [1.0, "2", True])
def test_other_types_are_an_error(bad):
    with pytest.raises(TypeError, match="n_threads must be a positive integer"):
        resolve_threads(bad)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_uses_one_thread_and_does_not_hang():
    ids = np.arange(100_000) % 50
    expected = saffu.cooccurrence(ids, 1, n_threads=2).data  # starts a team in the parent
    child = os.fork()
    if child == 0:
        same = resolve_threads(2) == 1 and (saffu.cooccurrence(ids, 1, n_threads=2).data == expected).all()
        os._exit(0 if same else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
