"""What the compiled core looks like from outside, and to the compilers."""

import shutil
import struct
import subprocess
from pathlib import Path

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
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-Wno-psabi", "-fsyntax-only"]
    done = subprocess.run([compiler, *flags, str(source)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
