"""A SaffuLM on the explicit model as its residual base, beside neural peers of as many parameters: test perplexity.

``python -m bench.experiments.attention_lm_residual [--print]`` takes about 25 minutes, with ``--tokens 100000`` about
four: that table, of little data, has a place of its own in RESULTS.md. Needs SAFFU_DATA, and torch for the peers.

Kneser-Ney, ExplicitLM, the residual SaffuLM solved and refined, and a transformer and an LSTM trained by backprop
(torch) for the time that all of ours took, and for three times that.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from bench.data import corpora
from bench.data.corpora import Parts
from bench.data.texts import made_up
from bench.report.command import Options, closing, options, write
from bench.report.requirements import data_folder, installed
from bench.report.tables import check_published, markdown_table
from saffu import ExplicitLM, SaffuLM
from saffu.text import Chunk, Vocabulary

MULTIPLES = (1.0, 3.0)  # of our time
EXPLICIT, REFINED = "ExplicitLM", "residual SaffuLM, refined"


class Row(NamedTuple):
    """One model: numbers it consists of, seconds from the text to the model, perplexities."""

    name: str
    n_parameters: int
    seconds: float
    valid: float
    test: float
    settings: str = ""


def size(model: ExplicitLM) -> int:
    """Stored counts of an explicit model."""
    return sum(table.nnz for table in model.counts.tables)


def ours(parts: Parts, given: Any) -> Iterator[Row]:
    """Kneser-Ney, the explicit model, and the residual on it; its seconds are those of everything that it needs."""
    train, n_types = parts.train, len(parts.vocabulary)
    valid = corpora.beginning(parts.valid, corpora.VALID_TOKENS)

    def row(name: str, model: Any, n_parameters: int, seconds: float, settings: str = "") -> Row:
        on_valid, on_test = (model.perplexity(text.ids, documents=text.starts) for text in (valid, parts.test))
        return Row(name, n_parameters, seconds, on_valid, on_test, settings)

    for name, priming in (("Kneser-Ney", "kneser-ney"), (EXPLICIT, "k-fold")):
        began = time.perf_counter()
        explicit = ExplicitLM(priming=priming).fit(train.ids, vocab_size=n_types, documents=train.starts)
        fitting = time.perf_counter() - began
        yield row(name, explicit, size(explicit), fitting)
    began = time.perf_counter()
    model = SaffuLM(**architecture(given), residual=explicit)
    model.fit(train.ids, documents=train.starts, vocab_size=n_types)
    solving = fitting + time.perf_counter() - began
    yield row("residual SaffuLM, solved", model, model.n_parameters, solving)
    began = time.perf_counter()
    refined = model.refine(train.ids, epochs=given.epochs, documents=train.starts, **refinement(given, valid))
    seconds = solving + time.perf_counter() - began
    best = min(refined.history or [{}], key=lambda record: record.get("validation_loss", math.inf))
    settings = f"rate {given.rate:g}, dropout {given.dropout:g}, epoch {best.get('epoch')} of {given.epochs}"
    yield row(REFINED, refined, refined.n_parameters, seconds, settings)


def architecture(given: Any) -> dict[str, Any]:
    """Of the network."""
    names = ("bits", "hidden", "radius", "block", "heads", "layers", "words")
    return {"contexts": tuple(given.contexts)} | {name: getattr(given, name) for name in names}


def refinement(given: Any, valid: Chunk) -> dict[str, Any]:
    """Arguments of the refinement."""
    return {
        "learning_rate": given.rate,
        "dropout": given.dropout,
        "batch_tokens": given.batch_tokens,
        "freeze_embeddings": given.frozen,
        "thaw_after": given.thaw_after,
        "validation": (valid.ids, valid.starts),
        "seed": given.seed,
    }


def peers(parts: Parts, n_parameters: int, seconds: float, given: Any) -> Iterator[Row]:
    """Transformer and LSTM; the time in which their learning rate is tuned does not count."""
    from bench.peers import torch_training

    budget = torch_training.Budget(
        n_parameters, seconds, given.multiples, given.tune_seconds, dropouts=given.peer_dropout
    )
    for found in torch_training.rows(parts, budget, given.peers, given.seed):
        settings = f"rate {found.learning_rate:g}, dropout {found.dropout:g}, {found.epochs:.1f} epochs"
        name = f"{found.name}, {found.seconds / seconds:.2g} x the time"
        yield Row(name, found.n_parameters, found.seconds, found.valid, found.test, settings)


def table(rows: Sequence[Row]) -> str:
    """In Markdown; the lowest test perplexity is bold."""
    lowest = min(row.test for row in rows)
    explicit = next(row.test for row in rows if row.name == EXPLICIT)
    lines = []
    for row in rows:
        test = f"**{row.test:.1f}**" if row.test == lowest else f"{row.test:.1f}"
        change = f"{row.test / explicit - 1:+.1%}"
        lines.append(
            [row.name, f"{row.n_parameters:,}", f"{row.seconds:.1f}", f"{row.valid:.1f}", test, change, row.settings]
        )
    header = ["model", "parameters", "seconds", "validation", "test", "to ExplicitLM", "chosen"]
    return markdown_table(header, lines)


def summary(rows: Sequence[Row]) -> str:
    """Two sentences: what refining the residual gains, and which contenders it does not beat."""
    by = {row.name: row for row in rows}
    best = by[REFINED]
    ahead = [row.name for row in rows if row.name != REFINED and row.test <= best.test]
    gain = 1 - best.test / by[EXPLICIT].test
    verdict = "It is below every other line." if not ahead else f"It is not below: {'; '.join(ahead)}."
    compared = f"{gain:.1%} below the ExplicitLM that is its residual base"
    return f"Refined in {best.seconds:.0f} s, all included, it is {compared}. {verdict}"


def made_up_parts() -> Parts:
    """Of the text that is made up."""
    text = made_up(2000)
    vocabulary = Vocabulary([f"w{i}" for i in range(text.n_types - 2)], tokenizer="whitespace", documents="blank-line")
    return Parts(text.name, vocabulary, text.train, text.valid, text.test)


def run(given: Options) -> None:
    """Measure every model and write."""
    began = time.perf_counter()
    more = given.more
    if given.quick:
        parts = made_up_parts()
        vars(more).update(bits=24, hidden=24, epochs=2, tune_seconds=0.05, multiples=[0.1, 0.2])
    else:
        parts = corpora.parts(data_folder(), more.corpus, more.tokens)
    rows: list[Row] = []

    def show(found: Iterator[Row]) -> None:
        for row in found:
            rows.append(row)
            print(f"{row.name}: {row.seconds:.1f} s, validation {row.valid:.1f}, test {row.test:.1f}", flush=True)

    show(ours(parts, more))
    libraries = []
    if more.peers and installed("torch"):
        libraries = ["torch"]
        show(peers(parts, rows[-1].n_parameters, rows[-1].seconds, more))
    about = (
        f"Perplexity on {parts.name}: {parts.train.ids.size:,} tokens to train on, {len(parts.vocabulary):,} types; "
        f"validation on the first {min(corpora.VALID_TOKENS, parts.valid.ids.size):,} tokens of that part, which "
        "chooses the epoch of the refinement, and of the peers the rate and the moment too. Parameters of the explicit "
        "models are the counts that they store; those of the residual leave the explicit model out."
    )
    shape = ", ".join(f"{name} {value}" for name, value in architecture(more).items() if name != "contexts")
    budget = (
        f"residual of contexts {', '.join(more.contexts)}, {shape}; our seconds are wall time from the text to the "
        "model: counting, the explicit model, the solve, and the refinement with its validation; the peers' are "
        "training alone, validation and the tuning of their rate come on top"
    )
    report = [about, table(rows), summary(rows), closing(f"{more.seed}", budget, began, libraries)]
    write(given, [row._asdict() for row in rows], "\n\n".join(report))


def _placed(given: Options) -> Options:
    """Options whose name, and folder where none was given, tells a text cut short from a whole one."""
    if given.more.tokens is None:
        return given
    name = f"{given.name}-{given.more.tokens}"
    return given._replace(name=name, out=given.out.with_name(name) if given.out.name == given.name else given.out)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Text, architecture, refinement, peers."""
    add = parser.add_argument
    add("--corpus", choices=(*corpora.WORDS, "children"), default="brown")
    add("--tokens", type=int, help="train on the lines among the first so many tokens, with their vocabulary")
    add("--bits", type=int, default=64)
    add("--hidden", type=int, default=64)
    add("--contexts", nargs="+", default=["radial", "document"])
    add("--radius", type=int, default=8)
    add("--block", type=int, default=8)
    add("--heads", type=int, default=3)
    add("--layers", type=int, default=1)
    add("--words", type=int, default=4000, help="with output weights of their own; the others share those of classes")
    add("--epochs", type=int, default=1)
    add("--rate", type=float, default=3e-3, help="learning rate of the output, a tenth of the others'")
    add("--dropout", type=float, default=0.0, help="of hidden units, in the refinement")
    add("--batch-tokens", type=int, default=512)
    add("--frozen", action="store_true", help="leave the embeddings as they were solved")
    add("--thaw-after", type=int, help="let embeddings move after so many epochs")
    add("--peers", nargs="*", default=["transformer", "LSTM"], help="none for our lines alone")
    add("--multiples", type=float, nargs="+", default=list(MULTIPLES), help="of our time, for the peers")
    add(
        "--tune-seconds", type=float, default=0.0, help="of each learning rate of the peers; by default a tenth of ours"
    )
    add("--peer-dropout", type=float, nargs="*", default=[], help="each tried; by default one that suits the epochs")
    add("--seed", type=int, default=0)


def main(argv: Sequence[str] | None = None) -> None:
    """Run as a command."""
    given = _placed(options("attention-lm-residual", __doc__, argv, add_options, needs=[]))
    check_published(given.name, given.only_print)  # a text cut short has a place of its own
    run(given)


if __name__ == "__main__":
    main()
