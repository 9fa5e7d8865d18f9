"""ARPA files of every kind, and the model that scores what they hold."""

import gzip
import re

import numpy as np
import pytest

import saffu
from helpers.made_up import told_by_two
from saffu.ngram_lm import BackoffLM, arpa
from saffu.text import Vocabulary
from saffu.utils import checkpoint

LN10 = np.log(10.0)
WORDS = ["the", "cat", "sat", "dog", "ran", "naïve", "a\u00a0b"]  # the last one holds a space that is not of ASCII
V = 2 + len(WORDS)

SMALL = r"""
some remark before the data

\data\
ngram 1=5
ngram 2=3
ngram 3=2

\1-grams:
-1.0	<unk>
-99	<s>	-0.5
-0.8	</s>
-0.6	a	-0.3
-0.7	b	-0.2

\2-grams:
-0.25	<s> a	-0.1
-0.4	a b
-0.9	b </s>

\3-grams:
-0.05	<s> a b
-0.3	a b </s>

\end\
"""


@pytest.fixture
def write(tmp_path):
    def to_file(text, name="model.arpa", encoding="utf-8"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        return tmp_path / name

    return to_file


def trained(priming="backoff", order=4, seed=0):
    model = saffu.ExplicitLM(order=order, priming=priming)
    model.vocabulary = Vocabulary(WORDS, tokenizer="whitespace")
    ids = told_by_two(800, seed, V, 0.5)
    ids[7::8] = 1
    return model.fit(ids, documents=np.arange(0, 800, 8))


def log10(model, *words):
    """Base-10 log-probabilities of a document."""
    return model.log_prob([model.types.index(word) for word in words]) / LN10


# ---- there and back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", range(2, 7))
@pytest.mark.parametrize("priming", ["kneser-ney", "backoff"])
@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
def test_what_is_written_is_read(tmp_path, name, priming, order):
    model = trained(priming, order)
    model.to_arpa(tmp_path / name)
    assert ((tmp_path / name).read_bytes()[:2] == b"\x1f\x8b") == name.endswith("gz")
    found = BackoffLM.from_arpa(tmp_path / name)
    assert (found.order, found.vocab_size) == (order, V)
    assert found.types == ["<unk>", "</s>", *WORDS]
    assert found.vocabulary.types == model.vocabulary.types
    ids, documents = told_by_two(300, 5, V, 0.3), np.arange(0, 300, 11)
    for text, starts in ((ids, documents), (ids[:40], [0])):
        np.testing.assert_allclose(
            found.log_prob(text, documents=starts), model.log_prob(text, documents=starts), rtol=0, atol=1e-7
        )
    places = [0, 7, 300, 20]
    np.testing.assert_allclose(
        found.log_probs(ids, places, documents=documents), model.log_probs(ids, places, documents=documents), atol=1e-7
    )
    again = tmp_path / "again.arpa"
    found.to_arpa(again)
    np.testing.assert_array_equal(BackoffLM.from_arpa(again).log_prob(ids), found.log_prob(ids))


def test_a_file_says_what_it_should(tmp_path):
    model = trained(order=3)
    model.to_arpa(tmp_path / "model.arpa")
    text = (tmp_path / "model.arpa").read_bytes().decode()
    sizes = [int(size) for size in re.findall(r"ngram \d=(\d+)", text)]
    sections = [part.strip().split("\n")[1:] for part in re.split(r"\n\\(?=\d-grams|end)", text)[1:-1]]
    assert [len(section) for section in sections] == sizes == model.to_backoff().summary()["ngrams"]
    assert sections[0][0].split("\t")[1] == "<unk>"
    assert sections[0][1].startswith("-99\t<s>\t-")
    assert all(float(line.split("\t")[0]) <= 0 for section in sections for line in section)
    assert "<eos>" not in text
    assert " <s>" not in text


def test_orders_without_ngrams_are_left_out(tmp_path):
    model = saffu.ExplicitLM(order=6, priming="kneser-ney")
    model.vocabulary = Vocabulary(["a"])
    model.fit([2, 1, 2, 1], documents=[0, 2]).to_arpa(tmp_path / "model")
    found = BackoffLM.from_arpa(tmp_path / "model")
    assert found.order == 3
    np.testing.assert_allclose(found.log_prob([2, 1]), model.log_prob([2, 1]), atol=1e-8)


@pytest.mark.parametrize(
    ("types", "message"),
    [(["a", "b c"], "'b c'"), (["a", ""], "''"), (["a", "<s>"], "not <s>"), (["a", "</s>"], "not <s> or </s>")],
)
def test_types_that_no_file_can_hold(tmp_path, types, message):
    model = saffu.ExplicitLM(order=2, priming="kneser-ney").fit([2, 3, 1])
    model.vocabulary = Vocabulary(types)
    with pytest.raises(ValueError, match=re.escape(message)):
        model.to_arpa(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_replaced_only_by_a_whole_one(tmp_path, monkeypatch):
    (tmp_path / "model").write_text("old")
    monkeypatch.setattr(arpa, "_ngrams", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trained().to_arpa(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


# ---- files of others -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.replace("\t", " "),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", " \n\n"),
        lambda text: text.replace("ngram 1=5", "ngram 1 = 5"),
    ],
    ids=["as SRILM writes it", "spaces", "line ends of Windows", "blank lines", "spaces in the header"],
)
def test_a_small_file_by_hand(write, change):
    model = BackoffLM.from_arpa(write(change(SMALL)))
    assert model.types == ["<unk>", "</s>", "a", "b"]
    np.testing.assert_allclose(log10(model, "a", "b", "</s>"), [-0.25, -0.05, -0.3])
    # <s> b: weight of <s>; b b: weight of b; <s> a a: both weights; after b: it is a context of "b </s>".
    np.testing.assert_allclose(log10(model, "b", "b", "</s>"), [-0.5 - 0.7, -0.2 - 0.7, -0.9])
    np.testing.assert_allclose(log10(model, "a", "a", "<unk>", "a"), [-0.25, -0.1 - 0.3 - 0.6, -0.3 - 1.0, -0.6])


def test_compressed(tmp_path):
    path = tmp_path / "whatever"
    path.write_bytes(gzip.compress(SMALL.encode()))
    assert BackoffLM.from_arpa(path).order == 3


def test_no_probability_at_all(write):
    model = BackoffLM.from_arpa(write(SMALL.replace("-0.4\ta b", "-inf\ta b").replace("-0.9\tb </s>", "-99\tb </s>")))
    np.testing.assert_allclose(log10(model, "b", "a", "b", "</s>")[2:], [-99, -0.3])
    np.testing.assert_allclose(log10(model, "b", "</s>")[1], -99)


def test_without_unknown_words_and_marks(write):
    text = SMALL.replace("ngram 1=5", "ngram 1=4").replace("-1.0\t<unk>\n", "")
    assert log10(BackoffLM.from_arpa(write(text)), "b", "<unk>")[1] == pytest.approx(-100.2)
    text = "\\data\\\nngram 1=1\n\\1-grams:\n0\ta\n\\end\\\n"
    model = BackoffLM.from_arpa(write(text))
    assert (model.types, model.order) == (["<unk>", "</s>", "a"], 1)
    np.testing.assert_allclose(log10(model, "a", "</s>"), [0, -100])


def test_unknown_words_in_capitals(write):
    model = BackoffLM.from_arpa(write(SMALL.replace("<unk>", "<UNK>").replace("-0.4\ta b", "-0.4\ta <UNK>")))
    assert model.types[0] == "<unk>"
    assert log10(model, "b", "a", "<unk>")[2] == pytest.approx(-0.4)


def test_ngrams_that_begin_with_one_that_is_missing(write):
    """As some programs that prune leave them."""
    model = BackoffLM.from_arpa(write(SMALL.replace("ngram 2=3", "ngram 2=2").replace("-0.4\ta b\n", "")))
    assert log10(model, "b", "a", "b")[2] == pytest.approx(-0.3 - 0.7)
    np.testing.assert_allclose(log10(model, "a", "b", "</s>"), [-0.25, -0.05, -0.3])


def test_the_start_is_never_predicted(write):
    text = SMALL.replace("ngram 2=3", "ngram 2=4").replace("-0.9\tb </s>", "-0.9\tb </s>\n-0.1\ta <s>\t-0.7")
    np.testing.assert_array_equal(
        BackoffLM.from_arpa(write(text)).log_prob([2, 3, 1]), BackoffLM.from_arpa(write(SMALL)).log_prob([2, 3, 1])
    )


def test_a_type_that_is_called_as_the_end_of_lines_is_here(write):
    model = BackoffLM.from_arpa(write(re.sub(r"\bb\b", "<eos>", SMALL)))
    assert (model.types[3], model.vocabulary) == ("<eos>", None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("\\data\\", "data"), r"there is no line \\data\\"),
        (lambda text: "", r"there is no line \\data\\"),
        (lambda text: text.replace("ngram 2=3", "ngram 3=3"), "expected 'ngram 2='"),
        (lambda text: text.replace("ngram 2=3", "ngram 2=x"), "expected 'ngram 2='"),
        (lambda text: text.replace("ngram 2=3", "ngram 2=4"), "expected an n-gram of 2 tokens"),
        (lambda text: text.replace("ngram 2=3", "ngram 2=2"), r"expected \\3-grams:, got '-0.9"),
        (lambda text: text.replace("-0.9\tb </s>", "-0.9\tb"), "could not convert"),
        (lambda text: text.replace("-0.9\tb </s>", "-0.9\t"), "expected an n-gram of 2 tokens, got '-0.9"),
        (lambda text: text.replace("-0.9\tb </s>", "-0.9\tb c"), "the type 'c', which has no probability"),
        (lambda text: text.replace("-0.9\tb </s>", "-0.4\ta b"), "must have one probability, got two"),
        (lambda text: text.replace("-0.7\tb", "-0.6\ta"), "a type has two probabilities"),
        (lambda text: text.replace("-0.9\tb", "-0,9\tb"), "could not convert"),
        (lambda text: text.replace("-0.9\tb", "nan\tb"), "a number is not finite"),
        (lambda text: text.replace("\\end\\", ""), r"expected \\end\\, got 'the end'"),
        (lambda text: "mmap lm http://kheafield.com/code format version 5\n\0", "binary of KenLM"),
    ],
)
def test_what_is_none_is_one_clear_error(write, change, message):
    with pytest.raises(ValueError, match=message):
        BackoffLM.from_arpa(write(change(SMALL)))


def test_other_encodings_are_an_error(write):
    with pytest.raises(ValueError, match="must be UTF-8"):
        BackoffLM.from_arpa(write(re.sub(r"\bb\b", "é", SMALL), encoding="latin-1"))


# ---- the model -------------------------------------------------------------------------------------------------------


def test_a_long_text_is_scored_in_parts(monkeypatch):
    model = trained().to_backoff()
    ids, documents = told_by_two(500, 3, V, 0.3), [0, 7, 100, 101]
    whole = model.log_prob(ids, documents=documents)
    monkeypatch.setattr("saffu.ngram_lm.backoff_lm.BATCH", 13)
    np.testing.assert_array_equal(model.log_prob(ids, documents=documents), whole)


def test_draws_what_the_counted_model_draws():
    model = trained()
    found = model.to_backoff()
    np.testing.assert_allclose(found.distribution([2, 3, 4]), model.distribution([2, 3, 4]), atol=1e-12)
    assert list(found.generate([2], 40, seed=1)) == list(model.generate([2], 40, seed=1))


def test_files(tmp_path):
    model = trained(order=3).to_backoff()
    model.save(tmp_path / "model")
    again = checkpoint.load(tmp_path / "model")
    assert again.types == model.types
    np.testing.assert_array_equal(again.log_prob([2, 3, 1, 4]), model.log_prob([2, 3, 1, 4]))


@pytest.mark.parametrize("name", ["unigram", "types", "table0.lengths", "table0.words", "table1.weights"])
def test_damaged_files_are_refused(tmp_path, name):
    model = trained(order=3).to_backoff()
    arrays, metadata = model._to_checkpoint()
    for damaged in (arrays[name][1:], np.roll(arrays[name], 1) if name.endswith(("words", "lengths")) else None):
        if damaged is not None:
            checkpoint.write(tmp_path / "model", "backoff-lm", {**arrays, name: damaged}, metadata)
            with pytest.raises(ValueError, match="damaged"):
                checkpoint.load(tmp_path / "model")


def test_it_learns_nothing():
    for verb in ("fit", "update"):
        with pytest.raises(NotImplementedError, match=f"BackoffLM cannot {verb}: .*ExplicitLM"):
            getattr(trained().to_backoff(), verb)([1, 2])
