"""The demonstration: a language model of Python's own documentation, beside simpler models of the same text."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from saffu.ngram_lm.model import PRIMINGS, ExplicitLM
from saffu.text import UNKNOWN, Vocabulary, detokenise, tokenise

TOKENISER, MIN_COUNT, SEED = "words", 3, 1


def run(progress: bool = False) -> None:
    """Train on the documentation topics that ship with Python and print what came of it.

    Parameters
    ----------
    progress : bool
        Show progress bars on stderr.

    Raises
    ------
    ImportError
        If this Python was installed without its documentation topics.
    """
    begin = time.perf_counter()
    held_out, training = _split(_topics())
    vocabulary = Vocabulary.build(training, MIN_COUNT, TOKENISER, "file")
    ids, starts = _encode(training, vocabulary)
    test_ids, test_starts = _encode(held_out, vocabulary)
    print(f"text      the topics of Python's own help: {len(training)} to train on, {len(held_out)} held out")
    unknown = f"{vocabulary.unknown_rate(test_ids):.1%} <unk>"
    print(f"tokens    {ids.size:,} for training, {test_ids.size:,} held out ({unknown})")
    print(f"types     {len(vocabulary):,}, each seen {MIN_COUNT} times or more")

    model = _trained(PRIMINGS[0], ids, starts, vocabulary, progress)
    seconds = model.seconds
    print(f"seconds   count {seconds['count']:.2f}, weigh {seconds['weigh']:.2f}, prime {seconds['prime']:.2f}")
    print("\nheld-out perplexity (no held-out text was used in training)")
    unigram = float(np.exp(-np.mean(model.unigram_log_prob(test_ids))))
    _print_row("unigram", unigram)
    for name, priming in (("modified Kneser-Ney", "kneser-ney"), ("every scalar 1", "unit")):
        other = _trained(priming, ids, starts, vocabulary, progress)
        _print_row(name, other.perplexity(test_ids, documents=test_starts))
    _print_row("this model, primed", model.perplexity(test_ids, documents=test_starts))

    print("\nfitted scalars (how much each feature is trusted, from little known contexts to well known ones)")
    for name, value in model.scalars.items():
        print(f"  {name:24}{'  '.join(f'{number:6.3f}' for number in np.atleast_1d(value))}")
    print(f"\ngenerated (seed {SEED})")
    print(_paragraph(model, vocabulary))
    print(f"\n{time.perf_counter() - begin:.1f} s in all")


def _topics() -> list[list[str]]:
    """The tokens of each topic, every paragraph only where it stands first.

    A fifth of the text stands in several topics; left in, it would be held out and trained on at once.
    """
    from pydoc_data.topics import topics

    seen: set[str] = set()
    documents = []
    for name in sorted(topics):
        new = [paragraph for paragraph in dict.fromkeys(topics[name].split("\n\n")) if paragraph not in seen]
        seen.update(new)
        if new:
            documents.append(tokenise("\n\n".join(new) + "\n", TOKENISER))
    return documents


def _split(documents: list[list[str]]) -> tuple[list[list[str]], list[list[str]]]:
    """Every tenth document, and the others."""
    return documents[::10], [document for place, document in enumerate(documents) if place % 10]


def _encode(documents: Sequence[list[str]], vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Ids of all documents in one stream, and where each begins."""
    encoded = list(map(vocabulary.encode, documents))
    starts = np.cumsum([0, *map(len, encoded)])[:-1]
    return np.concatenate(encoded), starts


def _trained(priming: str, ids: np.ndarray, starts: np.ndarray, vocabulary: Vocabulary, progress: bool) -> ExplicitLM:
    model = ExplicitLM(priming=priming)
    model.fit(ids, vocab_size=len(vocabulary), documents=starts, progress=progress)
    return model


def _print_row(name: str, perplexity: float) -> None:
    print(f"  {name:24}{perplexity:8.1f}")


def _paragraph(model: ExplicitLM, vocabulary: Vocabulary) -> str:
    prompt = vocabulary.encode(tokenise("The", TOKENISER))
    unknown = vocabulary.encode([UNKNOWN])
    drawn = model.generate(prompt, 120, temperature=0.9, seed=SEED, exclude=unknown)
    return detokenise(vocabulary.decode([*prompt, *drawn]), TOKENISER)
