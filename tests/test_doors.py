"""The doors to torch and onnx: public names, examples, and one line where the library is not there."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import saffu

LIBRARIES = ("torch", "torchaudio", "transformers", "onnx", "onnxruntime", "flashlight", "kenlm")


def run(code):
    environment = os.environ | {"PYTHONPATH": str(Path(saffu.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def test_saffu_loads_none_of_the_libraries():
    code = f"import sys, saffu, saffu.kenlm, saffu.onnx; print([name for name in {LIBRARIES} if name in sys.modules])"
    done = run(code)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    ("library", "code", "line"),
    [
        ("torch", "import saffu.torch", "saffu.torch needs torch: pip install 'saffu[torch]'"),
        (
            "onnx",
            "import saffu.onnx; saffu.onnx.to_onnx(saffu.SoftmaxLayer().fit([[1.0], [2.0]], [0, 1]))",
            "onnx is not installed; pip install 'saffu[onnx]' installs it",
        ),
    ],
)
def test_where_a_library_is_not_there_one_line_names_the_extra(library, code, line):
    done = run(f"import sys; sys.modules[{library!r}] = None; import saffu; {code}")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == f"ImportError: {line}"


@pytest.mark.parametrize("door", ["torch", "onnx"])
def test_public_names_have_examples(door):
    pytest.importorskip(door)
    module = pytest.importorskip(f"saffu.{door}")
    for name in module.__all__:
        assert ">>>" in inspect.getdoc(getattr(module, name)), name
        required = [
            parameter.name
            for parameter in inspect.signature(getattr(module, name)).parameters.values()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        expected = [["linear", "X", "y"], ["network", "base"], ["network", "expert"], ["model", "path"]]
        assert len(required) == 1 or required in expected, name
