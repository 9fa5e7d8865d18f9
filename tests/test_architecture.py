"""The shape of the project: what the linters of imports and style do not look at."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import saffu

ROOT = Path(__file__).resolve().parent.parent
INSTALLED = Path(saffu.__file__).parent
MODULES = sorted((ROOT / "saffu").rglob("*.py"))
PACKAGES = sorted(path.parent for path in (ROOT / "saffu").glob("*/__init__.py"))
SOURCES = sorted((ROOT / "_core").rglob("*.[ch]"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

OPTIONAL = {"sklearn", "torch", "polars", "pandas", "matplotlib", "dask", "distributed", "kenlm", "flashlight"}
OPTIONAL |= {"tokenizers", "sentencepiece", "transformers", "lm_eval", "torchaudio", "onnx", "onnxruntime"}
# Files that stand for the library that they import.
ADAPTERS = {"torch.py", "torch_module.py", "torch_tensors.py", "dask_computation.py", "lm_eval.py"}
# A template, *_real.h, is part of the file whose name its own begins with.
INCLUDES = [
    ["saffu.h", "parallel.h"],
    ["vmath.h", "reals.h", "variants.h", "vectors_real.h", "counters.h", "class_order.h"],
    ["vectors.h", "windows.h", "count_row.h", "pool_rows_real.h"],
    ["pool.h"],
    ["pool_panel.h"],
    ["*_real.h"],
    ["*.c"],
]
MOST_LINES, MOST_IN_A_FUNCTION, MOST_ARGUMENTS, MOST_IN_A_KERNEL = 400, 50, 8, 60


def name(path):
    return str(path.relative_to(ROOT))


def functions(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def lines_of_code(node):
    """Lines of a function below its signature and its docstring."""
    first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
    return node.end_lineno - first.lineno + 1


def test_every_module_is_installed():
    assert {path.relative_to(INSTALLED) for path in INSTALLED.rglob("*.py")} == {
        path.relative_to(ROOT / "saffu") for path in MODULES
    }


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_says_what_it_is(package):
    doc = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8")))
    assert re.search(r"[Ii]mports? ", doc), "what it may import"
    first = re.search(r"Read\s+``(\w+\.py)``\s+first", doc)
    assert first, "which file to read first"
    assert (package / first.group(1)).is_file()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_files_and_functions_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    assert {
        node.name: lines_of_code(node) for node in functions(path) if lines_of_code(node) > MOST_IN_A_FUNCTION
    } == {}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_signatures_are_short(path):
    long = {}
    for node in functions(path):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        n = len([argument for argument in arguments if argument.arg not in ("self", "cls")])
        if n > MOST_ARGUMENTS and node.name != "__init__":
            long[node.name] = n
    assert long == {}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_optional_library_is_imported_at_the_top(path):
    if path.name in ADAPTERS:
        return
    assert OPTIONAL & {imported.split(".")[0] for imported in imported_at_the_top(path)} == set()


def test_importing_saffu_loads_no_optional_library():
    program = "import sys, saffu, saffu.cli.main; print(*sys.modules)"
    path = os.pathsep.join([str(INSTALLED.parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path}
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    loaded = {module.split(".")[0] for module in done.stdout.split()}
    assert "saffu" in loaded
    assert OPTIONAL & loaded == set()


def imported_at_the_top(path):
    for node in statements(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def statements(body):
    """Statements that run on import: those of the module, also within if, try and with; not those of functions."""
    for node in body:
        yield node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        for field in ("body", "orelse", "finalbody"):
            yield from statements(getattr(node, field, []))
        yield from statements(statement for handler in getattr(node, "handlers", []) for statement in handler.body)


# ---- the core --------------------------------------------------------------------------------------------------------


def depth_of_source(source):
    """Layer of a C file."""
    return next(depth for depth, layer in enumerate(INCLUDES) if any(Path(source).match(pattern) for pattern in layer))


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_includes_point_down(path):
    included = re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
    assert [source for source in included if not (path.parent / source).is_file()] == []
    assert [source for source in included if depth_of_source(source) >= depth_of_source(path.name)] == []
    templates = [source for source in included if source.endswith("_real.h")]
    assert all(source.startswith(f"{path.stem}_") for source in templates)


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_kernels_fit_a_screen(path):
    long, opened = {}, None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.endswith("{") and line[:1].strip() and not line.startswith(("enum", "struct", "typedef", "union")):
            opened = number, line
        if line == "}" and opened:
            if number - opened[0] > MOST_IN_A_KERNEL:
                long[opened[1]] = number - opened[0]
            opened = None
    assert long == {}


def test_core_knows_no_python():
    for path in SOURCES:
        assert "Python.h" not in path.read_text(encoding="utf-8"), path.name


# ---- the tests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_no_test_imports_another(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"^\s*(from|import)\s+(tests|test_\w+)\b", text, re.MULTILINE)
    if path.parent != ROOT / "tests" / "helpers" and path.name not in ("conftest.py", Path(__file__).name):
        assert "sys.path" not in text.replace("sys.path[:0] = sys.argv", "")  # which a child process does for itself


def test_every_package_has_tests():
    assert [package.name for package in PACKAGES if not list((ROOT / "tests" / package.name).glob("test_*.py"))] == []


def test_helpers_are_not_shadowed():
    assert importlib.util.find_spec("helpers").submodule_search_locations == [str(ROOT / "tests" / "helpers")]
