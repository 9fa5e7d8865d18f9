"""The thread policy."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import saffu
from saffu.utils.threads import available_cpus, resolve_threads

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


@pytest.mark.parametrize("bad", [1025, 40_000, 99_999_999_999, 10**10, 10**30])
def test_absurd_numbers_of_threads_are_an_error(bad):
    for use in (
        lambda: resolve_threads(bad),
        lambda: saffu.cooccurrence([0, 1], 1, n_threads=bad),
        lambda: saffu.ExplicitLM(n_threads=bad),
        lambda: saffu.SoftmaxLayer(n_threads=bad).fit([[1.0], [2.0]], [0, 1]),
        lambda: saffu.SaffuLM(n_threads=bad),
    ):
        with pytest.raises(ValueError, match=f"n_threads must be at most 1024, got {bad}"):
            use()


def test_the_command_line_refuses_absurd_numbers_of_threads(tmp_path):
    """One line, even where starting so many threads would not be possible."""
    (tmp_path / "text.txt").write_text("one two three " * 50)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)); "
    code = limit + "from saffu.cli.main import main; print(*(main([*sys.argv[1:], n]) for n in {numbers}))"
    numbers = ["99999999999", "40000", "100000"]
    command = [sys.executable, "-c", f"import sys; {code.format(numbers=numbers)}"]
    command += ["train", "text.txt", "--out", "m.saffu", "--threads"]
    env = os.environ | {"PYTHONPATH": str(Path(saffu.__file__).parent.parent)}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "2 2 2\n")
    lines = done.stderr.splitlines()
    assert len(lines) == len(numbers)
    assert all("n_threads must be at most 1024" in line for line in lines)


def test_more_threads_than_help_are_not_started():
    """Results do not depend on their number: a thousand for two processors would only cost memory."""
    ids = np.arange(100_000) % 50
    assert resolve_threads(1024) == max(16, 4 * (os.cpu_count() or 1))
    expected = saffu.cooccurrence(ids, 1, n_threads=1).data
    np.testing.assert_array_equal(saffu.cooccurrence(ids, 1, n_threads=1024).data, expected)
    assert threads_in_a_new_process(OMP_NUM_THREADS="40000") <= 1024


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
