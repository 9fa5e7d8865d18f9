"""``saffu generate``: text drawn from a language model."""

from __future__ import annotations

import argparse

from saffu.cli import models, values
from saffu.cli.options import Commands, add_mmap, add_model, new_command
from saffu.cli.output import write
from saffu.text import UNKNOWN, Joiner, tokenize


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    parser = new_command(
        commands,
        "generate",
        "let a model write text",
        "Prints the prompt and then token after token as it is drawn. The same seed gives the same text.",
        "  saffu generate book.saffu\n"
        "  saffu generate book.saffu --prompt 'It was a dark' --tokens 200 --temperature 0.8 --top-k 50 --seed 1",
    )
    add_model(parser)
    add_mmap(parser)
    option = parser.add_argument
    option("--prompt", default="", metavar="TEXT", help="the text to continue (default: none)")
    option("--tokens", type=values.count(1), default=100, metavar="N", help="how many tokens to draw (default: 100)")
    option(
        "--temperature",
        type=values.temperature,
        default=1.0,
        metavar="T",
        help="below 1 plays safe, above 1 takes risks; 0 always takes the likeliest token (default: 1)",
    )
    option(
        "--top-k", type=values.count(1), metavar="K", help="draw from the K likeliest tokens only (default: from all)"
    )
    option(
        "--seed", type=values.integer(0), metavar="S", help="seed of the random numbers (default: another each time)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Print a prompt and its continuation."""
    model = models.load_with_vocabulary(arguments.model, arguments.threads, mmap=arguments.mmap)
    vocabulary = model.vocabulary
    joiner = Joiner(vocabulary.tokenizer)
    write("".join(map(joiner.add, tokenize(arguments.prompt, tokenizer=vocabulary.tokenizer))))
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
        write(joiner.add(vocabulary.types[token]))
    write(joiner.finish() + "\n")
