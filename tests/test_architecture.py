"""The layers of the package and of the core: imports and includes point down only."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Each line may import from the lines above it only. A new module takes its place here.
LAYERS = [
    ["_core", "_interrupts", "_locks"],
    ["_threads", "_progress"],
    ["_validate", "compressed"],
    ["checkpoint", "fingerprints", "grid", "initial", "journal", "plot"],
    ["_config", "attention", "batches", "counts", "drawing", "labels", "row_sample", "sparse", "text"],
    ["ledger"],
    ["explicit", "ngram", "refine", "stack", "subclasses"],
    ["layer_scalars"],
    ["cells", "cipher", "context", "evidence", "hidden", "pooled", "layer"],
    ["sample"],
    ["units", "pooled_text", "priming", "network", "sample_files"],
    ["explicit_attention", "latent", "explicit_lm"],
    ["gradient_targets"],
    ["held_out"],
    ["passages", "residual"],
    ["output", "text_loss", "transformer"],
    ["bottom_up", "grow", "prototypes", "session"],
    ["learning", "new_units"],
    ["saffu_lm"],
    ["growing", "report"],
    ["roadmap"],
    ["__init__"],
    ["cli_arguments", "cli_files", "demo"],
    ["cli"],
    ["__main__"],
]
LAYER_OF = {module: depth for depth, layer in enumerate(LAYERS) for module in layer}
OPTIONAL = {"sklearn", "torch", "polars", "matplotlib", "dask"}
ADAPTERS = {"sklearn", "torch", "dask"}  # modules of ours named after the library that they adapt to
# A header of a template, *_real.h, is part of the file of its stem.
INCLUDES = [["saffu.h", "parallel.h"], ["vmath.h", "vectors.h"], ["*_real.h", "windows.h"], ["*.c"]]


def modules():
    return sorted((ROOT / "saffu").glob("*.py"))


def imports(path, top_only=False):
    """Dotted names that a file imports; ``from a import b`` yields a.b where b is one of our modules, else a."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in _top_level(tree.body) if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(["saffu"] * (node.level > 0) + [node.module] * (node.module is not None))
            known = [alias.name for alias in node.names if base == "saffu" and alias.name in LAYER_OF]
            yield from (f"saffu.{name}" for name in known)
            if len(known) < len(node.names):
                yield base


def _top_level(body):
    """Statements that run on import: those of the module, also within if, try and with; not those of functions."""
    for node in body:
        yield node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        for field in ("body", "orelse", "finalbody"):
            yield from _top_level(getattr(node, field, []))
        yield from _top_level(statement for handler in getattr(node, "handlers", []) for statement in handler.body)


def test_every_module_has_a_layer():
    assert [path.stem for path in modules() if path.stem not in LAYER_OF and path.stem not in ADAPTERS] == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_imports_point_down(path):
    own = [name.split(".") for name in imports(path) if name.split(".")[0] == "saffu"]
    targets = {parts[1] if len(parts) > 1 else "__init__" for parts in own}
    depth = LAYER_OF.get(path.stem, len(LAYERS))
    assert {target: LAYER_OF.get(target) for target in targets if LAYER_OF.get(target, depth) >= depth} == {}


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_no_optional_library_is_imported_at_the_top(path):
    allowed = {path.stem} & ADAPTERS
    assert (OPTIONAL - allowed) & {name.split(".")[0] for name in imports(path, top_only=True)} == set()


def depth_of_source(name):
    """Layer of a C file."""
    return next(depth for depth, layer in enumerate(INCLUDES) if any(Path(name).match(pattern) for pattern in layer))


@pytest.mark.parametrize("path", sorted((ROOT / "_core" / "src").glob("*.[ch]")), ids=lambda path: path.name)
def test_includes_point_down(path):
    included = re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name in included if not (path.parent / name).is_file()] == []
    assert [name for name in included if depth_of_source(name) >= depth_of_source(path.name)] == []
    templates = [name for name in included if name.endswith("_real.h")]
    assert set(templates) <= {f"{path.stem}_real.h"}


def test_core_knows_no_python():
    for path in (ROOT / "_core" / "src").glob("*.[ch]"):
        assert "Python.h" not in path.read_text(encoding="utf-8"), path.name
