"""``saffu prune``: a smaller and faster model that has lost little."""

from __future__ import annotations

import argparse
import math
import os

from saffu.cli import models, values
from saffu.cli.files import check_outputs
from saffu.cli.options import Commands, add_model, add_quiet, new_command
from saffu.ngram_lm.model import ExplicitLM
from saffu.ngram_lm.pruning import MAX_LOSS

UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    parser = new_command(
        commands,
        "prune",
        "make an explicit model smaller and faster at a small loss",
        "Drops what carries least information for the bytes and the time that it takes, and fits the scalars of the\n"
        "rest anew. The loss is the rise in perplexity, measured on training text that is left out of the counts in\n"
        "turn. Give what it may be, or how large the file may be. The new model predicts, generates and is evaluated\n"
        "as any other; it keeps no counts, so it cannot grow, and is not pruned again. 'saffu info' shows what was\n"
        "lost.",
        "  saffu prune brown.saffu --out small.saffu\n"
        "  saffu prune brown.saffu --out small.saffu --max-loss 0.02\n"
        "  saffu prune brown.saffu --out small.saffu --target-size 5M",
    )
    add_model(parser, "a file written by 'saffu train' for an explicit model")
    parser.add_argument(
        "--out", metavar="NEW", required=True, help="the file to write; replaced only when the new one is whole"
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--max-loss", type=values.positive, metavar="X", help=max_loss_help(f"default: {MAX_LOSS}"))
    target.add_argument(
        "--target-size",
        type=file_size,
        metavar="SIZE",
        help="bytes that the new file may have at most, also as 500k, 20M or 1.5G (thousands, millions, ...)",
    )
    add_quiet(parser)
    parser.set_defaults(run=run)


def max_loss_help(default: str) -> str:
    """What help shows of a loss."""
    return f"by which share perplexity may rise at most, 0.005 for half a percent ({default})"


def file_size(text: str) -> int:
    """Bytes, with a unit behind the number.

    Examples
    --------
    >>> file_size("1.5M"), file_size("300")
    (1500000, 300)
    """
    number, unit = (text[:-1], text[-1:]) if text[-1:] in UNITS else (text, "")
    try:
        size = float(number) * UNITS[unit]
    except ValueError:
        size = math.nan
    if not 1 <= size < math.inf:
        raise argparse.ArgumentTypeError(f"expected a size such as 500k, 20M or 1.5G, got {text[:40]!r}")
    return int(size)


def run(arguments: argparse.Namespace) -> None:
    """Prune a model, save it and print what it lost."""
    check_outputs([arguments.out], [arguments.model])
    model = models.load(arguments.model, arguments.threads)
    if not isinstance(model, ExplicitLM):
        raise TypeError(f"{arguments.model!r} holds {type(model).__name__}; only an ExplicitLM can be pruned")
    progress = not arguments.quiet
    smaller = model.pruned(max_loss=arguments.max_loss, target_size=arguments.target_size, progress=progress)
    smaller.save(arguments.out)
    print(f"bytes {os.path.getsize(arguments.model):,} -> {os.path.getsize(arguments.out):,}")
    print(outcome(smaller))
    print(f"wrote {arguments.out}")


def outcome(model: ExplicitLM) -> str:
    """What pruning has changed, in one line."""
    assert model.pruning is not None
    before, after = model.pruning["n_entries"]
    return f"entries {before:,} -> {after:,}; perplexity of text left out {model.pruning['loss']:+.2%}"
