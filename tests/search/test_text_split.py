"""Text to train on and text that is held out."""

import itertools

import numpy as np
import pytest

from helpers.fake_roadmap import make_split, write_text
from saffu.search import text_split
from saffu.text import Corpus, Vocabulary


def test_given_held_out_text_leaves_all_text_for_training(tmp_path):
    train, valid = write_text(tmp_path / "train", 30), write_text(tmp_path / "valid", 10, seed=1)
    split = text_split.read_split(train, valid=valid)
    vocabulary = Corpus(train).build_vocabulary()
    assert split.vocabulary == vocabulary
    assert split.vocab_size == len(vocabulary)
    for path, stream in ((train, split.train), (valid, split.held_out)):
        text = Corpus(path).read(vocabulary)
        np.testing.assert_array_equal(stream.ids, text.ids)
        np.testing.assert_array_equal(stream.starts, text.starts)


def test_every_twentieth_document_is_held_out(tmp_path):
    text = Corpus(write_text(tmp_path / "text", 100))
    split = text_split.read_split(text.paths)
    assert (split.train.ids.size, split.held_out.ids.size) == (95 * 8, 5 * 8)
    np.testing.assert_array_equal(split.train.starts, 8 * np.arange(95))
    np.testing.assert_array_equal(split.held_out.starts, 8 * np.arange(5))
    tokens = np.reshape([*itertools.chain.from_iterable(text.token_lists())], (100, 8))
    trained = np.arange(100) % 20 != 19
    assert split.vocabulary == Vocabulary.build([tokens[trained].ravel().tolist()], min_count=3)  # ties included
    whole = text.read(split.vocabulary).ids.reshape(100, 8)
    np.testing.assert_array_equal(split.train.ids, whole[trained].ravel())
    np.testing.assert_array_equal(split.held_out.ids, whole[~trained].ravel())


def test_numbers_of_tokens_are_limits(tmp_path):
    path = write_text(tmp_path / "text", 100)
    split = text_split.read_split(path, tokens=400)  # 421 tokens are read: 53 documents, two held out
    assert (split.train.ids.size, split.held_out.ids.size) == (400, 16)
    split = text_split.read_split(path, held_out_tokens=17)  # 800 tokens: every 48th document
    assert (split.train.ids.size, split.held_out.ids.size) == (98 * 8, 2 * 8)
    split = text_split.read_split(path, tokens=50, valid=path, held_out_tokens=17)
    assert (split.train.ids.size, split.held_out.ids.size) == (50, 17)
    np.testing.assert_array_equal(split.held_out.starts, [0, 8, 16])


def test_every_file_gives_its_share_and_a_short_one_what_it_has(tmp_path):
    short, long, longer = (write_text(tmp_path / str(n), n, seed=n) for n in (5, 60, 90))
    split = text_split.read_split([longer, short, long], tokens=400, valid=short)
    whole = [Corpus(path).read(split.vocabulary).ids for path in (short, long, longer)]
    np.testing.assert_array_equal(split.train.ids, np.concatenate([whole[0], whole[1][:180], whole[2][:180]]))
    np.testing.assert_array_equal(np.diff(split.train.starts)[[0, 3, 4, 26]], [8, 8, 8, 8])
    assert 40 + 180 in split.train.starts


def test_few_documents_are_cut_at_lines_and_few_lines_at_tokens(tmp_path):
    split = text_split.read_split(write_text(tmp_path / "lines", 1, 40, 4))
    assert (split.train.ids.size, split.held_out.ids.size) == (38 * 5, 2 * 5)
    split = text_split.read_split(write_text(tmp_path / "tokens", 1, 1, 199))
    assert (split.train.ids.size, split.held_out.ids.size) == (190, 10)
    np.testing.assert_array_equal(split.held_out.starts, [0])
    (tmp_path / "short").write_text("only a few words")
    with pytest.raises(ValueError, match="too few to hold some out"):
        text_split.read_split(tmp_path / "short")


def test_unigram_perplexity():
    split = make_split()
    frequency = np.bincount(split.train.ids, minlength=4) / split.train.ids.size
    assert split.unigram_perplexity == pytest.approx(np.exp(-np.log(frequency[split.held_out.ids]).mean()))
