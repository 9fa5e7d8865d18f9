"""``saffu eval``: how well a saved model predicts text files, or the classes of rows."""

from __future__ import annotations

import argparse
import math
import time
from typing import TypeAlias

import numpy as np

from saffu.classifier.network import ExplicitNetwork
from saffu.classifier.softmax_layer import SoftmaxLayer
from saffu.classifier.text_classifier import ExplicitTextClassifier
from saffu.cli import models, output, rows
from saffu.cli.options import Commands, add_documents, add_json, add_mmap, add_model, add_quiet, new_command
from saffu.ngram_lm import ExplicitLM
from saffu.patches import ExplicitConvNet
from saffu.utils.arrays import Float64, Int32, Int64
from saffu.utils.streams import TokenStream

Figures: TypeAlias = dict[str, float]


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    parser = new_command(
        commands,
        "eval",
        "measure how well a model predicts text files or rows",
        "Of a language model: perplexity (per token, <eos> at line ends included), nats per token, bits per\n"
        "character, tokens, share of <unk> among them, seconds for scoring and tokens per second. Its text may also\n"
        "be token ids, in a file .npz of numpy with an array ids and, optionally, documents, the offsets at which\n"
        "documents start; a model without a vocabulary needs them.\n"
        "Of a classifier: accuracy, nats per row (the mean negative log-probability of the true class), rows, seconds\n"
        "and rows per second. Its rows are in one .npz with arrays X and y, or in one file of the svmlight format,\n"
        "which scikit-learn reads.",
        "  saffu eval brown.saffu test.txt.gz\n"
        "  saffu eval brown.saffu test.txt.gz --json\n"
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
        help="UTF-8 text, plain or gzip, bzip2, xz or zstd, - is standard input; or token ids in .npz; for a "
        "classifier, rows in .npz or svmlight",
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
    model = models.load(arguments.model, arguments.threads, mmap=arguments.mmap)
    if isinstance(model, models.LANGUAGE_MODELS):
        figures = _language_model(model, arguments)
    elif isinstance(model, (SoftmaxLayer, ExplicitNetwork, ExplicitConvNet)):
        figures = _classifier(model, arguments)
    elif isinstance(model, ExplicitTextClassifier):
        raise ValueError(f"{arguments.model!r} holds a classifier of texts; 'saffu classify test' measures it")
    else:
        raise ValueError(f"{arguments.model!r} holds {type(model).__name__}, which predicts nothing to evaluate")
    print(output.as_json(figures) if arguments.json else output.as_table(figures))


# ---- language models -------------------------------------------------------------------------------------------------


def _language_model(model: models.LanguageModel, arguments: argparse.Namespace) -> Figures:
    progress = not arguments.quiet
    if all(map(rows.is_npz, arguments.files)):
        stream = TokenStream.concat(rows.read_ids(path, model.vocab_size) for path in arguments.files)
        nats, seconds = _score(model, stream, progress, arguments.adapt)
        return _figures(nats, seconds, stream.ids.size)
    vocabulary = models.vocabulary_of(model, arguments.model)
    corpus = models.corpus_for(vocabulary, arguments.files, arguments.documents)
    with models.reading_bar(corpus, "read", progress) as advance:
        text = corpus.read(vocabulary, advance=advance)
    nats, seconds = _score(model, text.stream, progress, arguments.adapt)
    figures = _figures(nats, seconds, text.ids.size)
    return {
        **{name: figures[name] for name in ("perplexity", "nats_per_token")},
        "bits_per_char": nats / math.log(2) / text.n_characters,
        "tokens": figures["tokens"],
        "unk_rate": vocabulary.unknown_rate(text.ids),
        **{name: figures[name] for name in ("seconds", "tokens_per_second")},
    }


def _score(model: models.LanguageModel, stream: TokenStream, progress: bool, adapt: bool) -> tuple[float, float]:
    """Negative log-probability of a text, nats, and the seconds that took."""
    if adapt and not isinstance(model, ExplicitLM):
        raise ValueError(f"--adapt wants a model that learns on the spot, an ExplicitLM, got {type(model).__name__}")
    model.log_prob(stream.ids[:1], progress=False)  # weights are made from counts at the first reading: no scoring
    begin = time.perf_counter()
    more = {"adapt": True} if adapt else {}
    log_prob = model.log_prob(stream.ids, documents=stream.starts, progress=progress, **more)
    return -float(np.sum(log_prob)), time.perf_counter() - begin


def _figures(nats: float, seconds: float, tokens: int) -> Figures:
    return {
        "perplexity": output.exp(nats / tokens),
        "nats_per_token": nats / tokens,
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
    }


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
