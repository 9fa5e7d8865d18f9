"""``saffu train``: a language model of text files."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any, NoReturn

from saffu.attention_lm.model import SaffuLM
from saffu.cli import train_within, values
from saffu.cli.files import check_outputs
from saffu.cli.models import corpus_to_train, reading_bar, tokenizer_files, with_trained_tokenizer
from saffu.cli.options import Commands, add_files, add_quiet, add_tokens, flag, given, new_command
from saffu.cli.prune import max_loss_help, outcome
from saffu.mixture_lm import MixtureLM
from saffu.ngram_lm.context_selection import candidate_contexts
from saffu.ngram_lm.model import PRIMINGS, ExplicitLM
from saffu.ngram_lm.spilled_counts import check_spill_folder
from saffu.text import Corpus, EncodedCorpus
from saffu.training import LEARNING_RATE
from saffu.utils.progress import progress_bar
from saffu.utils.streams import TokenStream

MODELS = ("explicit", "saffu", "mixture", "recurrent")
EXPLICIT_OPTIONS = ("order", "windows", "induction", "priming")
COUNTING_OPTIONS = ("memory", "min_entry")
RESIDUAL_OPTIONS = ("residual", "residual_radius")
UNIT_OPTIONS = ("bits", "contexts", "block", "heads", "layers", "hidden")
BUDGETED = ("mixture", "recurrent")
REFINING_OPTIONS = ("learning_rate", "dropout", "thaw_after", "valid")


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    parser = new_command(
        commands,
        "train",
        "train a language model on text files",
        "The explicit model counts what words follow what words, and knows a text's phrases. It reads the text a\n"
        "block at a time: the text may be larger than memory, and with --memory its counts, too. The saffu model is\n"
        "compact and finds what words have in common; it is solved by counting, too, and --refine improves it by\n"
        "gradient steps. With --residual its logits are added to those of an explicit model of the same text, which\n"
        "is saved in the same file. A mixture is an explicit model beside a recurrent neural network that is trained\n"
        "on its own for what is left of --budget, with a weight each, fitted on a part of the text that neither has\n"
        "seen by then: it takes minutes, and predicts best. Ctrl-C ends the training of a network: what has been\n"
        "learned by then, at least the explicit model, is in MODEL.interrupted. A file is written whole or not at all.",
        "  saffu train book.txt --out book.saffu\n"
        "  saffu train brown.txt.gz --out brown.saffu --tokenizer whitespace --min-count 3\n"
        "  saffu train brown.txt.gz --out pieces.saffu --tokenizer bpe:8000\n"
        "  saffu train shakespeare.txt --out chars.saffu --tokenizer chars --radius 8 --order 8\n"
        "  xzcat news-*.xz | saffu train - --out news.saffu --windows 500 --induction 0\n"
        "  saffu train web-*.zst --out web.saffu --memory 4G --min-entry 1,1,2\n"
        "  saffu train brown.txt.gz --out fast.saffu --tokenizer whitespace --prune 0.005\n"
        "  saffu train book.txt --out small.saffu --model saffu --bits 32 --hidden 64\n"
        "  saffu train book.txt --out best.saffu --model saffu --residual --residual-radius 3 --refine 2\n"
        "  saffu train brown.txt.gz --out mixed.saffu --tokenizer whitespace --model mixture --budget 15m",
    )
    add_files(parser)
    parser.add_argument(
        "--out", metavar="MODEL", required=True, help="the file to write; replaced only when the new one is whole"
    )
    parser.add_argument("--model", choices=MODELS, default=MODELS[0], help="the kind of model (default: explicit)")
    parser.add_argument(
        "--budget",
        type=values.budget,
        metavar="TIME",
        help="wall time that the command may take, such as 90s, 15m or 1.5h; for the mixture and the recurrent model "
        f"({train_within.BUDGET})",
    )
    add_tokens(parser)
    _add_explicit_options(parser)
    _add_counting_options(parser)
    _add_unit_options(parser)
    _add_refining_options(parser)
    add_quiet(parser)
    parser.set_defaults(run=run)


def _add_explicit_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("explicit model, alone, in a mixture or with --residual").add_argument
    add(
        "--radius",
        type=values.integer(1),
        metavar="R",
        help="count pairs at distances 1 to R (default: 5); with --model saffu, see the last R tokens (default: 8)",
    )
    add(
        "--order",
        type=values.integer(2),
        metavar="N",
        help="count n-grams of up to N tokens, that predicted included (4)",
    )
    add(
        "--windows",
        type=values.windows,
        metavar="L,L,...",
        help='predict from the words of the last L tokens of the document, for each L; "" for none (60,500,2000)',
    )
    add(
        "--induction",
        type=values.integer(0),
        metavar="L",
        help="predict what followed the newest token earlier in the last L tokens; 0 for not (2000)",
    )
    add(
        "--priming",
        choices=PRIMINGS,
        help="how much to trust each feature: fitted to training text that is left out of the counts in turn (k-fold) "
        "or token by token (leave-one-out), set so that the model is modified Kneser-Ney, 1, or Kneser-Ney's fitted "
        "for each length of context, a model that 'saffu export' writes (backoff) "
        f"({PRIMINGS[0]})",
    )
    add(
        "--select-contexts",
        action="store_true",
        default=None,
        help="also predict from pairs of words that skip some or, in a model of characters, from the word so far and "
        "the word before, and from the place in the line; what does not pay on training text that is left out of the "
        "counts is left out of the model; for the explicit model alone",
    )
    add(
        "--prune",
        type=values.positive,
        metavar="X",
        help="write a smaller and faster model, as 'saffu prune' makes it: "
        f"{max_loss_help('default: nothing is dropped')}; for the explicit model alone",
    )


def _add_counting_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("counts of the explicit model").add_argument
    add(
        "--memory",
        type=values.memory,
        metavar="SIZE",
        help="memory to count and prime in, about, such as 512M or 2G; counts beyond it go to disk (no limit)",
    )
    add(
        "--min-entry",
        type=values.least_counts,
        metavar="N,N,...",
        help="the least count of n-grams of 1, 2, ... tokens: 1,1,2 drops those of three tokens and more that occur "
        "once; a pair at any distance has two tokens (1: nothing is dropped)",
    )
    add(
        "--spill-folder",
        metavar="FOLDER",
        help="where counts go beyond --memory, and the text as numbers, four bytes a token, until the model is written "
        "(default: the folder of the model)",
    )


def _add_unit_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("saffu model").add_argument
    add(
        "--residual",
        action="store_true",
        default=None,
        help="add the logits of an explicit model of the same text, the residual base",
    )
    add(
        "--residual-radius",
        type=values.integer(1),
        metavar="R",
        help="the residual base counts pairs at distances 1 to R (5)",
    )
    add("--bits", type=values.integer(1), metavar="N", help="width of the embeddings (64)")
    add(
        "--contexts",
        type=values.contexts,
        metavar="C+C+...",
        help="what to look at: block, the tokens of the present block; radial, the last tokens; document, the whole "
        "document so far (radial+document)",
    )
    add("--block", type=values.integer(1), metavar="N", help="tokens in a block (8)")
    add(
        "--heads",
        type=values.integer(1),
        metavar="N",
        help="units on each context, each with an attention of its own (1)",
    )
    add("--layers", type=values.integer(1), metavar="N", help="layers above the first look at hidden states (1)")
    add("--hidden", type=values.integer(1), metavar="N", help="hidden units of each head (64)")


def _add_refining_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("refinement of a saffu model").add_argument
    add("--refine", type=values.count(0), metavar="EPOCHS", help="passes over the text by gradient steps (0)")
    add("--learning-rate", type=values.positive, metavar="RATE", help=f"of the gradient steps ({LEARNING_RATE})")
    add("--dropout", type=values.share, metavar="P", help="of the hidden units, in the gradient steps (0)")
    add("--thaw-after", type=values.count(0), metavar="N", help="after N epochs the embeddings move too (never)")
    add(
        "--valid",
        action="append",
        metavar="FILE",
        help="text to choose the best epoch by; may be repeated (default: the last epoch is taken)",
    )


# ---- the work --------------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> None:
    """Train, save and print what was written."""
    begin = time.monotonic()
    corpus = corpus_to_train(arguments)
    may_be_interrupted = arguments.refine or arguments.model in BUDGETED
    outputs = [arguments.out, *([_name_if_interrupted(arguments.out)] if may_be_interrupted else [])]
    check_outputs(outputs, [*arguments.files, *(arguments.valid or []), *tokenizer_files(arguments)])
    corpus = with_trained_tokenizer(corpus, arguments)
    if arguments.model in BUDGETED:
        model, n_tokens = _train_within(arguments, corpus, begin)
    else:
        if arguments.budget is not None:
            raise ValueError(f"--budget is for --model {' and '.join(BUDGETED)}")
        train = _train_explicit if arguments.model == "explicit" else _train_saffu
        model, n_tokens = train(arguments, corpus)
    if getattr(model, "interrupted", False):
        _keep_best(model, arguments.out)
    model.save(arguments.out)
    assert model.vocabulary is not None
    size = os.path.getsize(arguments.out) / 1e6
    print(
        f"{arguments.out}: {n_tokens:,} tokens, {len(model.vocabulary):,} types, {size:,.1f} MB, "
        f"{time.monotonic() - begin:.1f} s"
    )
    if isinstance(model, MixtureLM):
        print(train_within.outcome(model))


def _train_explicit(arguments: argparse.Namespace, corpus: Corpus) -> tuple[Any, int]:
    """A model of a corpus of any size, and how many tokens that has."""
    if others := given(arguments, *UNIT_OPTIONS, *REFINING_OPTIONS, *RESIDUAL_OPTIONS, "refine"):
        raise ValueError(f"{flag(next(iter(others)))} is for --model saffu")
    settings = given(arguments, "radius", *EXPLICIT_OPTIONS, "min_entry")
    if arguments.select_contexts and (others := given(arguments, "prune", *COUNTING_OPTIONS)):
        raise ValueError(f"--select-contexts needs all counts in memory: {flag(next(iter(others)))} has no meaning")
    if arguments.memory is not None:
        settings |= {"memory_limit": arguments.memory, "spill_folder": _spill_folder(arguments)}
        check_spill_folder(_spill_folder(arguments))
    model = ExplicitLM(**settings, n_threads=arguments.threads)
    progress = not arguments.quiet
    text = _encoded(arguments, corpus)
    if arguments.select_contexts:
        settings |= candidate_contexts(text.vocabulary, model.radius)
        model = ExplicitLM(**settings, n_threads=arguments.threads)
    model.vocabulary = text.vocabulary
    with progress_bar(text.n_tokens, "count", progress) as bar:
        for chunk in text.chunks():
            model.partial_fit(chunk.ids, documents=chunk.starts, vocab_size=len(text.vocabulary), progress=False)
            bar.update(chunk.ids.size)
        model.counted.count_waiting(model.n_threads, progress=False)
    model.prime(progress=progress)
    if arguments.select_contexts:
        model = model.select(progress=progress)
    if arguments.prune is None:
        return model, model.n_tokens
    smaller = model.pruned(max_loss=arguments.prune, progress=progress)
    print(outcome(smaller))
    return smaller, model.n_tokens


def _train_within(arguments: argparse.Namespace, corpus: Corpus, begin: float) -> tuple[Any, int]:
    """A mixture, or a recurrent model, of a corpus, and how many tokens that has."""
    is_mixture = arguments.model == "mixture"
    for_counts = ("radius", *EXPLICIT_OPTIONS, "min_entry")
    if others := given(arguments, *UNIT_OPTIONS, *REFINING_OPTIONS, *RESIDUAL_OPTIONS, "refine"):
        raise ValueError(f"{flag(next(iter(others)))} is for --model saffu")
    if others := given(arguments, "memory", "prune", "select_contexts", *(() if is_mixture else for_counts)):
        raise ValueError(f"{flag(next(iter(others)))} is for --model explicit")
    budget = train_within.time_budget(arguments, begin)
    explicit = ExplicitLM(**given(arguments, *for_counts), n_threads=arguments.threads)
    encoded = _encoded(arguments, corpus)
    vocabulary, text = encoded.vocabulary, TokenStream.concat(chunk.stream for chunk in encoded.chunks())
    train = train_within.train_mixture if is_mixture else train_within.train_recurrent
    model = train(arguments, text, len(vocabulary), budget, explicit)
    model.vocabulary = vocabulary
    return model, text.ids.size


def _encoded(arguments: argparse.Namespace, corpus: Corpus) -> EncodedCorpus:
    """The corpus and its vocabulary, read once."""
    with reading_bar(corpus, "read", not arguments.quiet) as advance:
        return EncodedCorpus(corpus, min_count=arguments.min_count, folder=_spill_folder(arguments), advance=advance)


def _spill_folder(arguments: argparse.Namespace) -> str:
    """Where what does not fit into memory goes."""
    folder: str | None = arguments.spill_folder
    return folder or os.path.dirname(os.path.realpath(arguments.out))


def _train_saffu(arguments: argparse.Namespace, corpus: Corpus) -> tuple[Any, int]:
    """A compact model of a corpus, and how many tokens that has."""
    model, residual = _new_saffu(arguments)
    valid = None
    if arguments.valid:
        valid = Corpus(arguments.valid, tokenizer=corpus.tokenizer, documents=arguments.documents)
    progress = not arguments.quiet
    encoded = _encoded(arguments, corpus)
    vocabulary, text = encoded.vocabulary, TokenStream.concat(chunk.stream for chunk in encoded.chunks())
    held_out = None if valid is None else valid.read(vocabulary)
    documents: dict[str, Any] = {"documents": text.starts, "progress": progress}
    if residual is not None:
        residual.fit(text.ids, vocab_size=len(vocabulary), **documents)
        model.min_count = vocabulary.min_count
    model.fit(text.ids, vocab_size=len(vocabulary), **documents)
    if arguments.refine:
        options = given(arguments, *(name for name in REFINING_OPTIONS if name != "valid"))
        validation = None if held_out is None else (held_out.ids, held_out.starts)
        model = model.refine(text.ids, epochs=arguments.refine, validation=validation, **documents, **options)
    model.vocabulary = vocabulary
    return model, text.ids.size


def _new_saffu(arguments: argparse.Namespace) -> tuple[SaffuLM, ExplicitLM | None]:
    """A compact model that is not solved yet, and its residual base.

    Raises
    ------
    ValueError
        If an option was given that has no meaning without another.
    """
    if others := given(arguments, "prune", "select_contexts"):
        raise ValueError(f"{flag(next(iter(others)))} is for --model explicit")
    if not arguments.residual and (others := given(arguments, *EXPLICIT_OPTIONS)):
        raise ValueError(f"{flag(next(iter(others)))} is for --model explicit, or needs --residual")
    if others := given(arguments, *COUNTING_OPTIONS):
        raise ValueError(f"{flag(next(iter(others)))} is for --model explicit")
    if not arguments.residual and arguments.residual_radius is not None:
        raise ValueError("--residual-radius needs --residual")
    if not arguments.refine and (others := given(arguments, *REFINING_OPTIONS)):
        raise ValueError(f"{flag(next(iter(others)))} needs --refine")
    residual = None
    if arguments.residual:
        radius = {} if arguments.residual_radius is None else {"radius": arguments.residual_radius}
        residual = ExplicitLM(**radius, **given(arguments, *EXPLICIT_OPTIONS), n_threads=arguments.threads)
    settings = given(arguments, "radius", *UNIT_OPTIONS)
    return SaffuLM(**settings, residual=residual, n_threads=arguments.threads), residual


def _name_if_interrupted(out: str) -> str:
    """Where what an interrupted training has learned goes: it is not what was asked for."""
    return f"{out}.interrupted"


def _keep_best(model: Any, out: str) -> NoReturn:
    """Save what an interrupted training has learned, if it has, and end."""
    is_refined = isinstance(model, SaffuLM)
    if is_refined and len(model.history or []) < 2:
        raise KeyboardInterrupt(f"{out!r} was not written")
    kept = _name_if_interrupted(out)
    model.save(kept)
    raise KeyboardInterrupt(f"{out!r} was not written; the best {'epoch ' * is_refined}so far is in {kept!r}")
