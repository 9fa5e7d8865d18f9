"""``saffu roadmap``: many architectures of the compact model tried on one text."""

from __future__ import annotations

import argparse
import warnings

import saffu
from saffu.cli import models, values
from saffu.cli.files import check_folder
from saffu.cli.options import Commands, add_files, add_quiet, add_tokens, new_command
from saffu.search import architectures, figures, report, roadmap, solving, text_split
from saffu.search.architectures import Architecture
from saffu.utils.threads import resolve_threads


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    parser = new_command(
        commands,
        "roadmap",
        "try many architectures of the compact model and rank them",
        "Solves about 250 architectures on the same text, scores each on held-out text, refines the best few, and\n"
        f"writes a table ({report.TABLE}), a figure ({report.FIGURE}) and a summary ({report.SUMMARY}) into a folder.\n"
        "Stopped at any moment, it goes on where it was when called again.",
        "  saffu roadmap book.txt --out map\n"
        "  saffu roadmap train.txt.gz --valid valid.txt.gz --tokenizer whitespace --out map --minutes 30\n"
        "  saffu roadmap book.txt --out map --grid grid.json --limit 40 --refine 0\n"
        "\na grid is JSON, lists of which every combination is meant, or a list of architectures:\n"
        '  {"bits": [32, 64], "contexts": ["radial", "block+document"], "layers": [1, 2], "residual": [true, false]}\n'
        '  [{"bits": 64, "contexts": "radial+document", "radius": 4, "hidden": 128}, {"bits": 128}]\n'
        f"its names: {', '.join(architectures.NAMES)}",
    )
    add_files(parser)
    parser.add_argument(
        "--out", metavar="DIR", required=True, help="the folder of the results; created if it is not there"
    )
    add_tokens(parser)
    _add_text_options(parser)
    _add_search_options(parser)
    add_quiet(parser)
    parser.set_defaults(run=run)


def _add_text_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--tokens",
        type=values.count(1),
        default=1_000_000,
        metavar="N",
        help="the most tokens to train on, of each file as many (default: 1000000)",
    )
    add(
        "--valid",
        action="append",
        metavar="FILE",
        help="held-out text; may be repeated (default: every twentieth document)",
    )
    add(
        "--valid-tokens",
        type=values.count(1),
        default=text_split.HELD_OUT_TOKENS,
        metavar="N",
        help=f"the most tokens to hold out (default: {text_split.HELD_OUT_TOKENS})",
    )


def _add_search_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    size = architectures.DEFAULT_SIZE
    add(
        "--grid",
        metavar="FILE",
        help=f"the architectures to try (default: a balanced sample of {size} from all combinations)",
    )
    add(
        "--limit",
        type=values.count(1),
        metavar="N",
        help="try only N architectures, in which all choices are balanced",
    )
    add(
        "--refine",
        type=values.count(0),
        default=3,
        metavar="N",
        help="train the N best on by gradient steps (default: 3)",
    )
    add(
        "--epochs",
        type=values.count(1),
        default=1,
        metavar="N",
        help="passes over the text in refining (default: 1)",
    )
    add(
        "--minutes", type=values.not_negative, metavar="M", help="begin nothing new after M minutes (default: no limit)"
    )
    add("--retry", action="store_true", help="try again what failed in an earlier call")


def run(arguments: argparse.Namespace) -> None:
    """Solve, report and print the best."""
    chosen = architectures.read_grid(arguments.grid) if arguments.grid else None
    resolve_threads(arguments.threads)
    if isinstance(arguments.tokenizer, values.BytePairs):
        raise ValueError("--tokenizer bpe:N is for 'saffu train'; a roadmap takes a tokenizer in a file")
    inputs = [*arguments.files, *(arguments.valid or []), *([arguments.grid] if arguments.grid else [])]
    inputs += models.tokenizer_files(arguments)
    check_folder(arguments.out, roadmap.outputs(arguments.out), inputs)
    roadmap.check_free(arguments.out)
    split = text_split.read_split(
        arguments.files,
        tokens=arguments.tokens,
        valid=arguments.valid,
        tokenizer=arguments.tokenizer,
        documents=arguments.documents,
        min_count=arguments.min_count,
        held_out_tokens=arguments.valid_tokens,
        progress=not arguments.quiet,
    )
    if chosen is None:
        chosen = architectures.default_grid()
    if arguments.limit is not None:
        chosen = architectures.balanced_sample(chosen, arguments.limit)
    try:
        figures.check()
    except ImportError as error:
        warnings.warn(f"{error}; there will be none", stacklevel=1)
    found = _search(split, chosen, arguments)
    failures = [result for result in found.results if result.error]
    if found.results and len(failures) == len(found.results):
        raise ValueError(f"every architecture failed, the first with {failures[0].error}")
    _print_outcome(found, len(failures))


def _search(split: text_split.Split, chosen: list[Architecture], arguments: argparse.Namespace) -> roadmap.Roadmap:
    try:
        return roadmap.run(
            split,
            chosen,
            arguments.out,
            effort=roadmap.Effort(arguments.refine, arguments.epochs, arguments.minutes, arguments.retry),
            settings={"saffu": saffu.__version__},
            solver=solving.SaffuSolver(arguments.threads),
            progress=not arguments.quiet,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("no result is lost, the same command goes on from here") from None


def _print_outcome(found: roadmap.Roadmap, n_failures: int) -> None:
    best = found.results[0] if found.results else None
    text = f"{len(found.results)} architectures"
    if n_failures:
        text += f", {n_failures} failed"
    if best is not None:
        text += f"; the best: {best.architecture}, perplexity {best.perplexity:.1f}"
    if found.n_pending:
        text += f"; {found.n_pending} still to be done, the same command goes on"
    print(text)
    for line in [*found.notes, f"wrote {', '.join(found.files)}"]:
        print(line)
