"""Output classes: partitions, and logs of sums over them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import reference
from saffu import _core
from saffu.attention_lm.output_classes import OutputClasses

TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-12}


@st.composite
def problems(draw):
    """Logits of all sizes, and classes of one word and of many."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, vocab_size = draw(st.integers(0, 20)), draw(st.integers(1, 200))
    of_word = np.unique(rng.integers(0, draw(st.integers(1, 200)), vocab_size), return_inverse=True)[1]
    logits = rng.normal(0, draw(st.sampled_from([0.1, 3, 300])), (n, vocab_size))
    return logits.astype(draw(st.sampled_from([np.float32, np.float64]))), of_word.astype(np.int32)


@pytest.mark.kernels
@given(problems())
def test_logs_of_sums(problem):
    logits, of_word = problem
    classes = OutputClasses(of_word)
    expected = np.empty((len(logits), classes.n_classes))
    for row, out in zip(logits.astype(np.float64), expected, strict=True):
        for number in range(classes.n_classes):
            out[number] = reference.logsumexp(row[None, of_word == number])[0]
    found = np.full(expected.shape, np.nan, logits.dtype)
    classes.reduce(logits, found)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE[logits.dtype], atol=TOLERANCE[logits.dtype])


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_on_any_number_of_threads(dtype):
    rng = np.random.default_rng(0)
    logits, classes = rng.normal(0, 3, (200, 5000)).astype(dtype), OutputClasses(np.arange(5000, dtype=np.int32) % 700)
    expected = np.empty((200, 700), dtype)
    classes.reduce(logits, expected)
    for n_threads in (2, 3):
        found = np.empty_like(expected)
        _core.log_sums(logits, classes._words, classes._begins, found, n_threads)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.kernels
def test_a_class_of_one_word_has_its_logit():
    logits = np.random.default_rng(0).normal(0, 100, (4, 9)).astype(np.float32)
    found = np.empty_like(logits)
    OutputClasses(np.arange(9, dtype=np.int32)[::-1]).reduce(logits, found)
    np.testing.assert_array_equal(found, logits[:, ::-1])


@pytest.mark.kernels
@pytest.mark.parametrize(
    ("words", "begins", "shape", "message"),
    [
        ([0, 1, 2], [0, 1, 3], (2, 2), "rows of X and Z"),
        ([0, 1, 2], [0, 1, 3], (5, 3), "and columns of Z"),
        ([0, 1, 2], [1, 1, 3], (5, 2), "must ascend from 0|and words"),
        ([0, 1, 2], [0, 1, 2], (5, 2), "must ascend from 0|and words"),
        ([0, 1, 2], [0, 4, 2, 3], (5, 3), "must ascend"),
        ([0, 1, 3], [0, 1, 3], (5, 2), "words out of range"),
        ([0, 1, -1], [0, 1, 3], (5, 2), "words out of range"),
    ],
)
def test_what_does_not_fit_is_refused(words, begins, shape, message):
    arrays = np.array(words, np.int32), np.array(begins, np.int64)
    with pytest.raises(ValueError, match=message):
        _core.log_sums(np.zeros((5, 3)), *arrays, np.zeros(shape), 1)


def test_frequent_words_have_a_class_each_and_classes_share_the_rest():
    counts, classes = np.array([5, 9, 1, 0, 9, 2, 0]), np.array([7, 7, 3, 1, 3, 7, 3])
    found = OutputClasses.frequent(counts, 3, classes)
    assert found.of_word.tolist() == [2, 0, 4, 3, 1, 5, 4]
    assert found.n_classes == 6
    for n_words in (7, 100):
        assert sorted(OutputClasses.frequent(counts, n_words, classes).of_word.tolist()) == list(range(7))
    assert OutputClasses.frequent(counts, 1, np.zeros(7, np.int64)).of_word.tolist() == [1, 0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("of_word", [[], [0, 2], [1, 1]])
def test_classes_without_words_are_refused(of_word):
    with pytest.raises(ValueError, match="every output class must have a word"):
        OutputClasses(np.array(of_word, np.int32))
