"""Files of texts with labels: lines as fastText reads them, CSV with a header or without, and JSON lines.

Every one may be compressed. What cannot be read is an error that names the file and the line.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from saffu.text.reading import Advance, TextFile

FORMATS = ("fasttext", "csv", "tsv", "jsonl")
PREFIX = "__label__"
BATCH_CHARACTERS = 1 << 24  # of texts that are handed on at once
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


class Batch(NamedTuple):
    """Some texts and the labels of each; none for text that has none."""

    texts: list[str]
    labels: list[tuple[str, ...]]


@dataclass(frozen=True)
class Layout:
    """Where the texts and labels of a file are.

    Attributes
    ----------
    format : {"fasttext", "csv", "tsv", "jsonl"} or None
        None: what the file's name ends with decides, and fasttext is it where that tells nothing.
    text, label : str
        Columns of a table, by name or by number from 1, or keys of JSON objects.
    prefix : str
        What labels begin with in lines of the format fasttext.
    labelled : bool
        Whether each text must have a label.
    """

    format: str | None = None
    text: str = "text"
    label: str = "label"
    prefix: str = PREFIX
    labelled: bool = True

    def of(self, path: str) -> str:
        """The format of a file."""
        if self.format is not None:
            return self.format
        name = path
        for ending in COMPRESSED:
            name = name.removesuffix(ending)
        ending = name.rpartition(".")[2]
        return {"csv": "csv", "tsv": "tsv", "jsonl": "jsonl", "json": "jsonl", "ndjson": "jsonl"}.get(
            ending, "fasttext"
        )


def add_layout(parser: argparse.ArgumentParser) -> None:
    """How a command's files are laid out."""
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="lines with labels as fastText reads them, tables, or an object of JSON a line (default: by the file's "
        "name, .csv, .tsv or .jsonl, else fasttext)",
    )
    parser.add_argument(
        "--text",
        metavar="COLUMN",
        default="text",
        help="of tables and JSON: the column of the text, by its name in the first line or by its number from 1, in a "
        "table whose first line is no header (default: text)",
    )
    parser.add_argument("--label", metavar="COLUMN", default="label", help="the column of the label (default: label)")
    parser.add_argument(
        "--label-prefix", metavar="PREFIX", default=PREFIX, help=f"what labels begin with (default: {PREFIX})"
    )


def layout(arguments: argparse.Namespace, labelled: bool = True) -> Layout:
    """What the user said of the files."""
    if not arguments.label_prefix or any(map(str.isspace, arguments.label_prefix)):
        raise ValueError(f"--label-prefix must be characters without white space, got {arguments.label_prefix!r}")
    return Layout(arguments.format, arguments.text, arguments.label, arguments.label_prefix, labelled)


def batches(path: str, kind: Layout, advance: Advance | None = None) -> Iterator[Batch]:
    """The texts of a file.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If a line is not as it should be.
    """
    file = TextFile(path, as_bytes=False)
    reader = {"fasttext": _lines_with_labels, "csv": _table, "tsv": _table, "jsonl": _objects}[kind.of(path)]
    texts: list[str] = []
    labels: list[tuple[str, ...]] = []
    size = 0
    for text, of_text in reader(file, kind, advance):
        texts.append(text)
        labels.append(of_text)
        size += len(text) + 64
        if size > BATCH_CHARACTERS:
            yield Batch(texts, labels)
            texts, labels, size = [], [], 0
    if texts:
        yield Batch(texts, labels)


def lines_of(file: TextFile, advance: Advance | None = None) -> Iterator[str]:
    """The lines of a file, without their ends."""
    rest = ""
    for block in file.blocks(advance):
        *lines, rest = (rest + block).split("\n")
        yield from lines


Record = tuple[str, tuple[str, ...]]


def _lines_with_labels(file: TextFile, kind: Layout, advance: Advance | None) -> Iterator[Record]:
    """``__label__a __label__b text``: labels may stand anywhere."""
    prefix = kind.prefix
    for number, line in enumerate(lines_of(file, advance), 1):
        labels: list[str] = []
        text = line
        while text.startswith(prefix):
            label, _, text = text.partition(" ")
            labels.append(label)
        if prefix in text:
            labels += [word for word in text.split() if word.startswith(prefix)]
            text = " ".join(word for word in text.split() if not word.startswith(prefix))
        if not labels and kind.labelled:
            if line.strip():
                raise _error(file, number, f"a line must have a label, which begins with {prefix}")
            continue
        for label in labels:
            if label == prefix:
                raise _error(file, number, f"a label must have a name behind {prefix}")
        yield text, tuple(label.removeprefix(prefix).strip() for label in labels)


def _table(file: TextFile, kind: Layout, advance: Advance | None) -> Iterator[Record]:
    delimiter = "\t" if kind.of(file.path) == "tsv" else ","
    csv.field_size_limit(sys.maxsize)
    rows = csv.reader((f"{line}\n" for line in lines_of(file, advance)), delimiter=delimiter, strict=True)
    place: tuple[int, int] | None = None
    if kind.text.isdecimal() or (kind.labelled and kind.label.isdecimal()):
        place = _number(kind.text, "--text"), _number(kind.label, "--label") if kind.labelled else 0
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise _error(file, rows.line_num, f"no row of a table: {error}") from error
        if row is None:
            return
        if place is None:
            place = _columns(file, row, kind)
        elif row:
            if len(row) <= max(place):
                raise _error(file, rows.line_num, f"a row must have {max(place) + 1} columns or more, got {len(row)}")
            text, label = row[place[0]], row[place[1]].strip()
            if kind.labelled and not label:
                raise _error(file, rows.line_num, "the label is empty")
            yield text, (label,) if kind.labelled else ()


def _number(column: str, option: str) -> int:
    if not column.isdecimal() or int(column) < 1:
        raise ValueError(f"{option} must be a number from 1 where the other column is one, got {column!r}")
    return int(column) - 1


def _columns(file: TextFile, header: list[str], kind: Layout) -> tuple[int, int]:
    wanted = [kind.text, kind.label] if kind.labelled else [kind.text]
    for name, option in zip(wanted, ("--text", "--label"), strict=False):
        if name not in header:
            shown = ", ".join(header)[:80]
            raise _error(file, 1, f"there is no column {name!r}, but {shown!r}; name it by {option}, or by its number")
    return header.index(kind.text), header.index(kind.label) if kind.labelled else 0


def _objects(file: TextFile, kind: Layout, advance: Advance | None) -> Iterator[Record]:
    for number, line in enumerate(lines_of(file, advance), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _error(file, number, f"no JSON: {error}") from error
        if not isinstance(found, dict):
            raise _error(file, number, f"an object of JSON is needed, got {type(found).__name__}")
        text = found.get(kind.text)
        if not isinstance(text, str):
            raise _error(file, number, f"{kind.text!r} must be a string, got {_shown(text)}; name it by --text")
        yield text, _labels(found.get(kind.label), file, number, kind) if kind.labelled else ()


def _labels(value: Any, file: TextFile, number: int, kind: Layout) -> tuple[str, ...]:
    labels = value if isinstance(value, list) else [value]
    if any(isinstance(label, bool) or not isinstance(label, (str, int)) or label == "" for label in labels):
        expected = f"{kind.label!r} must be a string, an integer or a list of them"
        raise _error(file, number, f"{expected}, got {_shown(value)}; name it by --label")
    return tuple(map(str, labels))


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:40]


def _error(file: TextFile, number: int, message: str) -> ValueError:
    return ValueError(f"{file.name}, line {number}: {message}")
