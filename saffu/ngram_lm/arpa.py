r"""ARPA files: back-off models as text, as SRILM, KenLM and most others write them.

Types of a text and of the file: the type ``<eos>`` at line ends is ``</s>`` in a file, ``<unk>`` is ``<unk>``, and the
start of a document is ``<s>``: a context, never predicted, with the log-probability -99. So a document is a sentence.
Where documents have several lines, n-grams go on behind ``</s>``, which readers take as they take any type.

Files are read as bytes and split at white space of ASCII alone, as KenLM does, so that types may hold any other space.
Probabilities are base-10 logarithms. A back-off weight that is missing is one. A file without ``<unk>`` gives unknown
types a log-probability of -100, KenLM's; ``-inf`` is read as -99, what SRILM writes for zero.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator, Sequence
from typing import IO

import numpy as np

from saffu.ngram_lm.backoff import BackoffTables
from saffu.ngram_lm.backoff_sections import Section, assemble
from saffu.text import UNKNOWN, UNKNOWN_ID, compressed
from saffu.utils import checkpoint
from saffu.utils.arrays import Float64
from saffu.utils.progress import progress_bar
from saffu.utils.threads import resolve_threads

Path = str | os.PathLike[str]

BEGIN, END = "<s>", "</s>"
ZERO, UNKNOWN_LOG10 = -99.0, -100.0
LN10 = float(np.log(10.0))
LINES = 1 << 16  # n-grams written or read at a time


# ---- writing ---------------------------------------------------------------------------------------------------------


def write(path: Path, types: Sequence[str], tables: BackoffTables, progress: bool | None = None) -> None:
    """Write a back-off model; an existing file is replaced only when the new one is whole.

    Parameters
    ----------
    path : str or path
        A name that ends with ``.gz`` is compressed.
    types : sequence of str, length V
        What each type is called in the file; the first two are ``<unk>`` and ``</s>``.
    tables : BackoffTables
    progress : bool, optional

    Raises
    ------
    ValueError
        If a type cannot stand in a file: it is empty, holds white space, or is called as another one.
    OSError
        If the file cannot be written.
    """
    names = checked_names(types)
    sizes = [len(types) + 1, *(table.nnz for table in tables.tables)]
    while len(sizes) > 2 and sizes[-1] == 0:  # readers want n-grams in every section
        sizes.pop()
    with checkpoint.replacing(path) as temporary, open(temporary, "wb") as raw, _writer(raw, path) as file:
        file.write(b"\\data\\\n" + b"".join(b"ngram %d=%d\n" % (n, size) for n, size in enumerate(sizes, 1)))
        with progress_bar(sum(sizes), "write", progress) as bar:
            for n in range(1, len(sizes) + 1):
                file.write(b"\n\\%d-grams:\n" % n)
                blocks = _ngrams(names, tables, n) if n > 1 else _unigrams(names, tables)
                for lines, n_lines in blocks:
                    file.write(lines)
                    bar.update(n_lines)
        file.write(b"\n\\end\\\n")


def checked_names(types: Sequence[str]) -> list[bytes]:
    """The names of types in a file, and that of ``<s>`` behind them; ValueError if one of them cannot be there."""
    names = [kind.encode() for kind in types]
    for name, kind in zip(names, types, strict=True):
        if name.split() != [name]:
            raise ValueError(
                f"types of an ARPA file must hold no white space and not be empty, got {kind!r}; "
                "models of characters or bytes cannot be written"
            )
    if len({*names, BEGIN.encode()}) <= len(names):
        raise ValueError(f"types of an ARPA file must be distinct, and not {BEGIN} or {END}, which mark sentences")
    return [*names, BEGIN.encode()]


def _writer(raw: IO[bytes], path: Path) -> IO[bytes]:
    if os.fspath(path).endswith(".gz"):
        return gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0)  # type: ignore[return-value]
    return raw


def _unigrams(names: Sequence[bytes], tables: BackoffTables) -> Iterator[tuple[bytes, int]]:
    log_prob = np.append(tables.unigram / LN10, ZERO)
    weight = tables.weights[0] / LN10 if tables.weights else np.zeros(len(names))
    order = [UNKNOWN_ID, len(names) - 1, *range(1, len(names) - 1)]  # <s> second, as KenLM writes it
    rows = zip(log_prob[order].tolist(), [names[i] for i in order], weight[order].tolist(), strict=True)
    yield b"".join([b"%.10g\t%b\t%.10g\n" % row for row in rows]), len(names)


def _ngrams(names: Sequence[bytes], tables: BackoffTables, n: int) -> Iterator[tuple[bytes, int]]:
    """The lines of the n-grams of one order, and their number, a block at a time."""
    table, is_highest = tables.tables[n - 2], n == tables.order
    pattern = b"%.10g\t" + b" ".join([b"%b"] * n) + (b"\n" if is_highest else b"\t%.10g\n")
    for first in range(0, table.nnz, LINES):
        entries = np.arange(first, min(first + LINES, table.nnz))
        columns: list[Sequence[object]] = [(table.data[entries] / LN10).tolist()]
        columns += [[names[i] for i in ids.tolist()] for ids in tables.tokens(n, entries)]
        if not is_highest:
            columns.append((tables.weights[n - 1][entries] / LN10).tolist())
        yield b"".join([pattern % row for row in zip(*columns, strict=True)]), entries.size


# ---- reading ---------------------------------------------------------------------------------------------------------


def read(path: Path, progress: bool | None = None, n_threads: int | None = None) -> tuple[list[str], BackoffTables]:
    """Read a back-off model.

    Parameters
    ----------
    path : str or path
        Plain, or compressed by gzip, bzip2, xz or Zstandard.
    progress : bool, optional
    n_threads : int, optional

    Returns
    -------
    types : list of str
        ``<unk>``, ``</s>``, and the others in the order of the file.
    tables : BackoffTables
        N-grams with ``<s>`` behind their first token are left out: nothing predicts it.

    Raises
    ------
    ValueError
        If it is no ARPA file, or is damaged or not UTF-8.
    OSError
        If it cannot be read.
    """
    with open(path, "rb") as raw, progress_bar(os.path.getsize(path), "read", progress, in_bytes=True) as bar:
        lines = _Lines(compressed.stream(raw, repr(os.fspath(path))), repr(os.fspath(path)), raw.tell, bar.update)
        sizes = _header(lines)
        names, unigrams = _read_unigrams(lines, sizes[0])
        ids = {name: i for i, name in enumerate(names)}
        ids.setdefault(b"<UNK>", UNKNOWN_ID)
        sections = [_read_section(lines, n, size, ids) for n, size in enumerate(sizes[1:], 2)]
        lines.expect(b"\\end\\")
    try:
        types = [name.decode() for name in names[:-1]]
    except UnicodeDecodeError as error:
        raise ValueError(f"{lines.name} must be UTF-8, but a type is {error.object!r}") from None
    return types, assemble(unigrams, sections, resolve_threads(n_threads))


class _Lines:
    """The lines of a file without those that are blank, several at a time."""

    def __init__(self, file: IO[bytes], name: str, tell: Callable[[], int], advance: Callable[[int], object]) -> None:
        self._file, self.name, self._tell, self._advance = file, name, tell, advance
        self._rest, self._lines, self._at, self._position = b"", list[bytes](), 0, 0

    def take(self, most: int) -> list[bytes]:
        """Up to so many lines; none at the end of the file."""
        while self._at >= len(self._lines):
            data = compressed.read(self._file, 1 << 22, self.name)
            self._advance(self._tell() - self._position)
            self._position = self._tell()
            if not data and not self._rest:
                return []
            whole, _, self._rest = (self._rest + data).rpartition(b"\n") if data else (self._rest, b"", b"")
            self._lines, self._at = [line for line in whole.split(b"\n") if line.strip()], 0
        found = self._lines[self._at : self._at + most]
        self._at += len(found)
        return found

    def expect(self, wanted: bytes) -> None:
        """Raise ValueError unless the next line is this."""
        line = next(iter(self.take(1)), b"the end").strip()
        if line != wanted:
            raise self.damage(f"expected {wanted.decode()}, got {_excerpt(line)}")

    def damage(self, what: str) -> ValueError:
        """The error to raise."""
        return ValueError(f"{self.name} is not an ARPA file, or is damaged: {what}")


def _excerpt(line: bytes) -> str:
    return repr(line[:60].decode(errors="replace"))


def _header(lines: _Lines) -> list[int]:
    """Numbers of n-grams of 1, 2, ... tokens."""
    while (line := next(iter(lines.take(1)), None)) is not None:  # SRILM allows for remarks before the data
        if line.startswith(b"mmap lm http://kheafield.com"):
            raise ValueError(
                f"{lines.name} is a binary of KenLM, which only KenLM reads; keep the ARPA file it was made of"
            )
        if line.strip() == b"\\data\\":
            break
    else:
        raise lines.damage("there is no line \\data\\")
    sizes: list[int] = []
    while (line := next(iter(lines.take(1)), b"the end").strip()) != b"\\1-grams:":
        fields = line.replace(b"=", b" = ").split()
        if (
            len(fields) != 4
            or fields[:1] != [b"ngram"]
            or fields[1] != b"%d" % (len(sizes) + 1)
            or not fields[3].isdigit()
        ):
            raise lines.damage(f"expected 'ngram {len(sizes) + 1}=' and a number, got {_excerpt(line)}")
        sizes.append(int(fields[3]))
    if not sizes:
        raise lines.damage("it has no n-grams")
    return sizes


def _rows(lines: _Lines, n: int, size: int) -> Iterator[tuple[list[list[bytes]], Float64, Float64]]:
    """Blocks of n-grams: n columns of names, base-10 log-probabilities and back-off weights."""
    while size > 0:
        block = lines.take(min(size, LINES))
        size -= len(block)
        for columns in _columns(lines, n, block):
            weight = _numbers(lines, columns[n + 1]) if len(columns) > n + 1 else np.zeros(len(columns[0]))
            yield columns[1 : n + 1], np.maximum(_numbers(lines, columns[0]), ZERO), weight


def _columns(lines: _Lines, n: int, block: Sequence[bytes]) -> Iterator[list[list[bytes]]]:
    """The n + 1 or n + 2 columns of those lines that have so many."""
    flat = b" ".join(block).split()
    for width in (n + 1, n + 2):
        if block and len(flat) == len(block) * width:  # as lines of one block nearly always are
            yield [flat[column::width] for column in range(width)]
            return
    fields = [line.split() for line in block]
    wrong = [line for line, row in zip(block, fields, strict=True) if not n < len(row) < n + 3]
    if wrong or not block:
        raise lines.damage(f"expected an n-gram of {n} tokens, got {_excerpt(wrong[0] if wrong else b'the end')}")
    for width in (n + 1, n + 2):
        rows = [row for row in fields if len(row) == width]
        if rows:
            yield [list(column) for column in zip(*rows, strict=True)]


def _numbers(lines: _Lines, fields: Sequence[bytes]) -> Float64:
    try:
        found = np.fromiter(map(float, fields), np.float64, len(fields))
    except ValueError as error:
        raise lines.damage(str(error)) from None
    if np.isnan(found).any() or (found == np.inf).any():
        raise lines.damage("a number is not finite")
    return found


def _read_unigrams(lines: _Lines, size: int) -> tuple[list[bytes], Section]:
    """Names of all types, ``<s>`` last, and their probabilities."""
    unknown, end, begin = UNKNOWN.encode(), END.encode(), BEGIN.encode()
    named: dict[bytes, tuple[float, float]] = {}
    for (column,), log_prob, weight in _rows(lines, 1, size):
        named |= zip(column, zip(log_prob.tolist(), weight.tolist(), strict=True), strict=True)
    if len(named) < size:
        raise lines.damage("a type has two probabilities")
    if unknown not in named and b"<UNK>" in named:
        named[unknown] = named.pop(b"<UNK>")
    names = [unknown, end, *(name for name in named if name not in (unknown, end, begin)), begin]
    missing = (UNKNOWN_LOG10, 0.0)
    values = np.array([named.get(name, missing) for name in names]) * LN10
    return names, Section(np.arange(len(names), dtype=np.int32)[:, None], values[:, 0], values[:, 1])


def _read_section(lines: _Lines, n: int, size: int, ids: dict[bytes, int]) -> Section:
    lines.expect(b"\\%d-grams:" % n)
    blocks = []
    for columns, log_prob, weight in _rows(lines, n, size):
        try:
            tokens = [np.fromiter(map(ids.__getitem__, column), np.int32, len(column)) for column in columns]
        except KeyError as error:
            raise lines.damage(f"an n-gram has the type {_excerpt(error.args[0])}, which has no probability") from None
        blocks.append((np.stack(tokens, axis=1), log_prob * LN10, weight * LN10))
    if not blocks:
        return Section(np.empty((0, n), np.int32), np.empty(0), np.empty(0))
    return Section(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))
