"""Check a built wheel: what it holds, its size, that it knows nothing of where it was built, and that it works alone.

``python .ci/check_wheel.py WHEEL`` needs an interpreter with the dependencies of saffu. The wheel is unpacked into one
empty folder and imported from another. Every fault is printed; the exit status is 1 if there is one.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

MOST_BYTES = 2_000_000
NAME = re.compile(r"saffu-[0-9.]+\w*-(?P<python>cp311-abi3|cp3\d+-cp3\d+t)-(?P<platform>[\w.]+)\.whl")
METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
# Libraries that repair tools put into a wheel: the OpenMP runtime.
BUNDLED = re.compile(r"(saffu\.libs|saffu/\.dylibs)/(lib(gomp|omp)[\w.-]*\.(so[\d.]*|dylib|dll)|\.load-order-[\w.-]+)")
# Folders of people and of build machines; what is found in the binary is shown.
ABSOLUTE = re.compile(
    rb"(?:/(?:home|root|Users|tmp|var|opt|usr|work|private|project|io|builds?|github|__w|mnt)/[\w.+/-]+"
    rb"|[A-Za-z]:\\[\w.+\\-]{3,})"
)
# Not of the build machine: files of the running system that libraries open, and interpreters that the format names.
OF_THE_SYSTEM = re.compile(rb"/(usr/(share|lib)/locale|usr/bin/env|var/run|tmp/?$|opt/intel)")
MEMBERS = ("text", "explicit", "classifier", "ngram_lm", "attention_lm", "transformer", "utils", "cli")
IMPORT = """
import saffu, sys
assert saffu.__file__.startswith(sys.argv[1]), saffu.__file__
config = saffu.show_config()
assert config["threads"] >= 1 and config["simd_variants"][-1] == "baseline", config
model = saffu.ExplicitLM(order=2, windows=(), induction=0).fit([2, 3, 4, 2, 3, 2, 3, 4] * 40)
assert 1 < model.perplexity([2, 3, 4, 2, 3]) < 5
print(config)
"""


def faults_of_contents(names: list[str], sources: Path | None) -> list[str]:
    """What is missing from a wheel, and what does not belong there."""
    faults = []
    cores = [name for name in names if re.fullmatch(r"saffu/_core[\w.-]*\.(so|pyd)", name)]
    if len(cores) != 1:
        faults.append(f"one compiled core was expected, got {cores}")
    for wanted in ("saffu/py.typed", "saffu/_core.pyi", *(f"saffu/{member}/__init__.py" for member in MEMBERS)):
        if wanted not in names:
            faults.append(f"{wanted} is missing")
    for name in names:
        metadata = name.partition(".dist-info/")[2]
        ours = name in cores or re.fullmatch(r"saffu/([\w/]+\.pyi?|py\.typed)", name)
        repaired = BUNDLED.fullmatch(name) or re.match(r"sboms/|DELVEWHEEL", metadata)
        if not (ours or metadata in METADATA or repaired):
            faults.append(f"{name} does not belong into a wheel")
    if sources is not None:
        modules = {str(path.relative_to(sources)) for path in (sources / "saffu").rglob("*.py")}
        faults += [f"{name} is missing" for name in sorted(modules - set(names))]
    return faults


def faults_of_paths(wheel: zipfile.ZipFile) -> list[str]:
    """Absolute paths of the machine that built it."""
    faults = []
    for name in wheel.namelist():
        if name.endswith((".so", ".pyd", ".dylib", ".dll")) or ".so." in name or name.endswith("RECORD"):
            for found in sorted(set(ABSOLUTE.findall(wheel.read(name)))):
                if not OF_THE_SYSTEM.match(found):
                    faults.append(f"{name} holds the path {found.decode()}")
    return faults


def faults_of_import(wheel: zipfile.ZipFile) -> list[str]:
    """What goes wrong when it is imported from an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        unpacked, empty = os.path.join(os.path.realpath(folder), "unpacked"), os.path.join(folder, "empty")
        os.mkdir(empty)
        wheel.extractall(unpacked)
        environment = os.environ | {"PYTHONPATH": unpacked, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-P", "-W", "error", "-c", IMPORT, unpacked]
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
        print(done.stdout, end="")
        return [f"it does not work in an empty folder:\n{done.stderr}"] if done.returncode else []


def main() -> int:
    """Check the wheel that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--sources", type=Path, help="a checkout, every module of which must be in the wheel")
    parser.add_argument("--no-import", action="store_true", help="for a wheel of another machine")
    options = parser.parse_args()
    size = options.wheel.stat().st_size
    faults = []
    if not NAME.fullmatch(options.wheel.name):
        faults.append(f"{options.wheel.name} is not the name of a wheel for the limited API or a free-threaded Python")
    if size >= MOST_BYTES:
        faults.append(f"it has {size:,} bytes; {MOST_BYTES:,} are too many")
    with zipfile.ZipFile(options.wheel) as wheel:
        faults += faults_of_contents(wheel.namelist(), options.sources) + faults_of_paths(wheel)
        if not options.no_import:
            faults += faults_of_import(wheel)
    for fault in faults:
        print(f"{options.wheel.name}: {fault}", file=sys.stderr)
    print(f"{options.wheel.name}: {size:,} bytes, {len(faults)} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
