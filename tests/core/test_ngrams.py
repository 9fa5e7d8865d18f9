"""Texts as hashed n-grams, against a twin in Python and the tokens of saffu.text."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from helpers import reference
from saffu import _core
from saffu.classifier.text_features import Known, Ngrams, as_scipy, character_classes
from saffu.text import TOKENIZERS

pytestmark = pytest.mark.kernels

TRICKY = [
    *"aZ_0 9.,'’-<\n\t\u00a0\u2028éß中½٣\u0301\u200d\U0001f600\ud800\x00",
    "<unk>",
    "<eos>",
    "3.14",
    "l'été",
    "a--b",
]
TEXTS = st.lists(st.lists(st.sampled_from(TRICKY), max_size=30).map("".join), max_size=6)
SETTINGS = st.tuples(st.integers(1, 4), st.sampled_from(TOKENIZERS), st.booleans(), st.sampled_from([64, 20, 1]))


def tokens_as_bytes(ngrams, text):
    if ngrams.tokenizer == "bytes":
        return [bytes([byte]) for byte in (text.lower() if ngrams.lowercase else text).encode("utf-8", "surrogatepass")]
    return [token.encode("utf-8", "surrogatepass") for token in ngrams.tokens(text)]


@given(TEXTS, SETTINGS)
@example(["don't 3.14, x.y -a- a--b <unk> <eos><un e\u0301a\u0301\u0301b 1.a a.1 ,1,2,"], (3, "words", True, 64))
@example(["", " ", "a"], (2, "words", False, 64))
def test_hashes_are_those_of_the_tokens(texts, settings):
    ngrams = Ngrams(*settings)
    indptr, hashes = ngrams.hashes(texts, 1)
    assert indptr.tolist()[0] == 0
    assert len(indptr) == len(texts) + 1
    for m, text in enumerate(texts):
        expected = reference.ngram_hashes(tokens_as_bytes(ngrams, text), ngrams.longest, ngrams.bits)
        assert hashes[indptr[m] : indptr[m + 1]].tolist() == expected


@given(TEXTS, st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_rows_count_what_is_known(texts, longest, seed):
    ngrams = Ngrams(longest, "words", True, 64)
    indptr, hashes = ngrams.hashes(texts, 1)
    distinct = np.unique(hashes)
    rng = np.random.default_rng(seed)
    known = rng.permutation(distinct[rng.random(distinct.size) < 0.7])
    rows = Known(known).rows(indptr, hashes, 1)
    assert rows.n_columns == known.size
    column = {int(h): j for j, h in enumerate(known)}
    assert Known(known).columns(hashes).tolist() == [column.get(int(h), -1) for h in hashes]
    for m in range(len(texts)):
        counted = Counter(column[int(h)] for h in hashes[indptr[m] : indptr[m + 1]] if int(h) in column)
        entries = slice(rows.indptr[m], rows.indptr[m + 1])
        assert list(zip(rows.indices[entries].tolist(), rows.data[entries].tolist(), strict=True)) == [*counted.items()]


def test_nothing_depends_on_threads_or_blocks():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["ab", "c-d", "é", "1.5", "!"], 200)) for _ in range(300)]
    ngrams = Ngrams(3, "words", True, 64)
    indptr, hashes = ngrams.hashes(texts, 1)
    known = Known(np.unique(hashes)[::3])
    rows = as_scipy(known.rows(indptr, hashes, 1))
    before = _core._first_block(1000)
    try:
        for n_threads in (2, 3, 7):
            again = ngrams.hashes(texts, n_threads)
            np.testing.assert_array_equal(again[0], indptr)
            np.testing.assert_array_equal(again[1], hashes)
            others = as_scipy(known.rows(indptr, hashes, n_threads))
            for part in ("indptr", "indices", "data"):
                np.testing.assert_array_equal(getattr(others, part), getattr(rows, part))
    finally:
        _core._first_block(before)


@given(st.lists(st.binary(max_size=12), max_size=5), st.integers(0, 3))
def test_any_bytes_are_read(pieces, tokenizer):
    offsets = np.cumsum([0, *map(len, pieces)]).astype(np.int64)
    text = np.frombuffer(b"".join(pieces), np.uint8)
    indptr, hashes = _core.hash_ngrams(text, offsets, character_classes(), tokenizer, 2, 2**64 - 1, 1)
    assert indptr[-1] == hashes.size
    if tokenizer == TOKENIZERS.index("bytes"):
        assert np.diff(indptr).tolist() == [max(2 * len(piece) - 1, 0) for piece in pieces]


def test_classes_of_characters():
    classes = character_classes()
    assert classes[[ord(c) for c in "a_9 \n.\u0301中\u200d"]].tolist() == [1, 1, 3, 4, 4, 16, 8, 1, 8]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offsets": np.array([0, 9])}, "offsets must ascend from 0 to at most the 3 entries"),
        ({"offsets": np.array([0, 3, 1, 3])}, "offsets must ascend, got 3 and then 1"),
        ({"offsets": np.empty(0, np.int64)}, "offsets must have an offset more"),
        ({"classes": np.zeros(5, np.uint8)}, "classes and the numbers of characters must have equal lengths"),
        ({"tokenizer": 4}, "tokenizer must be between 0 and 3, got 4"),
        ({"n": 0}, "n must be between 1 and 16, got 0"),
        ({"n": 17}, "n must be between 1 and 16, got 17"),
    ],
)
def test_foul_texts_are_refused(change, message):
    given = {"text": np.frombuffer(b"a b", np.uint8), "offsets": np.array([0, 3]), "classes": character_classes()}
    given |= {"tokenizer": 0, "n": 1, "mask": 2**64 - 1, "n_threads": 1}
    with pytest.raises(ValueError, match=message):
        _core.hash_ngrams(*(given | change).values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indptr": np.array([0, 5])}, "indptr must ascend from 0 to at most the 2 entries"),
        ({"first": np.array([0, 3, 2], np.int32)}, "first out of range: expected 0 to 2, got 3"),
        ({"first": np.array([0, 1, 1, 2], np.int32)}, "first and a power of two"),
    ],
)
def test_foul_tables_are_refused(change, message):
    given = {"indptr": np.array([0, 2]), "hashes": np.array([1, 2**63], np.uint64)}
    given |= {"known": np.array([1, 2**63], np.uint64), "first": np.array([0, 1, 2], np.int32), "n_threads": 1}
    assert _core.match_ngrams(*given.values())[1].tolist() == [0, 1]
    with pytest.raises(ValueError, match=message):
        _core.match_ngrams(*(given | change).values())


def test_a_table_without_classes_ends():
    """Characters of no class at all are a token, not an endless search for its end."""
    text, offsets = np.frombuffer(b"ab c", np.uint8), np.array([0, 4])
    for tokenizer in range(4):
        indptr, _ = _core.hash_ngrams(text, offsets, np.zeros(_core.N_CODES, np.uint8), tokenizer, 1, 2**64 - 1, 1)
        assert indptr[-1] <= 4
