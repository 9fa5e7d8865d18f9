"""``saffu demo``: a language model of Python's own documentation, beside simpler models of the same text."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence

import numpy as np

from saffu.cli.options import Commands, add_quiet, new_command
from saffu.ngram_lm.model import ExplicitLM
from saffu.text import UNKNOWN, Vocabulary, detokenize, tokenize
from saffu.utils.streams import TokenStream

TOKENIZER, MIN_COUNT, SEED = "words", 3, 1


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    parser = new_command(
        commands,
        "demo",
        "train and judge a model on Python's own documentation",
        "Trains on the language reference that ships with every Python, with every tenth topic held out, and\n"
        "compares the model with simpler ones. Takes a few seconds; nothing is downloaded or written.",
        "  saffu demo\n  saffu demo --threads 1",
    )
    add_quiet(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Train on the documentation topics that ship with Python and print what came of it.

    Raises
    ------
    ImportError
        If this Python was installed without its documentation topics.
    """
    begin = time.perf_counter()
    held_out, training = _split(_topics())
    vocabulary = Vocabulary.build(training, min_count=MIN_COUNT, tokenizer=TOKENIZER, documents="file")
    text, test = _encode(training, vocabulary), _encode(held_out, vocabulary)
    print(f"text      the topics of Python's own help: {len(training)} to train on, {len(held_out)} held out")
    unknown = f"{vocabulary.unknown_rate(test.ids):.1%} <unk>"
    print(f"tokens    {text.ids.size:,} for training, {test.ids.size:,} held out ({unknown})")
    print(f"types     {len(vocabulary):,}, each seen {MIN_COUNT} times or more")
    models = {priming: _trained(priming, text, vocabulary, arguments) for priming in ("k-fold", "kneser-ney", "unit")}
    model = models["k-fold"]
    seconds = model.seconds
    print(f"seconds   count {seconds['count']:.2f}, weigh {seconds['weigh']:.2f}, prime {seconds['prime']:.2f}")
    _print_perplexities(models, test)
    print("\nfitted scalars (how much each feature is trusted, from little known contexts to well known ones)")
    for name, value in model.scalars.items():
        print(f"  {name:24}{'  '.join(f'{number:6.3f}' for number in np.atleast_1d(value))}")
    print(f"\ngenerated (seed {SEED})")
    print(_paragraph(model, vocabulary))
    print(f"\n{time.perf_counter() - begin:.1f} s in all")


def _topics() -> list[list[str]]:
    """The tokens of each topic, every paragraph only where it occurs first.

    A fifth of the text occurs in several topics; left in, it would be held out and trained on at once.
    """
    from pydoc_data.topics import topics

    seen: set[str] = set()
    documents = []
    for name in sorted(topics):
        new = [paragraph for paragraph in dict.fromkeys(topics[name].split("\n\n")) if paragraph not in seen]
        seen.update(new)
        if new:
            documents.append(tokenize("\n\n".join(new) + "\n", tokenizer=TOKENIZER))
    return documents


def _split(documents: list[list[str]]) -> tuple[list[list[str]], list[list[str]]]:
    """Every tenth document, and the others."""
    return documents[::10], [document for place, document in enumerate(documents) if place % 10]


def _encode(documents: Sequence[list[str]], vocabulary: Vocabulary) -> TokenStream:
    """All documents in one stream of ids."""
    return TokenStream.concat(TokenStream.of(vocabulary.encode(tokens)) for tokens in documents)


def _trained(priming: str, text: TokenStream, vocabulary: Vocabulary, arguments: argparse.Namespace) -> ExplicitLM:
    model = ExplicitLM(priming=priming, n_threads=arguments.threads)
    progress = not arguments.quiet
    model.fit(text.ids, documents=text.starts, vocab_size=len(vocabulary), progress=progress)
    model.prime(progress=progress)
    return model


def _print_perplexities(models: Mapping[str, ExplicitLM], test: TokenStream) -> None:
    print("\nheld-out perplexity (no held-out text was used in training)")
    rows = {"unigram": float(np.exp(-np.mean(models["k-fold"].unigram_log_prob(test.ids))))}
    for name, priming in (
        ("modified Kneser-Ney", "kneser-ney"),
        ("every scalar 1", "unit"),
        ("this model, primed", "k-fold"),
    ):
        rows[name] = models[priming].perplexity(test.ids, documents=test.starts)
    for name, perplexity in rows.items():
        print(f"  {name:24}{perplexity:8.1f}")


def _paragraph(model: ExplicitLM, vocabulary: Vocabulary) -> str:
    prompt = vocabulary.encode(tokenize("The", tokenizer=TOKENIZER))
    unknown = vocabulary.encode([UNKNOWN])
    drawn = model.generate(prompt, 120, temperature=0.9, seed=SEED, exclude=unknown)
    return detokenize(vocabulary.decode([*prompt, *drawn]), tokenizer=TOKENIZER)
