"""``saffu surprisal``: how surprising each token of a text is to a language model, as a table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from saffu.cli import models, output, rows
from saffu.cli.files import check_outputs, check_standard_output
from saffu.cli.options import Commands, add_documents, add_mmap, add_model, add_out, add_quiet, new_command
from saffu.text import LINE_END_ID, UNKNOWN_ID, Vocabulary
from saffu.text.reading import Advance
from saffu.text.special import LINE_END
from saffu.text.surprisal import EMPTY, Surprisal, surprisals
from saffu.text.words import WordBounds
from saffu.utils.arrays import Int32, Int64
from saffu.utils.progress import progress_bar
from saffu.utils.streams import TokenStream

COLUMNS = ("token", "surprisal", "entropy", "unknown")
ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    parser = new_command(
        commands,
        "surprisal",
        "print how surprising each token of a text is",
        "Prints a line for each token, with tabs between: the token; its surprisal in bits, the negative logarithm of\n"
        "its probability given what precedes it in its document; the entropy in bits of the distribution over all\n"
        "tokens at the same place, which is the surprisal to be expected there; and 1 if the model does not know the\n"
        "token, else 0. Where tokens are pieces of words, a line is a word, with the sums over its pieces; entropies\n"
        "sum to an unbiased estimate of that of the word. Line ends are <eos>; a tab, line end or backslash within a\n"
        "token is written \\t, \\n, \\r or \\\\. The text may also be token ids, as for 'saffu eval'. About one\n"
        "document, or four million characters, are in memory at a time.",
        "  saffu surprisal brown.saffu story.txt > story.tsv\n"
        "  saffu surprisal brown.saffu story.txt.gz --out story.tsv --no-entropy\n"
        "  zcat story.txt.gz | saffu surprisal brown.saffu - | sort -k 2 -g -r | head",
    )
    add_model(parser, "a file written by 'saffu train', or by the method save of any language model")
    add_mmap(parser)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="UTF-8 text, plain or gzip, bzip2, xz or zstd, - is standard input; or token ids in .npz",
    )
    add_out(parser)
    no_entropy = "leave the column of the entropy empty; it takes most of the time"
    parser.add_argument("--no-entropy", dest="entropy", action="store_false", help=no_entropy)
    parser.add_argument(
        "--by",
        choices=("token", "word"),
        help="a line for each token, or for each word, with the sums over its pieces; the white space before a word "
        "belongs to it (default: word where tokens are characters, bytes or parts of words)",
    )
    add_documents(parser, "default: as in training")
    add_quiet(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Score and print."""
    inputs = [arguments.model, *arguments.files]
    if arguments.out is None:
        check_standard_output(inputs)
    else:
        check_outputs([arguments.out], inputs)
    model = models.load(arguments.model, arguments.threads, mmap=arguments.mmap)
    models.check_language_model(model, arguments.model)
    is_ids = all(map(rows.is_npz, arguments.files))
    vocabulary = getattr(model, "vocabulary", None) if is_ids else models.vocabulary_of(model, arguments.model)
    table = _Table(model, vocabulary, arguments)
    with output.opened(arguments.out) as file:
        header = "\t".join(COLUMNS) + "\n"
        for stream, advance in _ids(model, arguments) if is_ids else _text(model, arguments):
            for lines in table.lines(stream, advance):
                file.write(header + lines)
                header = ""


def _ids(model: models.LanguageModel, arguments: argparse.Namespace) -> Iterator[tuple[TokenStream, Advance]]:
    """Files of token ids, each with what advances a progress bar by tokens."""
    streams = [rows.read_ids(path, model.vocab_size) for path in arguments.files]
    total = sum(stream.ids.size for stream in streams)
    with progress_bar(total, "score", not arguments.quiet) as bar:
        for stream in streams:
            yield stream, bar.update


def _text(model: models.LanguageModel, arguments: argparse.Namespace) -> Iterator[tuple[TokenStream, Advance]]:
    """Documents of files of text, the same."""
    vocabulary = models.vocabulary_of(model, arguments.model)
    corpus = models.corpus_for(vocabulary, arguments.files, arguments.documents)
    with models.scoring_bar(corpus, not arguments.quiet) as bar:
        for stream in models.whole_documents(corpus.chunks(vocabulary, advance=bar.read)):
            yield stream, bar.scored(stream)


class _Table:
    """The lines of the table.

    Parameters
    ----------
    model : LanguageModel
    vocabulary : Vocabulary or None
        None where tokens have only numbers.
    arguments : Namespace
    """

    def __init__(
        self, model: models.LanguageModel, vocabulary: Vocabulary | None, arguments: argparse.Namespace
    ) -> None:
        self.model, self.vocabulary, self.entropy = model, vocabulary, arguments.entropy
        by = arguments.by or ("token" if vocabulary is None or not vocabulary.has_pieces else "word")
        if by == "word" and vocabulary is None:
            raise ValueError("--by word needs a model with a vocabulary")
        self._bounds = WordBounds.of(vocabulary) if vocabulary is not None and by == "word" else None

    def lines(self, stream: TokenStream, advance: Advance) -> Iterator[str]:
        """Those of whole documents, some at a time."""
        starts = np.arange(stream.ids.size) if self._bounds is None else self._bounds.starts(stream)
        held, first, scored = EMPTY, 0, 0  # what has been scored from the first row on that is not written
        for found in surprisals(self.model, stream, entropy=self.entropy):
            held, scored = Surprisal.concat([held, found]), scored + found.surprisal.size
            # A row is whole when the next one begins.
            last = scored if scored == stream.ids.size else int(starts[np.searchsorted(starts, scored, "right") - 1])
            here = starts[np.searchsorted(starts, first) : np.searchsorted(starts, last)]
            yield self._rows(stream.ids[first:last], here - first, held)
            held, first = Surprisal(*(column[last - first :] for column in held)), last
            advance(found.surprisal.size)

    def _rows(self, ids: Int32, starts: Int64, found: Surprisal) -> str:
        """A row for each of the tokens or words that begin at ``starts``."""
        if starts.size == 0:
            return ""
        surprisal = np.add.reduceat(found.surprisal[: ids.size], starts)
        is_unknown = np.logical_or.reduceat(ids == UNKNOWN_ID, starts) if self.vocabulary is not None else starts < 0
        names = self._names(ids, starts)
        entropies = np.add.reduceat(found.entropy[: ids.size], starts).tolist()
        return "".join(
            f"{name}\t{bits:.6g}\t{'' if entropy != entropy else f'{entropy:.6g}'}\t{unknown:d}\n"
            for name, bits, entropy, unknown in zip(names, surprisal.tolist(), entropies, is_unknown, strict=True)
        )

    def _names(self, ids: Int32, starts: Int64) -> Iterator[str]:
        """How the tokens or words are called."""
        if self.vocabulary is None:
            return map(str, ids.tolist())
        if self._bounds is None:
            return (name.translate(ESCAPED) for name in self.vocabulary.decode(ids))
        return (self._word(word) for word in np.split(ids, starts[1:]))

    def _word(self, ids: Int32) -> str:
        assert self.vocabulary is not None
        if ids[0] == LINE_END_ID:
            return LINE_END
        text = self.vocabulary.detokenize(ids)
        return (text.strip() or text).translate(ESCAPED)
