"""The options of every command, what their values may be, and what ``--help`` says of them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any, NoReturn

import saffu
from saffu.attention_lm.contexts import CONTEXTS
from saffu.ngram_lm.model import PRIMINGS
from saffu.search import report, text_split
from saffu.search.architectures import DEFAULT_SIZE, NAMES
from saffu.text import DOCUMENTS, TOKENISERS
from saffu.training import LEARNING_RATE
from saffu.utils.initializers import INITS
from saffu.utils.sampling import LEAST_TEMPERATURE
from saffu.utils.validate import INT32_MAX

MODELS = ("explicit", "saffu")
DEBUG = "SAFFU_DEBUG"  # an environment variable that does what --debug does


class UsageError(Exception):
    """Arguments that cannot be understood; the message is the whole line."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line instead of printing its usage."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: error: {message} (see '{self.prog} --help')")


def parser() -> argparse.ArgumentParser:
    """The whole command line; what it returns after parsing names the command in ``command``."""
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


def _add_command(commands: Any, name: str, summary: str, explanation: str, examples: str) -> _Parser:
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{explanation}",
        epilog=f"examples:\n{examples}",
    )


def _add_demo(commands: Any) -> None:
    parser = _add_command(
        commands,
        "demo",
        "train and judge a model on Python's own documentation",
        "Trains on the language reference that ships with every Python, with every tenth topic held out, and\n"
        "compares the model with simpler ones. Takes a few seconds; nothing is downloaded or written.",
        "  saffu demo",
    )
    _add_quiet(parser)


def _add_train(commands: Any) -> None:
    parser = _add_command(
        commands,
        "train",
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
    parser.add_argument("--model", choices=MODELS, default=MODELS[0], help="the kind of model (default: explicit)")
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
        "eval",
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
        "generate",
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
        "info",
        "show what is in a model",
        "Prints sizes, vocabulary, features with their fitted scalars, and bytes.",
        "  saffu info brown.saffu\n  saffu info brown.saffu --json",
    )
    _add_model(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_grow(commands: Any) -> None:
    parser = _add_command(
        commands,
        "grow",
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
        "roadmap",
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
        f"its names: {', '.join(NAMES)}",
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
        default=text_split.HELD_OUT_TOKENS,
        metavar="N",
        help=f"the most tokens to hold out (default: {text_split.HELD_OUT_TOKENS})",
    )
    add(
        "--grid",
        metavar="FILE",
        help=f"the architectures to try (default: a balanced sample of {DEFAULT_SIZE} from all combinations)",
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
