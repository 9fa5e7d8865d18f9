"""What the compiled core looks like from outside, and to the compilers."""

import platform
import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from saffu import _core

pytestmark = pytest.mark.kernels

SOURCES = sorted((Path(__file__).parents[2] / "_core" / "src").glob("*.c"))


def exported_symbols(file):
    """Names of the defined dynamic symbols of a 64-bit little-endian ELF file, other than local ones."""
    data = Path(file).read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        pytest.skip("not a 64-bit little-endian ELF file")
    start, size, n = (*struct.unpack_from("<Q", data, 40), *struct.unpack_from("<HH", data, 58))
    # sh_type, sh_offset, sh_size and sh_link of every section
    sections = [struct.unpack_from("<4xI16xQQI", data, start + i * size) for i in range(n)]
    (_, offset, length, link), *_ = [section for section in sections if section[0] == 11]  # SHT_DYNSYM
    names = sections[link][1]
    found = set()
    for place in range(offset, offset + length, 24):
        name, info, _, section = struct.unpack_from("<IBBH", data, place)
        if section and info >> 4:  # defined, and global, weak or unique
            begin = names + name
            found.add(data[begin : data.index(b"\0", begin)].decode())
    return found


def test_only_the_initialiser_is_exported():
    assert exported_symbols(_core.__file__) == {"PyInit__core"}


@pytest.mark.parametrize("compiler", ["gcc", "clang", "clang-14", "clang-19"])
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_compilers_have_nothing_to_warn_of(compiler, source):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    assert complaints(compiler, source) == ""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="variants are those of x86-64")
@pytest.mark.parametrize("compiler", ["gcc", "clang", "clang-14", "clang-19"])
def test_compilers_have_nothing_to_warn_of_in_the_choice_of_a_variant(compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    folder = SOURCES[0].parent
    names = re.findall(r"^\w+ (saffu_\w+)\(", (folder / "saffu.h").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(names) > 60
    listed = f"-DSAFFU_KERNELS(X)={' '.join(f'X({name})' for name in names)}"
    assert complaints(compiler, folder / "variants.c", "-DSAFFU_POINTERS=1", listed) == ""


def complaints(compiler, source, *more):
    """What a compiler says of a source."""
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-Wno-psabi", "-fsyntax-only", *more]
    done = subprocess.run([compiler, *flags, str(source)], capture_output=True, text=True, check=False)
    return done.stderr or f"exit {done.returncode}" * bool(done.returncode)


# ---- SIMD variants ---------------------------------------------------------------------------------------------------


def test_a_variant_is_chosen_by_the_loader_at_import_or_not_at_all():
    config = _core.config()
    assert config["simd_choice"] in ("loader", "import", "none")
    assert config["simd_variants"][-1] == "baseline"
    assert (len(config["simd_variants"]) == 1) == (config["simd_choice"] == "none")
    if config["simd_choice"] != "import":
        with pytest.raises(ValueError, match="not chosen by function pointers"):
            _core.choose_variant()


@pytest.fixture
def variants():
    """All variants that this processor has; afterwards the one that was in use is so again."""
    if _core.config()["simd_choice"] != "import":
        pytest.skip("the variants of this build are not chosen by function pointers")
    names = _core.config()["simd_variants"]
    found = [name for name in names if _core.choose_variant(name) == name]
    yield found
    _core.choose_variant(found[0])


def test_every_variant_computes_the_same(variants):
    """Counts to the bit, real numbers to rounding."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 50, 5000).astype(np.int32)
    X = rng.standard_normal((300, 70)).astype(np.float32)
    counts, probabilities = [], []
    for name in variants:
        assert _core.choose_variant(name) == name
        counts.append(_core.count(ids, ids, np.array([1, 2]), np.zeros(1, np.int64), 50, 50, 2))
        probabilities.append(_core.softmax(X, False, 2))
    assert variants[-1] == "baseline"
    exact = np.exp(X.astype(np.float64)) / np.exp(X.astype(np.float64)).sum(axis=1, keepdims=True)
    for one, other in zip(counts, probabilities, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, counts[0], strict=True))
        np.testing.assert_allclose(other, exact, rtol=2e-6)
    # The vectors of the best variant fuse multiplication and addition, those of the baseline do not.
    assert len(variants) == 1 or not np.array_equal(probabilities[0], probabilities[-1])


def test_no_variant_is_better_than_the_processor(variants):
    flags = Path("/proc/cpuinfo")
    if not flags.is_file():
        pytest.skip("the system does not list what the processor has")
    has = set(re.search(r"^flags\s*:(.*)$", flags.read_text(), re.MULTILINE).group(1).split())
    v3 = {"avx2", "bmi1", "bmi2", "fma", "f16c", "movbe", "abm"} <= has
    v4 = v3 and {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= has
    assert variants == ["x86-64-v4"] * v4 + ["x86-64-v3"] * v3 + ["baseline"]


def test_an_unknown_variant_is_refused(variants):
    with pytest.raises(ValueError, match="name must be one of x86-64-v4, x86-64-v3, baseline, got 'avx2'"):
        _core.choose_variant("avx2")
