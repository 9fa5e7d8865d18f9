"""Run the kernel tests under AddressSanitizer and UndefinedBehaviorSanitizer.

``python -m bench.sanitize [ARGUMENT ...]`` takes a few minutes. Arguments, if any, go to pytest in place of ``-m
kernels``.

The core is built with both from a clean copy of the sources in a temporary folder; nothing of the checkout changes.
Exits non-zero if a test fails or a sanitizer reports anything. Needs gcc (or another compiler with libasan).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from bench import ROOT

SANITIZERS = "address,undefined"
FINDING = re.compile(r"runtime error: .*|ERROR: AddressSanitizer.*")


def run(*command: str | Path, **settings) -> subprocess.CompletedProcess[str]:
    """Run a command and leave its output on the terminal."""
    return subprocess.run([str(word) for word in command], text=True, **settings)


def copy_sources(target: Path) -> None:
    """Copy what a build and its tests need, without anything that was built."""
    built = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "build")
    for name in ("_core", "saffu", "tests", "bench"):
        shutil.copytree(ROOT / name, target / name, ignore=built)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, target)


def build(source: Path, site: Path) -> None:
    """Install the package of ``source`` with an instrumented core into the folder ``site``."""
    isolation = ["--no-build-isolation"] if find_spec("Cython") and find_spec("setuptools") else []
    # Python is built with -fwrapv, under which a signed overflow would count as defined.
    flags = f"{os.environ.get('CFLAGS', '')} -fno-wrapv"
    environment = {**os.environ, "SAFFU_SANITIZE": SANITIZERS, "CFLAGS": flags}
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *isolation]
    run(*pip, "--target", site, source, env=environment, check=True)


def preloaded() -> str:
    """Runtime libraries that must be loaded before Python itself."""
    compiler = os.environ.get("CC", "gcc").split()[0]
    found = []
    for library in ("libasan.so", "libubsan.so"):
        name = run(compiler, f"-print-file-name={library}", stdout=subprocess.PIPE, check=True).stdout.strip()
        if not Path(name).is_absolute():
            sys.exit(f"{compiler} has no {library}; install the sanitizer runtimes of this compiler, or name one by CC")
        found.append(name)
    return " ".join(found)


def run_tests(source: Path, site: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Pytest against the instrumented core; the reports of the sanitizers go to stderr."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(site),
        "PYTHONMALLOC": "malloc",  # so that Python's own allocator hides no overrun
        "LD_PRELOAD": preloaded(),
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter keeps memory until it ends
        "UBSAN_OPTIONS": "print_stacktrace=1",  # and go on, so that one run lists all findings
    }
    check = "import pathlib, saffu._core; print('core under test:', saffu._core.__file__)"
    run(sys.executable, "-P", "-c", check, cwd=source, env=environment, check=True)
    # Without -s pytest would keep for itself what is written beside the tests.
    command = [sys.executable, "-P", "-m", "pytest", "-s", "-q", *arguments]
    return run(*command, cwd=source, env=environment, stderr=subprocess.PIPE)


def main(argv: Sequence[str] | None = None) -> int:
    """Build, test, list the findings; 0 if there are none and every test passed."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.sanitize", description=__doc__, formatter_class=layout)
    _, arguments = parser.parse_known_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        source, site = Path(folder) / "source", Path(folder) / "site"
        source.mkdir()
        copy_sources(source)
        build(source, site)
        done = run_tests(source, site, arguments or ["-m", "kernels"])
    sys.stderr.write(done.stderr)
    findings = [line for line in done.stderr.splitlines() if FINDING.search(line)]
    print(f"\nsanitizers ({SANITIZERS}): {len(findings)} findings; pytest exit code {done.returncode}")
    print("\n".join(sorted(set(findings))))
    return 1 if findings or done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
