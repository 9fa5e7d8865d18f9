"""The command line: it finds the command, and makes a line and an exit code of whatever ends it.

What a user can get wrong ends as one line on stderr and exit code 2, before any work where it can be known by then.
Progress is shown on a terminal only. No output is written over an input.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import saffu
from saffu.cli import (
    classify,
    demo,
    eval,
    export,
    filter,
    generate,
    grow,
    grow_checkpoint,
    info,
    pairs,
    prune,
    roadmap,
    surprisal,
    train,
)
from saffu.cli.options import DEBUG, Parser, UsageError
from saffu.utils.interrupts import INTERRUPTED, print_error
from saffu.utils.threads import resolve_threads

COMMANDS = (
    demo,
    train,
    eval,
    surprisal,
    pairs,
    filter,
    generate,
    info,
    grow,
    prune,
    export,
    classify,
    grow_checkpoint,
    roadmap,
)
USER_ERROR, BROKEN_PIPE = 2, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments behind the program's name; by default those of the process.

    Returns
    -------
    int
        0; 2 after an error; 130 after Ctrl-C; 141 where the reader of the output went away.
    """
    command, debug = "saffu", os.environ.get(DEBUG, "0") not in ("", "0")
    try:
        arguments = parser().parse_args(argv)
        command, debug = f"saffu {arguments.command}", debug or arguments.debug
        if sys.stdout is None:
            raise ValueError("standard output is closed")
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character shows "?" instead
        with _warnings_as_lines(command):
            resolve_threads(arguments.threads)
            arguments.run(arguments)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt as interrupt:
        cause: BaseException = interrupt
        code, line = INTERRUPTED, "; ".join([f"{command}: interrupted", *map(str, interrupt.args)])
    except BrokenPipeError:
        # What is still buffered would raise again when the interpreter flushes it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except UsageError as error:
        cause, code, line = error, USER_ERROR, str(error)
    except Exception as error:
        cause, code, line = error, USER_ERROR, f"{command}: error: {_reason(error)}"
    if debug:
        print_error("".join(traceback.format_exception(cause)).rstrip())
    print_error(line)
    return code


def parser() -> argparse.ArgumentParser:
    """The whole command line; what it returns after parsing has the command's function in ``run``."""
    parser = Parser(
        prog="saffu",
        description="Language models solved explicitly: count, take logarithms, fit a handful of scalars.\n"
        "No gradient descent and no held-out data, unless you ask for them; a million words take seconds.",
        epilog="first steps:\n"
        "  saffu demo                                   see it work, with no data and no download\n"
        "  saffu train book.txt --out book.saffu        train a model on a text\n"
        "  saffu eval book.saffu other.txt              its perplexity on another text\n"
        "  saffu generate book.saffu --prompt 'It was'  let it write\n"
        "\n'saffu COMMAND --help' explains each command.",
    )
    parser.add_argument("--version", action="version", version=f"saffu {saffu.__version__}")
    debug = f"after an error, show where it came from; {DEBUG}=1 in the environment does the same"
    parser.add_argument("--debug", action="store_true", help=debug)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser


def _reason(error: Exception) -> str:
    """What went wrong, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError):
        subject = "" if error.filename is None else f"{error.filename!r}: "
        return f"{subject}{error.strerror or text}"
    if isinstance(error, MemoryError):
        return f"not enough memory{': ' * bool(text)}{text}"
    if isinstance(error, (ValueError, TypeError, ImportError, NotImplementedError)) and text:
        return text
    return f"{type(error).__name__}: {text}; this should not happen, 'saffu --debug COMMAND' shows where it did"


@contextmanager
def _warnings_as_lines(command: str) -> Iterator[None]:
    """Within, a warning of ours is a line like an error, without its place in the source."""
    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=UserWarning, module="saffu")
        warnings.filterwarnings("always", "the loss is not finite", RuntimeWarning)
        warnings.filterwarnings(
            "ignore", "interrupted (after|in) epoch", RuntimeWarning
        )  # the command prints it itself
        warnings.showwarning = lambda message, *_, **__: print_error(
            f"{command}: warning: {' '.join(str(message).split())}"
        )
        yield
