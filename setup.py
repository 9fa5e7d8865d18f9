"""Build of the compiled core: one extension module, Cython over OpenMP-parallel C.

Environment variables read here:

SAFFU_OPENMP  ``auto`` (default) probes the compiler and builds sequentially if the probe fails;
              ``1`` fails loudly instead; ``0`` leaves OpenMP out.
SAFFU_SIMD    ``auto`` (default, also ``1``) compiles AVX2 and AVX-512 variants of the kernels where the processor has
              them: inside one object that the loader links (gcc on Linux with glibc), else as ``pointer`` does;
              ``pointer`` compiles all kernels once for each variant and chooses by function pointers at import;
              ``0`` compiles the portable baseline only.
SAFFU_SANITIZE  a value for ``-fsanitize=``, such as ``address,undefined`` (for development).
SAFFU_EMULATOR  when cross-compiling, a command that runs programs of the target machine: the probe is one.

A free-threaded Python has no limited API: its module is for that version alone.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

PROBE = """
#include <omp.h>
int main(void) { int n = 0;
#pragma omp parallel reduction(+ : n)
n += 1;
return n < omp_get_max_threads(); }
"""
# Refused by compilers for other processors. The loader's variants are of those that parallel.h says.
PROBE_OF_LOADER = '#include "parallel.h"\n#if !SAFFU_HAS_VARIANTS\n#error\n#endif\n'
PROBE_OF_POINTERS = "#ifndef __x86_64__\n#error\n#endif\n"
# The variants that are chosen by pointers, best first, and what compiles them.
VARIANTS = {"v4": ["-march=x86-64-v4"], "v3": ["-march=x86-64-v3"], "baseline": []}
GNU_FLAGS = [
    "-O3", "-g0", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math",
    "-ffp-contract=fast", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi",
    # Loops begin where a fetch of instructions does: without this, unrelated changes move short loops by up to 10 %.
    "-falign-functions=64", "-falign-loops=32",
    # Nothing here throws: tables for that would be a fiftieth of the wheel.
    "-fno-asynchronous-unwind-tables",
]  # fmt: skip
# The bindings have no loops worth unrolling or moving, and no code worth copying: their code is a third smaller so.
BINDINGS_FLAGS = [
    "-O2", "-fno-tree-vectorize", "-fno-align-functions", "-fno-align-loops", "-fno-align-jumps", "-fno-align-labels",
    "-fno-ipa-cp", "-fno-tree-pre", "-fno-reorder-blocks", "-fno-reorder-blocks-and-partition", "-finline-limit=60",
]  # fmt: skip
# The kernels are GNU C, which Microsoft's compiler cannot read; clang takes its place and its options.
CLANG_CL_FLAGS = ["/O2", "/clang:-O3", "/clang:-std=gnu11", "/clang:-ffp-contract=fast", "/clang:-fno-math-errno"]
# Some versions of clang would have the module look for OpenMP's runtime in clang's own folder.
NO_RUN_PATH = ["-fno-openmp-implicit-rpath", "-Wno-unused-command-line-argument"]
# Only the module's initialiser is exported. Hidden visibility alone does not do that: the functions that gcc dispatches
# between SIMD variants, and locks of clang's OpenMP, ignore it.
EXPORTS = "_core/exports.map"
LIMITED_API = None if sysconfig.get_config_var("Py_GIL_DISABLED") else "0x030B0000"  # CPython 3.11


class BuildCore(build_ext):
    """Adds the compiler flags, OpenMP after a probe, and the SIMD variants."""

    def build_extensions(self) -> None:
        self.msvc = self.compiler.compiler_type == "msvc"
        if self.msvc:
            self.take_clang()
        compile_args = list(CLANG_CL_FLAGS if self.msvc else GNU_FLAGS)
        openmp, kept = self.openmp_flags()
        if not self.msvc:
            self.compiler.linker_so = kept(self.compiler.linker_so)
        link_args = [] if self.msvc else list(openmp)
        compile_args += openmp
        sanitize = os.environ.get("SAFFU_SANITIZE")
        if sanitize:
            flags = [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer", "-g"]
            compile_args += flags
            link_args += flags
        if sys.platform.startswith(("linux", "freebsd", "netbsd", "openbsd")):  # linkers that know ELF
            link_args += [f"-Wl,--version-script={EXPORTS}", "-Wl,-s"]
        elif sys.platform == "darwin":
            link_args += ["-Wl,-exported_symbol,_PyInit__core"]
        for extension in self.extensions:
            extension.extra_compile_args, extension.extra_link_args = compile_args, link_args
        self.pointers = self.by_pointers("0" if sanitize else os.environ.get("SAFFU_SIMD", "auto"))
        super().build_extensions()

    def build_extension(self, extension: Extension) -> None:
        """Compile on all processors, then link."""
        if self.force or newer_group(extension.sources + extension.depends, self.get_ext_fullpath(extension.name)):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                jobs = [pool.submit(self.compile, extension, *job) for job in self.jobs(extension)]
                extension.extra_objects = [file for job in jobs for file in job.result()]
            extension.sources = []
            self.force = True  # with no sources left it would look up to date
        super().build_extension(extension)

    # ---- objects -----------------------------------------------------------------------------------------------------

    def jobs(self, extension: Extension) -> list[tuple[str, str, list[tuple[str, str]], list[str]]]:
        """Source, folder of the object, macros and flags of everything that is compiled, the longest first."""
        kernels = sorted(source for source in extension.sources if Path(source).parent == Path("_core/src"))
        rest = [source for source in extension.sources if source not in kernels]
        smaller = [] if self.msvc else BINDINGS_FLAGS
        if not self.pointers:
            return [*((source, ".", [], smaller) for source in rest), *((source, ".", [], []) for source in kernels)]
        names = kernel_names()
        # A declaration of a kernel in saffu.h becomes that of a pointer to it, and a call goes through the pointer.
        chosen = [("SAFFU_POINTERS", "1"), *((name, f"(*{name}_chosen)") for name in names)]
        jobs = [(source, ".", chosen, smaller) for source in rest]
        listed = ("SAFFU_KERNELS(X)", " ".join(f"X({name})" for name in names))
        jobs.append(("_core/src/variants.c", ".", [("SAFFU_POINTERS", "1"), listed], []))
        kernels.remove(str(Path("_core/src/variants.c")))
        for variant, flags in VARIANTS.items():
            macros = [("SAFFU_NO_SIMD", "1"), *((name, f"{name}_{variant}") for name in names)]
            jobs += [(source, variant, macros, flags) for source in kernels]
        return jobs

    def compile(
        self, extension: Extension, source: str, folder: str, macros: list[tuple[str, str]], flags: list[str]
    ) -> list[str]:
        return self.compiler.compile(
            [source],
            output_dir=os.path.join(self.build_temp, folder),
            macros=[*extension.define_macros, *macros],
            include_dirs=extension.include_dirs,
            depends=extension.depends,
            extra_postargs=[*extension.extra_compile_args, *flags],
        )

    def by_pointers(self, simd: str) -> bool:
        """Whether the variants are chosen by pointers; without any, a macro says so to the sources."""
        if simd not in ("auto", "1", "pointer", "0"):
            sys.exit(f"SAFFU_SIMD must be auto, 1, pointer or 0, got {simd}")
        if simd == "0":
            for extension in self.extensions:
                extension.extra_compile_args.append("-DSAFFU_NO_SIMD")
            return False
        if simd != "pointer" and self.compiles(PROBE_OF_LOADER, ["-I_core/src"]):
            return False
        if all(self.compiles(PROBE_OF_POINTERS, flags) for flags in VARIANTS.values()):
            return True
        if simd == "pointer":
            sys.exit("SAFFU_SIMD=pointer, but the compiler makes no code for x86-64-v4")
        return False

    # ---- probes ------------------------------------------------------------------------------------------------------

    def take_clang(self) -> None:
        """Compile by clang with the options of Microsoft's compiler, which goes on linking."""
        clang = shutil.which("clang-cl")
        if clang is None:
            sys.exit("saffu is GNU C, which Microsoft's compiler cannot read: install LLVM, so that clang-cl is found")
        self.compiler.initialize()
        self.compiler.cc = clang

    def openmp_flags(self) -> tuple[list[str], object]:
        """Flags that compile and link an OpenMP program here, none for a sequential build; and what becomes of linkers.

        Folders of the interpreter that builds are no places where other machines look for libraries: commands that
        link are freed of them, unless a program with OpenMP runs only with them.
        """
        wanted = os.environ.get("SAFFU_OPENMP", "auto")
        if wanted == "0":
            return [], without_run_paths
        candidates = [["/openmp"]] if self.msvc else [["-fopenmp"], ["-Xpreprocessor", "-fopenmp", "-lomp"]]
        if not self.msvc and self.compiles("int nothing;\n", NO_RUN_PATH):
            candidates.insert(0, ["-fopenmp", *NO_RUN_PATH])
        for kept in (without_run_paths, list):
            for flags in candidates:
                if self.runs(PROBE, flags, kept):
                    return flags, kept
        message = "the compiler could not build an OpenMP program"
        if wanted == "1":
            sys.exit(f"SAFFU_OPENMP=1, but {message}; install its OpenMP runtime or set SAFFU_OPENMP=0")
        print(f"saffu: {message}; building a sequential core (saffu.show_config() will say so)", file=sys.stderr)
        return [], without_run_paths

    def runs(self, program: str, flags: list[str], kept: object) -> bool:
        """Whether a program can be compiled, linked and run."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "probe")
            linker = None if self.msvc else self.compiler.linker_exe
            try:
                if not self.msvc:
                    self.compiler.linker_exe = kept(linker)
                objects = self.compiler.compile([write(folder, program)], output_dir=folder, extra_postargs=flags)
                self.compiler.link_executable(objects, path, extra_postargs=[] if self.msvc else flags)
                subprocess.run([*shlex.split(os.environ.get("SAFFU_EMULATOR", "")), path], check=True, timeout=60)
            except Exception:
                return False
            finally:
                if not self.msvc:
                    self.compiler.linker_exe = linker
        return True

    def compiles(self, program: str, flags: list[str]) -> bool:
        """Whether the compiler takes a source; what it says of one that it refuses is of no interest."""
        with tempfile.TemporaryDirectory() as folder:
            compiler = [self.compiler.cc] if self.msvc else self.compiler.compiler_so
            command = [*compiler, *flags, "-c", write(folder, program), "-o", os.path.join(folder, "probe.o")]
            try:
                return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
            except OSError:
                return False


def write(folder: str, program: str) -> str:
    """Write a source file; return its path."""
    path = os.path.join(folder, "probe.c")
    with open(path, "w") as file:
        file.write(program)
    return path


def without_run_paths(command: list[str]) -> list[str]:
    """A command that links, without the folders in which a program that is run looks for libraries."""
    return [part for part in command if not re.match("-Wl,--?(rpath|R)[,=]", part)]


def kernel_names() -> list[str]:
    """Names of the functions that saffu.h declares: all that the kernels' objects export."""
    text = Path("_core/src/saffu.h").read_text(encoding="utf-8")
    return re.findall(r"^\w+ (saffu_\w+)\(", text, re.MULTILINE)


core = Extension(
    "saffu._core",
    ["_core/bindings.pyx", *sorted(glob("_core/src/*.c"))],
    include_dirs=["_core/src"],
    depends=[*glob("_core/src/*.h"), *glob("_core/*.pxi"), "_core/kernels.pxd", EXPORTS],
    define_macros=[("Py_LIMITED_API", LIMITED_API)] if LIMITED_API else [],
    py_limited_api=LIMITED_API is not None,
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
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED_API else {},
)
