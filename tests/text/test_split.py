"""Parts of a corpus for as many processes, and vocabularies of parts: they add up to those of the whole."""

import functools
import lzma
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffu.text import Corpus, Vocabulary, reading
from saffu.text.tokenizers import DOCUMENTS, TOKENIZERS, document_tokens
from saffu.text.vocabulary import NO_TYPES
from saffu.text.word_counts import WordCounts, vocabulary_of
from saffu.utils.streams import TokenStream

pieces = st.sampled_from(["a", "bb", "\n", "\n\n", "\r\n", "\r", " ", "\t", "é", "\ufeff", "<unk>", "c.d", "\n \t\n"])
contents = st.lists(pieces, max_size=40).map(lambda parts: "".join(parts).encode())
kinds = st.tuples(st.sampled_from(TOKENIZERS), st.sampled_from(DOCUMENTS))


def corpus_of(folder, files, tokenizer, documents):
    paths = [folder / str(number) for number in range(len(files))]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    return Corpus(paths, tokenizer=tokenizer, documents=documents)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("texts")


@pytest.mark.filterwarnings("ignore:.*holds no text and is left out")
@given(st.lists(contents, min_size=1, max_size=4), kinds, st.integers(1, 60), st.integers(1, 9), st.integers(1, 3))
def test_parts_are_the_corpus(folder, files, kind, n_bytes, look_ahead, n_shares):
    corpus = corpus_of(folder, [b"a", *files], *kind)
    vocabulary = corpus.build_vocabulary(min_count=1)
    whole = corpus.read(vocabulary).stream
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_LOOK_AHEAD", look_ahead)
        parts = pickle.loads(pickle.dumps(corpus.split(n_bytes)))
    assert sum(part.n_bytes for part in parts) == corpus.n_bytes
    streams = [part.read(vocabulary).stream for part in parts]
    assert all(stream.ids.size == 0 or not stream.continues for stream in streams)
    joined = TokenStream.concat(streams)
    np.testing.assert_array_equal(joined.ids, whole.ids)
    np.testing.assert_array_equal(joined.starts, whole.starts)

    counted = [WordCounts.of(part.token_lists(), number).divided(n_shares) for number, part in enumerate(parts)]
    for min_count in (1, 2):
        shares = [
            functools.reduce(WordCounts.merge, column).frequent(min_count) for column in zip(*counted, strict=True)
        ]
        made = vocabulary_of(shares, min_count=min_count, tokenizer=kind[0], documents=kind[1])
        expected = corpus.build_vocabulary(min_count)
        assert made == expected
        assert made.min_count == expected.min_count


@pytest.mark.filterwarnings("ignore:.*holds no text and is left out")
@given(contents, kinds)
def test_a_text_is_read_like_its_file(folder, content, kind):
    corpus = corpus_of(folder, [b"a\n", content], *kind)
    vocabulary = corpus.build_vocabulary(min_count=1)
    expected = corpus.read(vocabulary).stream.ids[2:], corpus.read(vocabulary).stream.starts[1:] - 2
    ids, starts = vocabulary.encode_block(document_tokens(content.decode(), *kind, whole=True))
    starts = np.append(np.zeros(int(ids.size > 0), np.int64), starts[starts < ids.size])
    np.testing.assert_array_equal(ids, expected[0])
    np.testing.assert_array_equal(starts, expected[1])


def test_large_files_are_cut_and_small_ones_put_together(tmp_path):
    document = b"a b c\n\n"
    corpus = corpus_of(tmp_path, [document * 100, document, document, document * 100], "words", None)
    sizes = [part.n_bytes for part in corpus.split(70)]
    assert max(sizes) <= 77
    assert len(sizes) < 2 * 100 * len(document) / 70 + 2
    assert [part.n_bytes for part in corpus.split(10**6)] == [corpus.n_bytes]
    whole_files = corpus_of(tmp_path, [document * 100, document, document, document * 100], "words", "file")
    assert [part.n_bytes for part in whole_files.split(70)] == [700, 14, 700]


def test_compressed_files_are_not_cut(tmp_path):
    corpus = corpus_of(tmp_path, [lzma.compress(b"a b\n\n" * 99)], "words", None)
    (part,) = corpus.split(1)
    assert part.n_bytes == corpus.n_bytes


def test_bytes_that_are_not_utf8_are_located_in_the_file(tmp_path):
    content = b"a\n\nb\r\n\nc\n\nd\nx\xff\n"
    corpus = corpus_of(tmp_path, [content], "words", None)
    *_, last = corpus.split(1)
    assert last.n_bytes == 5
    vocabulary = Vocabulary(["a"])
    errors = []
    for part in (corpus, last):
        with pytest.raises(ValueError, match="is not UTF-8") as raised:
            list(part.chunks(vocabulary))
        errors.append(str(raised.value))
    assert errors[0] == errors[1]
    assert f"position {content.index(0xFF)} (line 8)" in errors[0]


@pytest.mark.parametrize(("n_bytes", "error"), [(0, ValueError), ("1", TypeError)])
def test_a_size_that_is_none_is_refused(tmp_path, n_bytes, error):
    with pytest.raises(error, match="n_bytes must be"):
        corpus_of(tmp_path, [b"a"], "words", None).split(n_bytes)


def test_standard_input_is_refused():
    with pytest.raises(ValueError, match="not standard input or a pipe"):
        Corpus("-").split(100)


@given(st.lists(st.text("abc", min_size=1, max_size=2) | st.sampled_from(NO_TYPES)), st.integers(1, 3))
def test_a_vocabulary_of_counts_is_that_of_the_tokens(tokens, min_count):
    counts = {}
    for token in tokens:
        counts[token] = counts.get(token, 0) + 1
    made = Vocabulary.from_counts(counts, min_count=min_count, tokenizer="whitespace")
    assert made == Vocabulary.build([tokens], min_count=min_count, tokenizer="whitespace")
    by_hand = [t for t in dict.fromkeys(tokens) if counts[t] >= min_count and t not in NO_TYPES]
    assert made.types[2:] == sorted(by_hand, key=lambda t: -counts[t])


@pytest.mark.parametrize(
    ("counts", "min_count", "error"),
    [({"a": 1}, 0, "min_count must be at least 1"), ({"\ud800": 1}, 1, "lone surrogate")],
)
def test_counts_that_make_no_vocabulary(counts, min_count, error):
    with pytest.raises(ValueError, match=error):
        Vocabulary.from_counts(counts, min_count=min_count)
