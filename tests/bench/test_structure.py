"""The benchmarks import downwards only, their commands explain themselves, and every table has a command."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from bench import results
from bench.report import tables

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"
# Each may import those before it, and the root of the package, which imports nothing.
LAYERS = ("report", "measure", "data", "peers", "trials", "experiments", "suites", "results", "sanitize", "scale")
COMMANDS = sorted(path.stem for path in (BENCH / "experiments").glob("[!_]*.py"))
HEAVY = ("torch", "sklearn", "matplotlib", "polars", "dask", "pytest")
LINES, FUNCTION_LINES = 400, 50


def files():
    return sorted(BENCH.rglob("*.py"))


def imported(path):
    """Names of the modules of bench that a file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "bench":
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bench."):
            module = node.module.removeprefix("bench.")
            folder = BENCH.joinpath(*module.split("."))
            yield from (f"{module}.{name.name}" if folder.is_dir() else module for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name.removeprefix("bench.") for name in node.names if name.name.startswith("bench."))


def test_imports_point_down_only():
    seen = 0
    for path in files():
        layer = path.relative_to(BENCH).parts[0].removesuffix(".py")
        for name in imported(path):
            first = name.split(".")[0]
            if first == "ROOT":
                continue
            seen += 1
            assert layer in LAYERS, f"{path} must not import bench.{name}"
            below = LAYERS.index(first) < LAYERS.index(layer)
            assert below or (first == layer and layer != "experiments"), f"{path} must not import bench.{name}"
    assert seen > 100


def test_no_modules_of_one_folder_import_each_other_in_a_circle():
    graph = {}
    for path in files():
        name = ".".join(path.relative_to(BENCH).with_suffix("").parts)
        graph[name] = {found for found in imported(path) if "." in found}
    done = set()

    def visit(name, way):
        assert name not in way, f"a circle of imports: {' -> '.join([*way, name])}"
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, [*way, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    assert len(done) >= len(graph) > 30


def test_files_and_functions_are_short():
    for path in files():
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= LINES, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < FUNCTION_LINES, f"{path}: {node.name}"


def test_commands_import_no_library_before_they_need_it():
    names = [f"bench.experiments.{name}" for name in COMMANDS] + ["bench.results"]
    code = f"import sys, importlib; [importlib.import_module(name) for name in {names}]; "
    code += f"print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_the_command_its_time_and_its_needs(name, capsys):
    command = importlib.import_module(f"bench.experiments.{name}")
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    assert f"usage: python -m bench.experiments.{name}" in text
    assert f"``python -m bench.experiments.{name} [--" in text
    assert " takes " in text


def test_every_table_has_a_command_and_a_place():
    modules = {results.command(table)[0].removeprefix("bench.experiments.") for table in results.TABLES}
    assert modules == set(COMMANDS) - {"neural_peers", "paired_kernels"}  # part of another table; wants another core
    text = tables.RESULTS.read_text(encoding="utf-8")
    for table in results.TABLES:
        assert all(text.count(line) == 1 for line in tables.between(table)), table
        module, *arguments = results.command(table)
        assert f"`{' '.join(['python -m', module, *arguments])}`" in text


def test_an_unknown_table_ends_the_command():
    with pytest.raises(SystemExit, match="no table is called nothing; there are: speed, "):
        results.main(["speed", "nothing"])
