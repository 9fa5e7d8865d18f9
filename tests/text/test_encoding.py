"""Encoding in one reading equals building the vocabulary and encoding with it."""

import numpy as np
import pytest

from saffu.text import Corpus, EncodedCorpus, reading

TEXT = "the cat sat .\nthe <unk> dog <eos> sat\n\n\nthe end ,\n \nof the cat\n\n"


@pytest.mark.parametrize("tokenizer", ["words", "whitespace", "chars", "bytes"])
@pytest.mark.parametrize("documents", ["blank-line", "file"])
@pytest.mark.parametrize("min_count", [None, 1, 2])
def test_one_reading_equals_two(tmp_path, monkeypatch, tokenizer, documents, min_count):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 16)
    paths = [tmp_path / name for name in ("one", "other")]
    for i, path in enumerate(paths):
        path.write_text(TEXT * (3 + i) + f"é only {i}")
    corpus = Corpus(paths, tokenizer=tokenizer, documents=documents)
    vocabulary = corpus.build_vocabulary(min_count)
    encoded = EncodedCorpus(corpus, min_count=min_count)
    assert encoded.vocabulary == vocabulary
    assert encoded.vocabulary.min_count == vocabulary.min_count
    for _ in range(2):
        for found, expected in zip(encoded.chunks(), corpus.chunks(vocabulary), strict=True):
            assert found.ids.dtype == np.int32
            assert found.starts.dtype == np.int64
            assert found.ids.tolist() == expected.ids.tolist()
            assert found.starts.tolist() == expected.starts.tolist()
            assert found.n_characters == expected.n_characters
    assert encoded.n_tokens == corpus.read(vocabulary).ids.size


def test_errors_are_those_of_a_corpus(tmp_path):
    (tmp_path / "empty").write_text("")
    with pytest.raises(ValueError, match="holds no text"):
        EncodedCorpus(Corpus(tmp_path / "empty"))
    (tmp_path / "text").write_text("a b")
    with pytest.raises(ValueError, match="min_count must be at least 1"):
        EncodedCorpus(Corpus(tmp_path / "text"), min_count=0)
