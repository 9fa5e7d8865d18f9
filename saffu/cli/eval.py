"""``saffu eval``: how well a saved model predicts text files, or the classes of rows."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from saffu.classifier.network import ExplicitNetwork
from saffu.classifier.softmax_layer import SoftmaxLayer
from saffu.classifier.text_classifier import ExplicitTextClassifier
from saffu.cli import models, output, rows
from saffu.cli.options import Commands, add_documents, add_json, add_mmap, add_model, add_quiet, new_command
from saffu.ngram_lm import ExplicitLM
from saffu.patches import ExplicitConvNet
from saffu.text.bootstrap import nats_interval, paired_test
from saffu.utils.arrays import Float64, Int32, Int64
from saffu.utils.streams import TokenStream

Figures: TypeAlias = dict[str, float]


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    parser = new_command(
        commands,
        "eval",
        "measure how well a model predicts text files or rows",
        "Of a language model: perplexity (per token, <eos> at line ends included) and the ends of its confidence\n"
        "interval (95 %, documents drawn anew; blocks of 500 tokens where there are fewer than 20), nats per token,\n"
        "bits per character and per byte of UTF-8, tokens, share of <unk> among them, seconds for scoring and\n"
        "tokens per second. Its text may also be token ids, in a file .npz of numpy with an array ids and,\n"
        "optionally, documents, the offsets at which documents start; a model without a vocabulary needs them.\n"
        "Of two language models of one vocabulary: the figures of both, and what the second loses more than the\n"
        "first, with its confidence interval and the p-value of a paired test by signs.\n"
        "Of a classifier: accuracy, nats per row (the mean negative log-probability of the true class), rows, seconds\n"
        "and rows per second. Its rows are in one .npz with arrays X and y, or in one file of the svmlight format,\n"
        "which scikit-learn reads.",
        "  saffu eval brown.saffu test.txt.gz\n"
        "  saffu eval brown.saffu test.txt.gz --json\n"
        "  saffu eval brown.saffu mixed.saffu test.txt.gz\n"
        "  saffu eval brown.saffu tales.txt.gz --adapt\n"
        "  zcat test.txt.gz | saffu eval brown.saffu -\n"
        "  saffu eval transformer.saffu ids.npz\n"
        "  saffu eval digits.saffu test.npz",
    )
    add_model(parser, "a file written by 'saffu train', or by the method save of any model")
    add_mmap(parser)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a second model first, to compare it; UTF-8 text, plain or gzip, bzip2, xz or zstd, - is standard input; "
        "or token ids in .npz; for a classifier, rows in .npz or svmlight",
    )
    parser.add_argument(
        "--adapt",
        action="store_true",
        help="of an explicit language model: learn each document once it has been scored, long ones in pieces of 2,000 "
        "tokens; the file of the model stays as it is",
    )
    add_json(parser)
    add_documents(parser, "default: as in training")
    add_quiet(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Score and print."""
    if len(arguments.files) > 1 and models.looks_like_model(arguments.files[0]):
        _compare(arguments)
        return
    model = models.load(arguments.model, arguments.threads, mmap=arguments.mmap)
    if isinstance(model, models.LANGUAGE_MODELS):
        figures = _language_model(model, arguments)
    elif isinstance(model, (SoftmaxLayer, ExplicitNetwork, ExplicitConvNet)):
        figures = _classifier(model, arguments)
    elif isinstance(model, ExplicitTextClassifier):
        raise ValueError(f"{arguments.model!r} holds a classifier of texts; 'saffu classify test' measures it")
    else:
        raise ValueError(f"{arguments.model!r} holds {type(model).__name__}, which predicts nothing to evaluate")
    print(output.as_json(figures) if arguments.json else output.as_table(_known(figures)))


# ---- language models -------------------------------------------------------------------------------------------------


class _Text(NamedTuple):
    """A text to score, and what is known of it beside its tokens: nothing if it was given as ids."""

    stream: TokenStream
    n_characters: int = 0
    n_bytes: int = 0
    unk_rate: float = math.nan


def _language_model(model: models.LanguageModel, arguments: argparse.Namespace) -> Figures:
    text = _read(model, arguments, arguments.files)
    return _figures(text, *_score(model, text.stream, arguments))


def _read(model: models.LanguageModel, arguments: argparse.Namespace, files: Sequence[str]) -> _Text:
    if all(map(rows.is_npz, files)):
        return _Text(TokenStream.concat(rows.read_ids(path, model.vocab_size) for path in files))
    vocabulary = models.vocabulary_of(model, arguments.model)
    corpus = models.corpus_for(vocabulary, files, arguments.documents)
    with models.reading_bar(corpus, "read", not arguments.quiet) as advance:
        text = corpus.read(vocabulary, advance=advance)
    return _Text(text.stream, text.n_characters, text.n_bytes, vocabulary.unknown_rate(text.ids))


def _score(model: models.LanguageModel, stream: TokenStream, arguments: argparse.Namespace) -> tuple[Float64, float]:
    """Log-probabilities of the tokens of a text, nats, and the seconds that took."""
    if arguments.adapt and not isinstance(model, ExplicitLM):
        raise ValueError(f"--adapt wants a model that learns on the spot, an ExplicitLM, got {type(model).__name__}")
    model.log_prob(stream.ids[:1], progress=False)  # weights are made from counts at the first reading: no scoring
    begin = time.perf_counter()
    more = {"adapt": True} if arguments.adapt else {}
    log_prob = model.log_prob(stream.ids, documents=stream.starts, progress=not arguments.quiet, **more)
    return log_prob, time.perf_counter() - begin


def _figures(text: _Text, log_prob: Float64, seconds: float) -> Figures:
    tokens, nats = log_prob.size, -float(np.sum(log_prob))
    low, high = nats_interval(log_prob, text.stream)
    figures: Figures = {
        "perplexity": output.exp(nats / tokens),
        "perplexity_low": output.exp(low),
        "perplexity_high": output.exp(high),
        "nats_per_token": nats / tokens,
    }
    if text.n_bytes:
        bits = nats / math.log(2)
        figures |= {"bits_per_char": bits / text.n_characters, "bits_per_byte": bits / text.n_bytes}
    figures["tokens"] = tokens
    if text.n_bytes:
        figures["unk_rate"] = text.unk_rate
    return figures | {"seconds": seconds, "tokens_per_second": tokens / seconds}


def _known(figures: Figures) -> Figures:
    """Those that are numbers: a short text has no intervals."""
    return {name: value for name, value in figures.items() if not math.isnan(value)}


# ---- two language models ---------------------------------------------------------------------------------------------


def _compare(arguments: argparse.Namespace) -> None:
    """Score a text under two models and print how they differ."""
    paths, files = [arguments.model, arguments.files[0]], arguments.files[1:]
    pair = [models.load(path, arguments.threads, mmap=arguments.mmap) for path in paths]
    for model, path in zip(pair, paths, strict=True):
        models.check_language_model(model, path)
    first, second = ((model.vocab_size, getattr(model, "vocabulary", None)) for model in pair)
    if first[0] != second[0] or (None not in (first[1], second[1]) and first[1] != second[1]):
        raise ValueError(f"{paths[0]!r} and {paths[1]!r} must have equal vocabularies to be compared")
    text = _read(pair[0], arguments, files)
    scored = [_score(model, text.stream, arguments) for model in pair]
    found = paired_test(scored[0][0], scored[1][0], text.stream)
    difference = {
        "nats_per_token": found.difference,
        "nats_per_token_low": found.interval.low,
        "nats_per_token_high": found.interval.high,
        "perplexity_ratio": output.exp(found.difference),
        "p_value": found.p_value,
        "units": found.n_units,
    }
    figures = [_figures(text, *one) for one in scored]
    if arguments.json:
        print(output.as_json({"first": figures[0], "second": figures[1], "difference": difference}))
        return
    print("\n".join(output.as_columns(("first", "second"), [_known(one) for one in figures])))
    print(f"\nsecond minus first\n{output.as_table(_known(difference))}")


# ---- classifiers -----------------------------------------------------------------------------------------------------


def _classifier(model: SoftmaxLayer | ExplicitNetwork | ExplicitConvNet, arguments: argparse.Namespace) -> Figures:
    if len(arguments.files) > 1:
        raise ValueError(f"a classifier is evaluated on one file of rows, got {len(arguments.files)}")
    X, labels = rows.read_rows(arguments.files[0], rows.n_features(model))
    classes = rows.class_numbers(labels, model.classes_, arguments.files[0])
    begin = time.perf_counter()
    log_p = np.asarray(model.predict_log_proba(X), np.float64)
    seconds = time.perf_counter() - begin
    return {
        "accuracy": _accuracy(log_p, classes),
        "nats_per_row": float(-log_p[np.arange(classes.size), classes].mean()),
        "rows": classes.size,
        "seconds": seconds,
        "rows_per_second": classes.size / seconds,
    }


def _accuracy(log_p: Float64, classes: Int32 | Int64) -> float:
    return float(np.mean(log_p.argmax(axis=1) == classes))
