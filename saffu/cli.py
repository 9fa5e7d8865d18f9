"""The command line: train, evaluate, sample and inspect language models; a demonstration.

What a user can get wrong ends as one line on stderr and exit code 2. Progress is shown on a terminal only.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
from tqdm import tqdm

import saffu
from saffu import checkpoint, demo, grid, report, roadmap
from saffu.explicit_lm import PRIMINGS, ExplicitLM
from saffu.text import DOCUMENTS, TOKENISERS, UNKNOWN, Corpus, Joiner, tokenise

USER_ERROR, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments behind the program's name; by default those of the process.

    Returns
    -------
    int
        0; 2 after an error of the user; 130 after Ctrl-C; 141 where the reader of the output went away.
    """
    command = "saffu"
    try:
        arguments = _parser().parse_args(argv)
        command = f"saffu {arguments.command}"
        if sys.stdout is None:
            raise ValueError("standard output is closed")
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character shows "?" instead
        arguments.run(arguments)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt as interrupt:
        print("; ".join([f"{command}: interrupted", *map(str, interrupt.args)]), file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # What is still buffered would raise again when the interpreter flushes it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except _UsageError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        subject = "" if error.filename is None else f"{error.filename!r}: "
        print(f"{command}: error: {subject}{error.strerror or error}", file=sys.stderr)
    except (ValueError, ImportError) as error:
        print(f"{command}: error: {' '.join(str(error).split())}", file=sys.stderr)
    return USER_ERROR


# ---- arguments -------------------------------------------------------------------------------------------------------


class _UsageError(Exception):
    """Arguments that cannot be understood; the message is the whole line."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line instead of printing its usage."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{self.prog}: error: {message} (see '{self.prog} --help')")


def _parser() -> _Parser:
    parser = _Parser(
        prog="saffu",
        description="Language models solved explicitly: count, take logarithms, fit a handful of scalars.\n"
        "No gradient descent and no held-out data; a million words take seconds.",
        epilog="first steps:\n"
        "  saffu demo                                   see it work, with no data and no download\n"
        "  saffu train book.txt --out book.saffu        train a model on a text\n"
        "  saffu eval book.saffu other.txt              its perplexity on another text\n"
        "  saffu generate book.saffu --prompt 'It was'  let it write\n"
        "\n'saffu COMMAND --help' explains each command.",
    )
    parser.add_argument("--version", action="version", version=f"saffu {saffu.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (_add_demo, _add_train, _add_eval, _add_generate, _add_info, _add_roadmap):
        add(commands)
    return parser


def _add_command(commands: Any, run: Callable[[Any], None], summary: str, explanation: str, examples: str) -> _Parser:
    parser = commands.add_parser(
        run.__name__.lstrip("_"),
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{explanation}",
        epilog=f"examples:\n{examples}",
    )
    parser.set_defaults(run=run)
    return parser


def _add_demo(commands: Any) -> None:
    parser = _add_command(
        commands,
        _demo,
        "train and judge a model on Python's own documentation",
        "Trains on the language reference that ships with every Python, with every tenth topic held out, and\n"
        "compares the model with simpler ones. Takes a few seconds; nothing is downloaded or written.",
        "  saffu demo",
    )
    _add_quiet(parser)


def _add_train(commands: Any) -> None:
    parser = _add_command(
        commands,
        _train,
        "train a language model on text files",
        "Reads the text twice, once for the vocabulary and once to count, a block at a time: the text may be\n"
        "larger than memory. The model is written to one file, whole or not at all.",
        "  saffu train book.txt --out book.saffu\n"
        "  saffu train brown.txt.gz --out brown.saffu --tokenizer whitespace --min-count 3\n"
        "  saffu train shakespeare.txt --out chars.saffu --tokenizer chars --radius 8 --order 8\n"
        "  xzcat news-*.xz | saffu train - --out news.saffu --windows 500 --induction 0",
    )
    _add_files(parser)
    parser.add_argument(
        "--out", metavar="MODEL", required=True, help="the file to write; replaced only when the new one is whole"
    )
    _add_text_options(parser)
    _add_feature_options(parser)
    _add_threads(parser)
    _add_quiet(parser)


def _add_text_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tokenizer",
        choices=TOKENISERS,
        default="words",
        help="what a token is: Unicode words and punctuation marks, runs between white space, characters, or bytes "
        "(default: words)",
    )
    _add_documents(parser, "default: file for chars and bytes, else blank-line")
    parser.add_argument(
        "--min-count",
        type=_integer(1),
        metavar="N",
        help="types seen less often become <unk> (default: 3; for chars and bytes 1)",
    )


def _add_feature_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--radius", type=_integer(1), default=5, metavar="R", help="count pairs at distances 1 to R (default: 5)")
    add(
        "--order",
        type=_integer(2),
        default=4,
        metavar="N",
        help="count n-grams of up to N tokens, the predicted one included (default: 4)",
    )
    add(
        "--windows",
        type=_windows,
        default=(60, 500, 2000),
        metavar="L,L,...",
        help='predict from the words of the last L tokens of the document, for each L; "" for none '
        "(default: 60,500,2000)",
    )
    add(
        "--induction",
        type=_integer(0),
        default=2000,
        metavar="L",
        help="predict what followed the newest token earlier in the last L tokens; 0 for not (default: 2000)",
    )
    add(
        "--priming",
        choices=PRIMINGS,
        default=PRIMINGS[0],
        help="how much to trust each feature: fitted to training text that is left out of the counts in turn (k-fold) "
        "or token by token (leave-one-out), set so that the model is modified Kneser-Ney, or 1 "
        f"(default: {PRIMINGS[0]})",
    )


def _add_eval(commands: Any) -> None:
    parser = _add_command(
        commands,
        _eval,
        "measure how well a model predicts text files",
        "Prints perplexity (per token, <eos> at line ends included), nats per token, bits per character, tokens,\n"
        "share of <unk> among them, seconds for scoring and tokens per second.",
        "  saffu eval brown.saffu test.txt.gz\n"
        "  saffu eval brown.saffu test.txt.gz --json\n"
        "  zcat test.txt.gz | saffu eval brown.saffu -",
    )
    _add_model(parser)
    _add_files(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    _add_documents(parser, "default: as in training")
    _add_quiet(parser)


def _add_generate(commands: Any) -> None:
    parser = _add_command(
        commands,
        _generate,
        "let a model write text",
        "Prints the prompt and then token after token as it is drawn. The same seed gives the same text.",
        "  saffu generate book.saffu\n"
        "  saffu generate book.saffu --prompt 'It was a dark' --tokens 200 --temperature 0.8 --top-k 50 --seed 1",
    )
    _add_model(parser)
    add = parser.add_argument
    add("--prompt", default="", metavar="TEXT", help="the text to continue (default: none)")
    add("--tokens", type=_integer(1), default=100, metavar="N", help="how many tokens to draw (default: 100)")
    add(
        "--temperature",
        type=_not_negative,
        default=1.0,
        metavar="T",
        help="below 1 plays safe, above 1 takes risks; 0 always takes the likeliest token (default: 1)",
    )
    add("--top-k", type=_integer(1), metavar="K", help="draw from the K likeliest tokens only (default: from all)")
    add("--seed", type=_integer(0), metavar="S", help="seed of the random numbers (default: another each time)")


def _add_info(commands: Any) -> None:
    parser = _add_command(
        commands,
        _info,
        "show what is in a model",
        "Prints sizes, vocabulary, features with their fitted scalars, and bytes.",
        "  saffu info brown.saffu\n  saffu info brown.saffu --json",
    )
    _add_model(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_roadmap(commands: Any) -> None:
    parser = _add_command(
        commands,
        _roadmap,
        "try many architectures of the compact model and tell the best",
        "Solves about 250 architectures on the same text, scores each on held-out text, refines the best few, and\n"
        f"writes a table ({report.TABLE}), a figure ({report.FIGURE}) and a summary ({report.SUMMARY}) into a folder.\n"
        "Stopped at any moment, it goes on where it was when called again.",
        "  saffu roadmap book.txt --out map\n"
        "  saffu roadmap train.txt.gz --valid valid.txt.gz --tokenizer whitespace --out map --minutes 30\n"
        "  saffu roadmap book.txt --out map --grid grid.json --limit 40 --refine 0\n"
        "\na grid is JSON, lists of which every combination is meant, or a list of architectures:\n"
        '  {"bits": [32, 64], "contexts": ["radial", "block+document"], "layers": [1, 2], "residual": [true, false]}\n'
        '  [{"bits": 64, "contexts": "radial+document", "radius": 4, "hidden": 128}, {"bits": 128}]\n'
        f"its names: {', '.join(grid.NAMES)}",
    )
    _add_files(parser)
    add = parser.add_argument
    add("--out", metavar="DIR", required=True, help="the folder of the results; created if it is not there")
    add(
        "--tokens",
        type=_integer(1),
        default=1_000_000,
        metavar="N",
        help="the most tokens to train on, from the beginning (default: 1000000)",
    )
    _add_text_options(parser)
    add(
        "--valid",
        action="append",
        metavar="FILE",
        help="held-out text; may be repeated (default: the last 5 percent of the documents)",
    )
    add(
        "--valid-tokens",
        type=_integer(1),
        default=roadmap.HELD_OUT_TOKENS,
        metavar="N",
        help=f"the most tokens to hold out (default: {roadmap.HELD_OUT_TOKENS})",
    )
    add(
        "--grid",
        metavar="FILE",
        help=f"the architectures to try (default: a balanced sample of {grid.DEFAULT_SIZE} from all combinations)",
    )
    add("--limit", type=_integer(1), metavar="N", help="try only N architectures, in which all choices are balanced")
    add("--refine", type=_integer(0), default=3, metavar="N", help="train the N best on by gradient steps (default: 3)")
    add("--epochs", type=_integer(1), default=1, metavar="N", help="passes over the text in refining (default: 1)")
    add("--minutes", type=_not_negative, metavar="M", help="begin nothing new after M minutes (default: no limit)")
    add("--retry", action="store_true", help="try again what failed in an earlier call")
    _add_threads(parser)
    _add_quiet(parser)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a file written by 'saffu train'")


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="UTF-8 text, plain, .gz or .xz; - is standard input")


def _add_documents(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--documents",
        choices=DOCUMENTS,
        help=f"what separates documents: blank lines (which then are no tokens), or only the end of a file ({default})",
    )


def _add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads", type=_integer(1), metavar="N", help="threads to use (default: every available CPU)"
    )


def _add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="no progress bars (there are none without a terminal)")


def _integer(minimum: int) -> Callable[[str], int]:
    """A parser of integers of at least ``minimum``."""

    def integer(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"expected an integer of at least {minimum}, got {text!r}")
        return value

    return integer


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
    return value


def _windows(text: str) -> tuple[int, ...]:
    try:
        lengths = tuple(map(_integer(1), text.split(","))) if text.strip() else ()
    except argparse.ArgumentTypeError:
        lengths = (0, 0)
    if len(set(lengths)) < len(lengths):
        raise argparse.ArgumentTypeError(f"expected distinct positive integers with commas between, got {text!r}")
    return lengths


# ---- commands --------------------------------------------------------------------------------------------------------


def _demo(arguments: argparse.Namespace) -> None:
    demo.run(progress=_shows_progress(arguments))


def _train(arguments: argparse.Namespace) -> None:
    corpus = Corpus(arguments.files, arguments.tokenizer, arguments.documents)
    checkpoint.check_writable(arguments.out)  # now, not after an hour of work
    if os.path.exists(arguments.out) and any(
        os.path.exists(path) and os.path.samefile(path, arguments.out) for path in arguments.files
    ):
        raise ValueError(f"{arguments.out!r} is a training text and the output, too")
    begin = time.perf_counter()
    progress = _shows_progress(arguments)
    model = ExplicitLM(
        radius=arguments.radius,
        order=arguments.order,
        windows=arguments.windows,
        induction=arguments.induction,
        priming=arguments.priming,
        n_threads=arguments.threads,
    )
    with _bar(corpus, "vocabulary", progress) as advance:
        vocabulary = model.vocabulary = corpus.build_vocabulary(arguments.min_count, advance)
    with _bar(corpus, "count", progress) as advance:
        for chunk in corpus.chunks(vocabulary, advance):
            model.partial_fit(chunk.ids, len(vocabulary), chunk.documents)
    model.solve(progress=progress)
    model.save(arguments.out)
    if not arguments.quiet:
        size = os.path.getsize(arguments.out) / 1e6
        print(
            f"{arguments.out}: {model.n_tokens:,} tokens, {len(vocabulary):,} types, {size:,.1f} MB, "
            f"{time.perf_counter() - begin:.1f} s"
        )


def _eval(arguments: argparse.Namespace) -> None:
    model = _load(arguments.model)
    vocabulary = model.vocabulary
    corpus = Corpus(arguments.files, vocabulary.tokeniser, arguments.documents or vocabulary.documents)
    progress = _shows_progress(arguments)
    with _bar(corpus, "read", progress) as advance:
        text = corpus.read(vocabulary, advance)
    model.solve(progress=progress)
    begin = time.perf_counter()
    nats = -float(np.sum(model.log_prob(text.ids, text.documents, progress=progress)))
    seconds = time.perf_counter() - begin
    tokens = text.ids.size
    figures = {
        "perplexity": _exp(nats / tokens),
        "nats_per_token": nats / tokens,
        "bits_per_char": nats / math.log(2) / text.n_characters,
        "tokens": tokens,
        "unk_rate": vocabulary.unknown_rate(text.ids),
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
    }
    if arguments.json:
        print(_json(figures))
    else:
        for name, value in figures.items():
            print(f"{name.replace('_', ' '):18}{_number(value):>14}")


def _generate(arguments: argparse.Namespace) -> None:
    model = _load(arguments.model)
    vocabulary = model.vocabulary
    joiner = Joiner(vocabulary.tokeniser)
    _show("".join(map(joiner.add, tokenise(arguments.prompt, vocabulary.tokeniser))))
    ids, starts = vocabulary.encode_text(arguments.prompt)
    context = ids[starts[-1] if starts.size else 0 :]
    for token in model.generate(
        context,
        arguments.tokens,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        seed=arguments.seed,
        exclude=[vocabulary.encode([UNKNOWN])[0]],
    ):
        _show(joiner.add(vocabulary.types[token]))
    _show(joiner.finish() + "\n")


def _info(arguments: argparse.Namespace) -> None:
    model = _load(arguments.model)
    vocabulary = model.vocabulary
    facts = {
        "file": arguments.model,
        "bytes": os.path.getsize(arguments.model),
        "vocabulary": {
            "types": len(vocabulary),
            "tokeniser": vocabulary.tokeniser,
            "documents": vocabulary.documents,
            "min_count": vocabulary.min_count,
        },
        "model": model.summary(),
        "scalars": model.scalars,
    }
    print(_json(facts) if arguments.json else "\n".join(_lines(facts)))


def _roadmap(arguments: argparse.Namespace) -> None:
    architectures = grid.read_grid(arguments.grid) if arguments.grid else grid.default_grid()
    if arguments.limit is not None:
        architectures = grid.balanced_sample(architectures, arguments.limit)
    progress = _shows_progress(arguments)
    split = roadmap.read_split(
        arguments.files,
        arguments.tokens,
        arguments.valid,
        arguments.tokenizer,
        arguments.documents,
        arguments.min_count,
        arguments.valid_tokens,
        progress,
    )
    try:
        found = roadmap.run(
            split,
            architectures,
            arguments.out,
            refine=arguments.refine,
            epochs=arguments.epochs,
            minutes=arguments.minutes,
            retry=arguments.retry,
            settings={"saffu": saffu.__version__},
            solve=functools.partial(roadmap.solve_saffu, n_threads=arguments.threads),
            prepare=roadmap.shared_counts,
            progress=progress,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("no result is lost, the same command goes on from here") from None
    failures = [result for result in found.results if result.error]
    if found.results and len(failures) == len(found.results):
        raise ValueError(f"every architecture failed, the first with {failures[0].error}")
    if not arguments.quiet:
        _print_roadmap(found, len(failures))


def _print_roadmap(found: roadmap.Roadmap, n_failures: int) -> None:
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


# ---- helpers ---------------------------------------------------------------------------------------------------------


def _load(path: str) -> Any:
    """A language model with its vocabulary."""
    model = checkpoint.load(path)
    if not isinstance(model, ExplicitLM):
        raise ValueError(f"{path!r} holds {type(model).__name__}, which is not a language model")
    if model.vocabulary is None:
        raise ValueError(f"{path!r} holds a language model without a vocabulary; set its attribute vocabulary and save")
    return model


def _shows_progress(arguments: argparse.Namespace) -> bool:
    return sys.stderr.isatty() and not arguments.quiet


@contextmanager
def _bar(corpus: Corpus, description: str, progress: bool) -> Iterator[Callable[[int], Any] | None]:
    """A progress bar over the bytes of a corpus: the function that advances it."""
    if not progress:
        yield None
        return
    with tqdm(total=corpus.n_bytes, desc=description, unit="B", unit_scale=True, leave=False) as bar:
        yield bar.update


def _show(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()


def _exp(value: float) -> float:
    return math.exp(value) if value < 709 else math.inf


def _json(facts: dict[str, Any]) -> str:
    """JSON for what may hold numpy scalars and infinities (which become null, since JSON has none)."""
    return json.dumps(_plain(facts), allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lines(facts: dict[str, Any], indent: str = "") -> Iterator[str]:
    """One line for each fact, nested ones indented."""
    for key, value in facts.items():
        name = f"{indent}{str(key).replace('_', ' ')}"
        if isinstance(value, dict):
            yield name
            yield from _lines(value, indent + "  ")
        elif isinstance(value, (list, tuple, np.ndarray)):
            cells = (f"{item:7.3f}" if isinstance(item, float) else _number(item) for item in value)
            yield f"{name:26}{'  '.join(cells)}".rstrip()
        else:
            yield f"{name:26}{_number(value)}"


def _number(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        size = abs(float(value))
        return f"{value:,.4g}" if size < 1 else f"{value:,.0f}" if size >= 10_000 else f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)
