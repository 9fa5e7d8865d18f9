"""``saffu export``: a saved model in a format that other programs read."""

from __future__ import annotations

import argparse

from saffu.cli import files, models, output
from saffu.cli.options import Commands, add_model, add_quiet, new_command
from saffu.ngram_lm import BackoffLM, ExplicitLM


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    parser = new_command(
        commands,
        "export",
        "write a model in a format of other programs",
        "ARPA is the text format of n-gram models that KenLM, SRILM and speech recognisers read. It holds what backs\n"
        "off from longer to shorter contexts and nothing else: models trained with --priming backoff (Kneser-Ney with\n"
        "a fitted weight for each length of context) or --priming kneser-ney. <eos> at line ends becomes </s>, and\n"
        "the start of a document <s>: where programs score sentence by sentence, train on text with a sentence a line\n"
        "and --documents line. Prints how many n-grams of 1, 2, ... tokens were written.",
        "  saffu train book.txt --priming backoff --tokenizer whitespace --documents line --out book.saffu\n"
        "  saffu export book.saffu --arpa book.arpa.gz\n"
        "  python -c \"import kenlm; print(kenlm.Model('book.arpa.gz').score('it was'))\"",
    )
    add_model(parser)
    name = "the file to write; compressed if its name ends with .gz"
    parser.add_argument("--arpa", required=True, metavar="FILE", help=name)
    add_quiet(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Write the file and print its sizes."""
    files.check_outputs([arguments.arpa], [arguments.model])
    model = models.load(arguments.model, arguments.threads)
    if isinstance(model, ExplicitLM):
        models.vocabulary_of(model, arguments.model)
        model = model.to_backoff()
    if not isinstance(model, BackoffLM):
        raise ValueError(
            f"{arguments.model!r} holds {type(model).__name__}; ARPA files can hold an ExplicitLM trained with "
            "--priming backoff or kneser-ney"
        )
    model.to_arpa(arguments.arpa, progress=not arguments.quiet)
    print("\n".join(output.as_lines({"file": arguments.arpa, "ngrams": model.summary()["ngrams"]})))
