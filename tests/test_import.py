"""What ``import saffu`` loads: nothing optional, and of the package itself only what is asked for."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import saffu

ROOT = Path(__file__).resolve().parent.parent
# Where a package is imported by another name than that of its distribution.
IMPORTED_AS = {
    "ctc-beam-decoder": "ctc_beam_decoder",
    "flashlight-text": "flashlight",
    "import-linter": "importlinter",
    "scikit-learn": "sklearn",
}
NEEDED = {"saffu"}  # an extra that names other extras


def optional_libraries():
    """Names under which what the extras install is imported."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    names = {re.match(r"[\w.-]+", requirement).group() for listed in extras.values() for requirement in listed} - NEEDED
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}


def loaded_by(code):
    """Names of the modules that are loaded once the code has run in a process of its own."""
    script = f"import sys\nsys.path[:0] = sys.argv[1:]\n{code}\nprint(*sys.modules)"
    command = [sys.executable, "-P", "-c", script, str(Path(saffu.__file__).parents[1])]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_no_optional_library_is_loaded():
    optional = optional_libraries()
    assert {"torch", "sklearn", "matplotlib", "polars", "dask", "kenlm", "flashlight", "zstandard"} <= optional
    assert optional & loaded_by("import saffu") == set()


def test_no_optional_library_is_loaded_by_public_names_and_the_command():
    every_name = (
        "import saffu, saffu.plot, saffu.kenlm, saffu.cli.main\nfor name in saffu.__all__: getattr(saffu, name)"
    )
    loaded = loaded_by(every_name)
    assert {"saffu.attention_lm.model", "saffu.vectorizers", "saffu.plot.reliability"} <= loaded
    assert optional_libraries() & loaded == set()


def test_import_saffu_loads_no_model_and_no_scipy():
    loaded = loaded_by("import saffu")
    assert "saffu._core" in loaded
    assert {name for name in loaded if name.startswith("saffu.")} <= {
        "saffu._core",
        "saffu.utils",
        "saffu.utils.interrupts",
    }
    assert "scipy" not in loaded


def test_a_name_is_loaded_when_it_is_asked_for():
    assert "saffu.classifier.softmax_layer" in loaded_by("import saffu; saffu.SoftmaxLayer")
    assert "saffu.text" in loaded_by("from saffu import text")
    assert "saffu.ngram_lm.model" in loaded_by("from saffu import *\nExplicitLM")


def test_the_interpreter_and_type_checkers_are_told_the_same():
    tree = ast.parse(Path(saffu.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    told = {alias.name: statement.module for statement in block.body for alias in statement.names}
    assert told == saffu._MODULES
    assert sorted(told) == saffu.__all__
    assert set(saffu.__all__) <= set(dir(saffu))


def test_packages_inside_are_attributes():
    assert "saffu.ngram_lm.log_linear" in loaded_by("import saffu; saffu.ngram_lm.model.ExplicitLM")
    names = {path.name for path in Path(saffu.__file__).parent.iterdir() if (path / "__init__.py").exists()}
    assert set(saffu._PACKAGES) <= names


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(saffu, "ImplicitLM")
    assert getattr(saffu, "ImplicitLM", None) is None


def test_load_knows_every_kind_at_once(tmp_path):
    saffu.ExplicitLM(order=2).fit([2, 3, 2, 3]).save(tmp_path / "model.saffu")
    code = f"from saffu.utils.checkpoint import load; assert load({str(tmp_path / 'model.saffu')!r}).n_tokens == 4"
    assert "saffu.ngram_lm.model" in loaded_by(code)
