"""Build of the compiled core: one extension module, Cython over OpenMP-parallel C.

Environment variables read here:

SAFFU_OPENMP  ``auto`` (default) probes the compiler and builds sequentially if the probe fails;
              ``1`` fails loudly instead; ``0`` leaves OpenMP out.
SAFFU_SIMD    ``1`` (default) compiles AVX2 and AVX-512 variants of the kernels, chosen at run time;
              ``0`` compiles the portable baseline only.
SAFFU_SANITIZE  a value for ``-fsanitize=``, such as ``address,undefined`` (for development).
"""

import os
import subprocess
import sys
import tempfile
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PROBE = """
#include <omp.h>
int main(void) { int n = 0;
#pragma omp parallel reduction(+ : n)
n += 1;
return n < omp_get_max_threads(); }
"""
GNU_FLAGS = [
    "-O3", "-g0", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math",
    "-ffp-contract=fast", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi",
    # Loops begin where a fetch of instructions does: without this, unrelated changes move short loops by up to 10 %.
    "-falign-functions=64", "-falign-loops=32",
]  # fmt: skip
# Only the module's initialiser is exported. Hidden visibility alone does not do that: the functions that gcc dispatches
# between SIMD variants, and locks of clang's OpenMP, ignore it.
EXPORTS = "_core/exports.map"
LIMITED_API = "0x030B0000"  # CPython 3.11


class BuildCore(build_ext):
    """Adds the compiler flags, OpenMP after a probe, and the SIMD variants."""

    def build_extensions(self) -> None:
        msvc = self.compiler.compiler_type == "msvc"
        compile_args = ["/O2", "/std:c11"] if msvc else list(GNU_FLAGS)
        link_args: list[str] = []
        openmp = self.openmp_flags(msvc)
        if openmp is not None:
            compile_args += openmp
            link_args += openmp if not msvc else []
        if os.environ.get("SAFFU_SIMD", "1") == "0":
            compile_args.append("/DSAFFU_NO_SIMD" if msvc else "-DSAFFU_NO_SIMD")
        sanitize = os.environ.get("SAFFU_SANITIZE")
        if sanitize:
            flags = [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer", "-g"]
            compile_args += [*flags, "-DSAFFU_NO_SIMD"]
            link_args += flags
        if not msvc and sys.platform.startswith(("linux", "freebsd", "netbsd", "openbsd")):  # linkers that know ELF
            link_args.append(f"-Wl,--version-script={EXPORTS}")
        for extension in self.extensions:
            extension.extra_compile_args = compile_args
            extension.extra_link_args = link_args
        super().build_extensions()

    def openmp_flags(self, msvc: bool) -> list[str] | None:
        """Flags that compile and link an OpenMP program here, or None for a sequential build."""
        wanted = os.environ.get("SAFFU_OPENMP", "auto")
        if wanted == "0":
            return None
        candidates = [["/openmp"]] if msvc else [["-fopenmp"], ["-Xpreprocessor", "-fopenmp", "-lomp"]]
        for flags in candidates:
            if self.links(flags, msvc):
                return flags
        message = "the compiler could not build an OpenMP program"
        if wanted == "1":
            sys.exit(f"SAFFU_OPENMP=1, but {message}; install its OpenMP runtime or set SAFFU_OPENMP=0")
        print(f"saffu: {message}; building a sequential core (saffu.show_config() will say so)", file=sys.stderr)
        return None

    def links(self, flags: list[str], msvc: bool) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "probe.c")
            with open(source, "w") as file:
                file.write(PROBE)
            try:
                objects = self.compiler.compile([source], output_dir=folder, extra_postargs=flags)
                self.compiler.link_executable(
                    objects, os.path.join(folder, "probe"), extra_postargs=[] if msvc else flags
                )
                subprocess.run([os.path.join(folder, "probe")], check=True, timeout=60)
            except Exception:
                return False
        return True


core = Extension(
    "saffu._core",
    ["_core/bindings.pyx", *sorted(glob("_core/src/*.c"))],
    include_dirs=["_core/src"],
    depends=[*glob("_core/src/*.h"), *glob("_core/*.pxi"), "_core/kernels.pxd", EXPORTS],
    define_macros=[("Py_LIMITED_API", LIMITED_API)],
    py_limited_api=True,
)
setup(
    ext_modules=cythonize(
        [core],
        include_path=["_core"],
        build_dir="build/cython",
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "freethreading_compatible": True,
            "autotestdict": False,
        },
    ),
    cmdclass={"build_ext": BuildCore},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
