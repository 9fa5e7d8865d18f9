"""Log-probabilities of texts: the same as of files that hold them, whatever the batch."""

import numpy as np
import pytest

import saffu
from helpers import subwords
from saffu.text import DOCUMENTS, TOKENIZERS, Corpus, SubwordTokenizer, Vocabulary, tokenize
from saffu.text.scoring import EncodedTexts

TRAINING = "the cat sat on the mat .\n\nthe naïve dog sat .\n" * 9
TEXTS = [
    "the cat",
    "",
    "  ",
    "the dog sat .\nthe\n\n\ncat",
    "mat\r\nthe cat\n",
    "\ufeffthe \x85 zebra ☃",
    "<unk> <eos> a",
]


def vocabulary_of(tokenizer, documents):
    return Vocabulary.build([tokenize(TRAINING, tokenizer=tokenizer)], tokenizer=tokenizer, documents=documents)


def read(folder, content, vocabulary):
    """Ids and starts of a file with this content."""
    (folder / "file").write_bytes(content.encode())
    corpus = Corpus(folder / "file", tokenizer=vocabulary.tokenizer, documents=vocabulary.documents)
    try:
        found = corpus.read(vocabulary)
    except ValueError:  # it holds no text
        return np.empty(0, np.int32), np.empty(0, np.int64)
    return found.ids, found.starts


@pytest.mark.parametrize("documents", DOCUMENTS)
@pytest.mark.parametrize("tokenizer", [*TOKENIZERS, "pieces"])
def test_a_text_is_read_as_its_file(tmp_path, tokenizer, documents):
    if tokenizer == "pieces":
        pytest.importorskip("tokenizers")
        tokenizer = SubwordTokenizer.train_bpe([subwords.TEXT], vocab_size=300)
    vocabulary = vocabulary_of(tokenizer, documents)
    for texts in (TEXTS, TEXTS[:3], [TEXTS[0]], [TEXTS[3]], TEXTS[4:], []):
        found = EncodedTexts.of(texts, vocabulary)
        places = np.cumsum(found.lengths)
        assert found.stream.ids.size == found.lengths.sum()
        for text, last, length in zip(texts, places, found.lengths, strict=True):
            ids, starts = read(tmp_path, text, vocabulary)
            here = found.stream.slice(last - length, last)
            assert here.ids.tolist() == ids.tolist()
            assert here.starts.tolist() == starts.tolist()
            assert length == 0 or last - length in found.stream.starts


def test_sums_are_those_of_each_text():
    vocabulary = vocabulary_of("words", None)
    model = saffu.ExplicitLM(order=3, windows=(), induction=0).fit(vocabulary.encode_text(TRAINING)[0])
    model.vocabulary = vocabulary
    texts = ["the cat sat", "", "a dog\n\n\nthe zebra .", "\r", "the cat sat"]
    found = EncodedTexts.of(texts, vocabulary)
    scores = found.log_prob(model)
    assert scores.shape == (5,)
    for text, score in zip(texts, scores, strict=True):
        alone = EncodedTexts.of([text], vocabulary)
        assert score == pytest.approx(model.log_prob(alone.stream.ids, documents=alone.stream.starts).sum())
    assert scores[0] == scores[4]
    assert found.n_unknown().tolist() == [0, 0, 2, 0, 0]
    nothing = EncodedTexts.of([], vocabulary)
    assert (nothing.log_prob(model).size, nothing.n_unknown().size) == (0, 0)
