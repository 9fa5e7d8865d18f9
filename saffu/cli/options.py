"""The parser of every command, and the options that several commands have."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn, TypeAlias

from saffu.cli import values
from saffu.text import DOCUMENTS

DEBUG = "SAFFU_DEBUG"  # an environment variable that does what --debug does

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


class UsageError(Exception):
    """Arguments that cannot be understood; the message is the whole line."""


class Parser(argparse.ArgumentParser):
    """Reports what is wrong in one line instead of printing its usage."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{self.prog}: error: {message} (see '{self.prog} --help')")


def new_command(commands: Commands, name: str, summary: str, explanation: str, examples: str) -> Parser:
    """The parser of a command, with the options that every command has.

    Parameters
    ----------
    commands : object
        What ``add_subparsers`` returned.
    name : str
    summary : str
        One line in the list of commands, without a capital letter or a full stop.
    explanation : str
        What ``--help`` shows below it.
    examples : str
        Command lines, one a line.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{explanation}",
        epilog=f"examples:\n{examples}",
    )
    threads = "threads to use (default: OMP_NUM_THREADS if it is set, else every available CPU)"
    parser.add_argument("--threads", type=values.integer(1), metavar="N", help=threads)
    return parser


def add_model(parser: argparse.ArgumentParser, writers: str = "a file written by 'saffu train'") -> None:
    """The model that a command reads."""
    parser.add_argument("model", metavar="MODEL", help=writers)


def add_mmap(parser: argparse.ArgumentParser) -> None:
    """Whether to map the model into memory."""
    parser.add_argument(
        "--mmap",
        action="store_true",
        help="read of a large explicit model what is needed alone, without a check of the file: it is there at once",
    )


def add_files(parser: argparse.ArgumentParser) -> None:
    """The texts that a command reads."""
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="UTF-8 text, plain or gzip, bzip2, xz or zstd; - is standard input"
    )


def add_out(parser: argparse.ArgumentParser) -> None:
    """Where a command that prints a text may write it instead."""
    parser.add_argument(
        "--out", metavar="FILE", help="the file to write, whole or not at all (default: standard output)"
    )


def add_documents(parser: argparse.ArgumentParser, default: str) -> None:
    """What separates documents in texts; ``default`` is what help shows of the default."""
    parser.add_argument(
        "--documents",
        choices=DOCUMENTS,
        help="what separates documents: blank lines (which then are no tokens), every line end, or only the end of a "
        f"file ({default})",
    )


def add_tokens(parser: argparse.ArgumentParser) -> None:
    """How text becomes tokens, for commands that make a vocabulary."""
    parser.add_argument(
        "--tokenizer",
        type=values.tokenizer,
        default="words",
        metavar="TOKENIZER",
        help="what a token is: Unicode words and punctuation marks (words), runs between white space (whitespace), "
        "characters (chars), or bytes; or a piece of a word: of a tokenizer in a file .json of Hugging Face "
        "tokenizers or .model of sentencepiece, or of byte pair encoding into N pieces that is trained on the text "
        "(bpe:N); the model holds its tokenizer (default: words)",
    )
    add_documents(parser, "default: file for chars and bytes, else blank-line")
    parser.add_argument(
        "--min-count",
        type=values.count(1),
        metavar="N",
        help="types seen less often become <unk> (default: 3; for chars, bytes and pieces of words 1)",
    )


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Whether to show progress."""
    parser.add_argument("--quiet", action="store_true", help="no progress bars (there are none without a terminal)")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Whether to print for programs."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of the options that the user gave, by name."""
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def flag(name: str) -> str:
    """An option as the user writes it."""
    return f"--{name.replace('_', '-')}"
