"""The command line: train, evaluate, sample and inspect language models; a demonstration.

What a user can get wrong ends as one line on stderr and exit code 2, before any work where it can be known by then.
Progress is shown on a terminal only. No output is written over an input.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

import saffu
from saffu import checkpoint, cli_files, demo, grid, growing, plot, report, roadmap
from saffu._interrupts import INTERRUPTED, say
from saffu._progress import on_terminal, progress_bar
from saffu._threads import resolve_threads
from saffu._validate import INT32_MAX
from saffu.context import CONTEXTS
from saffu.drawing import LEAST_TEMPERATURE
from saffu.explicit_lm import PRIMINGS, ExplicitLM
from saffu.initial import INITS
from saffu.refine import LEARNING_RATE
from saffu.saffu_lm import SaffuLM
from saffu.text import DOCUMENTS, TOKENISERS, UNKNOWN, Corpus, Joiner, tokenise
from saffu.transformer import Transformer

USER_ERROR, BROKEN_PIPE = 2, 141
DEBUG = "SAFFU_DEBUG"  # an environment variable that does what --debug does


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
        arguments = _parser().parse_args(argv)
        command, debug = f"saffu {arguments.command}", debug or arguments.debug
        if sys.stdout is None:
            raise ValueError("standard output is closed")
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character shows "?" instead
        with _warnings_as_lines(command):
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
    except _UsageError as error:
        cause, code, line = error, USER_ERROR, str(error)
    except Exception as error:
        cause, code, line = error, USER_ERROR, f"{command}: error: {_reason(error)}"
    if debug:
        say("".join(traceback.format_exception(cause)).rstrip())
    say(line)
    return code


def _reason(error: Exception) -> str:
    """What went wrong, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError):
        subject = "" if error.filename is None else f"{error.filename!r}: "
        return f"{subject}{error.strerror or text}"
    if isinstance(error, MemoryError):
        return f"not enough memory{': ' * bool(text)}{text}"
    if isinstance(error, (ValueError, TypeError, ImportError)) and text:
        return text
    return f"{type(error).__name__}: {text}; this should not happen, 'saffu --debug COMMAND' shows where it did"


@contextmanager
def _warnings_as_lines(command: str) -> Iterator[None]:
    """Within, a warning of ours is a line like an error, without its place in the source."""
    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=UserWarning, module="saffu")
        warnings.filterwarnings("always", "the loss is not finite", RuntimeWarning)
        warnings.filterwarnings("ignore", "interrupted after epoch", RuntimeWarning)  # the command says so itself
        warnings.showwarning = lambda message, *_, **__: say(f"{command}: warning: {' '.join(str(message).split())}")
        yield


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
    for add in (_add_demo, _add_train, _add_eval, _add_generate, _add_info, _add_grow, _add_roadmap):
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
        "The explicit model counts what words follow what words, and knows a text's phrases. It reads the text\n"
        "twice, a block at a time: the text may be larger than memory. The saffu model is compact and finds what\n"
        "words have in common; it is solved by counting, too, and --refine improves it by gradient steps. With\n"
        "--residual it stands on an explicit model, in the same file. A file is written whole or not at all.",
        "  saffu train book.txt --out book.saffu\n"
        "  saffu train brown.txt.gz --out brown.saffu --tokenizer whitespace --min-count 3\n"
        "  saffu train shakespeare.txt --out chars.saffu --tokenizer chars --radius 8 --order 8\n"
        "  xzcat news-*.xz | saffu train - --out news.saffu --windows 500 --induction 0\n"
        "  saffu train book.txt --out small.saffu --model saffu --bits 32 --hidden 64\n"
        "  saffu train book.txt --out best.saffu --model saffu --residual --refine 2",
    )
    _add_files(parser)
    parser.add_argument(
        "--out", metavar="MODEL", required=True, help="the file to write; replaced only when the new one is whole"
    )
    parser.add_argument(
        "--model", choices=tuple(TRAINERS), default="explicit", help="the kind of model (default: explicit)"
    )
    _add_text_options(parser)
    _add_explicit_options(parser)
    _add_saffu_options(parser)
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
        type=_count(1),
        metavar="N",
        help="types seen less often become <unk> (default: 3; for chars and bytes 1)",
    )


def _add_explicit_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("explicit model, alone or under --residual")
    add = group.add_argument
    add(
        "--radius",
        type=_integer(1),
        metavar="R",
        help="count pairs at distances 1 to R (default: 5); with --model saffu, see the last R tokens (default: 8)",
    )
    add("--order", type=_integer(2), metavar="N", help="count n-grams of up to N tokens, that predicted included (4)")
    add(
        "--windows",
        type=_windows,
        metavar="L,L,...",
        help='predict from the words of the last L tokens of the document, for each L; "" for none (60,500,2000)',
    )
    add(
        "--induction",
        type=_integer(0),
        metavar="L",
        help="predict what followed the newest token earlier in the last L tokens; 0 for not (2000)",
    )
    add(
        "--priming",
        choices=PRIMINGS,
        help="how much to trust each feature: fitted to training text that is left out of the counts in turn (k-fold) "
        "or token by token (leave-one-out), set so that the model is modified Kneser-Ney, or 1 "
        f"({PRIMINGS[0]})",
    )


def _add_saffu_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("saffu model")
    add = group.add_argument
    add("--residual", action="store_true", default=None, help="stand on an explicit model of the same text")
    add("--bits", type=_integer(1), metavar="N", help="width of the embeddings (64)")
    add(
        "--contexts",
        type=_contexts,
        metavar="C+C+...",
        help="what to look at: block, the tokens of the present block; radial, the last tokens; document, the whole "
        "document so far (radial+document)",
    )
    add("--block", type=_integer(1), metavar="N", help="tokens in a block (8)")
    add("--heads", type=_integer(1), metavar="N", help="units on each context, each with an attention of its own (1)")
    add("--layers", type=_integer(1), metavar="N", help="layers above the first look at hidden states (1)")
    add("--hidden", type=_integer(1), metavar="N", help="hidden units of each head (64)")
    add("--refine", type=_count(0), metavar="EPOCHS", help="passes over the text by gradient steps (0)")
    add("--learning-rate", type=_positive, metavar="RATE", help=f"of the gradient steps ({LEARNING_RATE})")
    add("--dropout", type=_share, metavar="P", help="of the hidden units, in the gradient steps (0)")
    add("--thaw-after", type=_count(0), metavar="N", help="after N epochs the embeddings move too (default: never)")
    add(
        "--valid",
        action="append",
        metavar="FILE",
        help="text to choose the best epoch by; may be repeated (default: the last epoch is taken)",
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
    add("--tokens", type=_count(1), default=100, metavar="N", help="how many tokens to draw (default: 100)")
    add(
        "--temperature",
        type=_temperature,
        default=1.0,
        metavar="T",
        help="below 1 plays safe, above 1 takes risks; 0 always takes the likeliest token (default: 1)",
    )
    add("--top-k", type=_count(1), metavar="K", help="draw from the K likeliest tokens only (default: from all)")
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


def _add_grow(commands: Any) -> None:
    parser = _add_command(
        commands,
        _grow,
        "make a model larger without changing what it computes",
        "New parts enter silently: the larger model gives the same probabilities. With --data they are solved on that\n"
        "text, for an explicit model the one it has counted, and enter with fitted scalars, if that makes it better.\n"
        "Explicit models take radius, order, windows and induction; models of units bits, contexts, block, radius,\n"
        "heads, layers and hidden; transformers mlp, heads, head_dim, key_dim and hidden. 'saffu info' tells what a\n"
        "model has grown by.",
        "  saffu grow small.saffu --set radius=16 --set hidden=128 --out large.saffu\n"
        "  saffu grow small.saffu --set contexts=radial+document --add-layer --out large.saffu --data book.txt\n"
        "  saffu grow book.saffu --set order=5 --set windows=60,500,2000,8000 --out larger.saffu --data book.txt",
    )
    _add_model(parser)
    add = parser.add_argument
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="what the model should have; may be repeated")
    add(
        "--add-layer",
        action="append",
        nargs="?",
        type=_integer(0),
        default=[],
        metavar="PLACE",
        help="add a layer with so many before it (default: all); may be repeated",
    )
    add("--out", metavar="MODEL2", required=True, help="the file to write; replaced only when the new one is whole")
    add("--data", nargs="+", metavar="FILE", help="text to solve the new parts on")
    add(
        "--init",
        choices=INITS,
        default="normal",
        help="what free new numbers are without --data (default: %(default)s)",
    )
    add("--seed", type=_integer(0), default=0, metavar="S", help="where chance comes from (default: 0)")
    _add_documents(parser, "default: as in training")
    _add_quiet(parser)


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
        type=_count(1),
        default=1_000_000,
        metavar="N",
        help="the most tokens to train on, of each file as many (default: 1000000)",
    )
    _add_text_options(parser)
    add(
        "--valid",
        action="append",
        metavar="FILE",
        help="held-out text; may be repeated (default: every twentieth document)",
    )
    add(
        "--valid-tokens",
        type=_count(1),
        default=roadmap.HELD_OUT_TOKENS,
        metavar="N",
        help=f"the most tokens to hold out (default: {roadmap.HELD_OUT_TOKENS})",
    )
    add(
        "--grid",
        metavar="FILE",
        help=f"the architectures to try (default: a balanced sample of {grid.DEFAULT_SIZE} from all combinations)",
    )
    add("--limit", type=_count(1), metavar="N", help="try only N architectures, in which all choices are balanced")
    add("--refine", type=_count(0), default=3, metavar="N", help="train the N best on by gradient steps (default: 3)")
    add("--epochs", type=_count(1), default=1, metavar="N", help="passes over the text in refining (default: 1)")
    add("--minutes", type=_not_negative, metavar="M", help="begin nothing new after M minutes (default: no limit)")
    add("--retry", action="store_true", help="try again what failed in an earlier call")
    _add_threads(parser)
    _add_quiet(parser)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a file written by 'saffu train'")


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="UTF-8 text, plain or gzip, bzip2, xz or zstd; - is standard input"
    )


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
    """A parser of integers of at least ``minimum``; how large they may be is for the models to say."""

    def integer(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"expected an integer of at least {minimum}, got {_excerpt(text)}")
        return value

    return integer


def _count(minimum: int) -> Callable[[str], int]:
    """A parser of numbers of tokens, epochs and the like, which fit into 32 bits."""

    def integer(text: str) -> int:
        value = _integer(minimum)(text)
        if value > INT32_MAX:
            raise argparse.ArgumentTypeError(f"must be at most {INT32_MAX}, got {_excerpt(text)}")
        return value

    return integer


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {_excerpt(text)}")
    return value


def _temperature(text: str) -> float:
    value = _not_negative(text)
    if 0 < value < LEAST_TEMPERATURE:
        raise argparse.ArgumentTypeError(f"expected 0 or a number of at least {LEAST_TEMPERATURE:g}, got {text!r}")
    return value


def _positive(text: str) -> float:
    value = _not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _share(text: str) -> float:
    value = _not_negative(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0 and below 1, got {text!r}")
    return value


def _contexts(text: str) -> tuple[str, ...]:
    names = tuple(text.split("+"))
    if not set(names) <= set(CONTEXTS) or len(set(names)) < len(names):
        known = ", ".join(CONTEXTS)
        raise argparse.ArgumentTypeError(f"expected some of {known} with + between, each once, got {text!r}")
    return names


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
    outputs = [arguments.out, *([_kept_name(arguments.out)] if arguments.refine else [])]
    cli_files.check_outputs(outputs, [*arguments.files, *(arguments.valid or [])])
    begin = time.perf_counter()
    model, n_tokens = TRAINERS[arguments.model](arguments, corpus, _shows_progress(arguments))
    if getattr(model, "interrupted", False):
        _keep(model, arguments.out)
    model.save(arguments.out)
    size = os.path.getsize(arguments.out) / 1e6
    print(
        f"{arguments.out}: {n_tokens:,} tokens, {len(model.vocabulary):,} types, {size:,.1f} MB, "
        f"{time.perf_counter() - begin:.1f} s"
    )


def _kept_name(out: str) -> str:
    """Where the best epoch of an interrupted refinement goes: it is not what was asked for."""
    return f"{out}.interrupted"


def _keep(model: Any, out: str) -> NoReturn:
    """Save the best epoch of an interrupted refinement, if there was one, and end."""
    n_epochs = len(model.history or []) - 1
    if n_epochs < 1:
        raise KeyboardInterrupt(f"{out!r} was not written")
    model.save(_kept_name(out))
    raise KeyboardInterrupt(f"{out!r} was not written; the best of {n_epochs} epochs is in {_kept_name(out)!r}")


def _train_explicit(arguments: argparse.Namespace, corpus: Corpus, progress: bool) -> tuple[ExplicitLM, int]:
    """A model of a corpus of any size, and how many tokens that has."""
    for name in (*UNIT_OPTIONS, *REFINING_OPTIONS, "residual", "refine"):
        if getattr(arguments, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} is for --model saffu")
    model = ExplicitLM(**_given(arguments, "radius", *EXPLICIT_OPTIONS), n_threads=arguments.threads)
    with _bar(corpus, "vocabulary", progress) as advance:
        vocabulary = model.vocabulary = corpus.build_vocabulary(arguments.min_count, advance)
    with _bar(corpus, "count", progress) as advance:
        for chunk in corpus.chunks(vocabulary, advance):
            model.partial_fit(chunk.ids, len(vocabulary), chunk.documents)
    model.solve(progress=progress)
    return model, model.n_tokens


def _train_saffu(arguments: argparse.Namespace, corpus: Corpus, progress: bool) -> tuple[SaffuLM, int]:
    """A compact model of a corpus, and how many tokens that has."""
    if not arguments.residual and (given := _given(arguments, *EXPLICIT_OPTIONS)):
        raise ValueError(f"--{min(given)} is for --model explicit, or needs --residual")
    if not arguments.refine and (given := _given(arguments, *REFINING_OPTIONS)):
        raise ValueError(f"--{min(given).replace('_', '-')} needs --refine")
    threads = arguments.threads
    residual = ExplicitLM(**_given(arguments, *EXPLICIT_OPTIONS), n_threads=threads) if arguments.residual else None
    model = SaffuLM(**_given(arguments, "radius", *UNIT_OPTIONS), residual=residual, n_threads=threads)
    valid = Corpus(arguments.valid, arguments.tokenizer, arguments.documents) if arguments.valid else None
    with _bar(corpus, "vocabulary", progress) as advance:
        vocabulary = corpus.build_vocabulary(arguments.min_count, advance)
    with _bar(corpus, "read", progress) as advance:
        text = corpus.read(vocabulary, advance)
    validation = None
    if valid is not None:
        held_out = valid.read(vocabulary)
        validation = held_out.ids, held_out.documents
    if residual is not None:
        residual.fit(text.ids, len(vocabulary), text.documents, progress)
        model.min_count = vocabulary.min_count
    model.solve(text.ids, len(vocabulary), text.documents, progress=progress)
    if arguments.refine:
        options = {name: value for name, value in _given(arguments, *REFINING_OPTIONS).items() if name != "valid"}
        model = model.refine(
            text.ids, arguments.refine, documents=text.documents, validation=validation, progress=progress, **options
        )
    model.vocabulary = vocabulary
    return model, text.ids.size


TRAINERS: dict[str, Callable[[argparse.Namespace, Corpus, bool], tuple[Any, int]]] = {
    "explicit": _train_explicit,
    "saffu": _train_saffu,
}
EXPLICIT_OPTIONS = ("order", "windows", "induction", "priming")
UNIT_OPTIONS = ("bits", "contexts", "block", "heads", "layers", "hidden")
REFINING_OPTIONS = ("learning_rate", "dropout", "thaw_after", "valid")


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of the options that were given, by name."""
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def _eval(arguments: argparse.Namespace) -> None:
    model = _load(arguments.model)
    vocabulary = model.vocabulary
    corpus = Corpus(arguments.files, vocabulary.tokeniser, arguments.documents or vocabulary.documents)
    progress = _shows_progress(arguments)
    with _bar(corpus, "read", progress) as advance:
        text = corpus.read(vocabulary, advance)
    explicit = model if isinstance(model, ExplicitLM) else model.residual
    if explicit is not None:
        explicit.solve(progress=progress)
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
    model = checkpoint.load(arguments.model)
    facts: dict[str, Any] = {"file": arguments.model, "bytes": os.path.getsize(arguments.model)}
    if isinstance(model, Transformer):
        facts["model"] = model.summary()
    else:
        vocabulary = _with_vocabulary(model, arguments.model).vocabulary
        facts["vocabulary"] = {
            "types": len(vocabulary),
            "tokeniser": vocabulary.tokeniser,
            "documents": vocabulary.documents,
            "min_count": vocabulary.min_count,
        }
        facts |= {"model": model.summary(), "scalars": model.scalars}
    print(_json(facts) if arguments.json else "\n".join(_lines(facts)))


def _grow(arguments: argparse.Namespace) -> None:
    if not arguments.set and not arguments.add_layer:
        raise ValueError("nothing to grow: give --set NAME=VALUE or --add-layer")
    cli_files.check_outputs([arguments.out], [arguments.model, *(arguments.data or [])])
    model = checkpoint.load(arguments.model)
    progress = _shows_progress(arguments)
    text = None
    if arguments.data:
        vocabulary = _load(arguments.model).vocabulary
        corpus = Corpus(arguments.data, vocabulary.tokeniser, arguments.documents or vocabulary.documents)
        with _bar(corpus, "read", progress) as advance:
            read = corpus.read(vocabulary, advance)
        text = growing.Text(read.ids, read.documents)
    before = model.n_parameters if hasattr(model, "n_parameters") else None
    larger = growing.grown(model, arguments.set, arguments.add_layer, arguments.init, arguments.seed, text, progress)
    larger.save(arguments.out)
    if before is not None:
        print(f"parameters {before:,} -> {larger.n_parameters:,}")
    if text is not None and larger.growth and "losses" in larger.growth[-1]:
        print("loss on the data, nats per token: {:.4f} -> {:.4f}".format(*larger.growth[-1]["losses"]))
    print(f"wrote {arguments.out}")


def _roadmap(arguments: argparse.Namespace) -> None:
    architectures = grid.read_grid(arguments.grid) if arguments.grid else None
    progress = _shows_progress(arguments)
    resolve_threads(arguments.threads)
    inputs = [*arguments.files, *(arguments.valid or []), *([arguments.grid] if arguments.grid else [])]
    cli_files.check_folder(arguments.out, roadmap.outputs(arguments.out), inputs)
    roadmap.check_free(arguments.out)
    try:
        plot.check()
    except ImportError as error:
        warnings.warn(f"{error}; there will be none", stacklevel=1)
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
    if architectures is None:
        architectures = grid.default_grid()
    if arguments.limit is not None:
        architectures = grid.balanced_sample(architectures, arguments.limit)
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
            prepare=functools.partial(roadmap.shared_counts, n_threads=arguments.threads),
            progress=progress,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("no result is lost, the same command goes on from here") from None
    failures = [result for result in found.results if result.error]
    if found.results and len(failures) == len(found.results):
        raise ValueError(f"every architecture failed, the first with {failures[0].error}")
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
    return _with_vocabulary(checkpoint.load(path), path)


def _with_vocabulary(model: Any, path: str) -> Any:
    if not isinstance(model, (ExplicitLM, SaffuLM)):
        raise ValueError(f"{path!r} holds {type(model).__name__}, which is not a language model")
    if model.vocabulary is None:
        raise ValueError(f"{path!r} holds a language model without a vocabulary; set its attribute vocabulary and save")
    return model


def _shows_progress(arguments: argparse.Namespace) -> bool:
    return on_terminal() and not arguments.quiet


@contextmanager
def _bar(corpus: Corpus, description: str, progress: bool) -> Iterator[Callable[[int], Any] | None]:
    """A progress bar over the bytes of a corpus: the function that advances it."""
    if not progress:
        yield None
        return
    with progress_bar(corpus.n_bytes, description, True, in_bytes=True) as bar:
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
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
            yield name
            for item in value:
                yield f"{indent}  {'  '.join(f'{k} {_plain(v)}' for k, v in item.items())}"
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
