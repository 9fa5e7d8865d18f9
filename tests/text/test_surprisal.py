"""Surprisal and entropy of every token against the distributions of the models, and words of pieces."""

import numpy as np
import pytest

import saffu
from helpers.small_models import IDS, MODELS
from saffu.text import Vocabulary, surprisal
from saffu.text.surprisal import Surprisal, surprisals
from saffu.text.words import WordBounds
from saffu.utils.streams import TokenStream

STREAM = TokenStream.of(np.roll(IDS, 7)[:90], [0, 40, 41])


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("kind", MODELS)
def test_it_is_what_the_distributions_say(monkeypatch, kind, rows):
    model = MODELS[kind]()
    monkeypatch.setattr(surprisal, "BATCH_BYTES", 8 * 5 * rows)
    monkeypatch.setattr(surprisal, "BATCH", rows)
    log_p = model.log_probs(STREAM.ids, np.arange(90), documents=STREAM.starts)
    found = Surprisal.concat(list(surprisals(model, STREAM)))
    np.testing.assert_allclose(found.surprisal, -log_p[np.arange(90), STREAM.ids] / np.log(2), atol=1e-6)
    np.testing.assert_allclose(found.entropy, -(np.exp(log_p) * log_p).sum(axis=1) / np.log(2), atol=1e-6)
    parts = list(surprisals(model, STREAM, entropy=False))
    assert len(parts) == -(-90 // rows)
    quick = Surprisal.concat(parts)
    expected = model.log_prob(STREAM.ids, documents=STREAM.starts)
    np.testing.assert_allclose(quick.surprisal, -expected / np.log(2), atol=1e-12)
    np.testing.assert_array_equal(quick.surprisal, found.surprisal)
    assert np.isnan(quick.entropy).all()


def test_what_cannot_come_has_no_entropy(tmp_path):
    path = tmp_path / "model.arpa"
    path.write_text("\\data\\\nngram 1=4\n\n\\1-grams:\n-99\t<unk>\n-99\t<s>\n-0.30103\t</s>\n-0.30103\ta\n\n\\end\\\n")
    model = saffu.BackoffLM.from_arpa(path)
    [found] = surprisals(model, TokenStream.of([2, 1, 0]))
    np.testing.assert_allclose(found.entropy, 1, atol=1e-4)
    np.testing.assert_allclose(found.surprisal[:2], 1, atol=1e-4)
    assert found.surprisal[2] > 300
    assert surprisal._entropies(np.array([[-np.inf, 0.0], [-np.log(2)] * 2])).tolist() == [0, np.log(2)]


def test_of_nothing_is_nothing():
    assert list(surprisals(MODELS["ExplicitLM"](), TokenStream.of([]))) == []
    assert Surprisal.concat([]).surprisal.size == 0


# ---- words of pieces -------------------------------------------------------------------------------------------------


def words_of(text, tokenizer, documents=None):
    """The words of a text, joined again."""
    vocabulary = Vocabulary(sorted({*saffu.text.tokenize(text, tokenizer=tokenizer)} - {"\n"}), tokenizer=tokenizer)
    ids, _ = vocabulary.encode_text(text)
    starts = WordBounds.of(vocabulary).starts(TokenStream.of(ids, documents))
    return [vocabulary.detokenize(word) for word in np.split(ids, starts[1:])]


@pytest.mark.parametrize("tokenizer", ["chars", "bytes"])
def test_words_are_what_stands_between_white_space(tokenizer):
    text = "  The naïve\tcat\n\nsat  on a\u2009mat. \n"
    expected = ["  The", " naïve", "\tcat", "\n", "\n", "sat", "  on", " a", "\u2009mat.", " ", "\n"]
    if tokenizer == "bytes":  # where only white space of ASCII is known
        expected[7:9] = [" a\u2009mat."]
    assert words_of(text, tokenizer) == expected
    assert words_of("cat", tokenizer, [0, 1]) == ["c", "at"]


def test_no_text_has_no_words():
    assert WordBounds.of(Vocabulary(["a"])).starts(TokenStream.of([])).size == 0
