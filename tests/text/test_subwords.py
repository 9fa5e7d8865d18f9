"""Tokenizers of other libraries: the ids and the text are what the library itself gives."""

import json
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import saffu
from helpers import subwords
from saffu import text
from saffu.text import Corpus, EncodedCorpus, SubwordTokenizer, Vocabulary, reading
from saffu.text.subword_joiner import SubwordJoiner
from saffu.text.subwords import OtherTokenizer
from saffu.text.words import WordBounds
from saffu.utils import checkpoint
from saffu.utils.streams import TokenStream

KINDS = ("byte pairs", "word pieces", "sentence pieces", "sentence bytes", "letters", "callable")
STORED = KINDS[:4]


def made(kind):
    """A tokenizer of a library, as it is given to saffu."""
    if kind in ("byte pairs", "word pieces"):
        make = subwords.byte_pairs if kind == "byte pairs" else subwords.word_pieces
        return make(pytest.importorskip("tokenizers"))
    if kind == "sentence pieces":
        return subwords.sentence_pieces(pytest.importorskip("sentencepiece"))
    if kind == "sentence bytes":
        settings = {"model_type": "bpe", "byte_fallback": True, "vocab_size": 350, "hard_vocab_limit": True}
        return subwords.sentence_pieces(pytest.importorskip("sentencepiece"), **settings)
    return subwords.Letters() if kind == "letters" else subwords.Callable()


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def theirs(kind):
    return made(kind)


@pytest.fixture(scope="module")
def ours(theirs):
    return SubwordTokenizer.of(theirs)


def numbers(tokenizer, line):
    """The ids of a line as the library gives them."""
    if hasattr(tokenizer, "serialized_model_proto"):
        return tokenizer.encode(line)
    if callable(tokenizer):
        return tokenizer(line)["input_ids"]
    if hasattr(tokenizer, "no_padding"):
        tokenizer = type(tokenizer).from_str(tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer.encode(line, add_special_tokens=False).ids
    return tokenizer.encode(line).ids


def joined(tokenizer, ids):
    """The text of ids as the library gives it."""
    settings = {"skip_special_tokens": False} if hasattr(tokenizer, "no_padding") else {}
    return tokenizer.decode(ids, **settings)


LINES = [*subwords.LINES, "a zebra ☃ x", "<unk>", "\t tabs\u2028and\xa0such", "[UNK] <s> </s>"]


def test_pieces_and_text_are_those_of_the_library(theirs, ours):
    for line, names in zip(LINES, ours.named(LINES), strict=True):
        expected = numbers(theirs, line)
        assert ours.encode([line]) == [expected]
        assert len(names) == len(expected)
        assert ours.text(names) == joined(theirs, expected)
    whole = "\n".join(LINES)
    tokens = text.tokenize(whole, tokenizer=theirs)
    assert [token for token in tokens if token != "\n"] == [name for names in ours.named(LINES) for name in names]
    assert text.detokenize(tokens, tokenizer=theirs) == "\n".join(joined(theirs, numbers(theirs, x)) for x in LINES)


def test_a_vocabulary_gives_the_text_back(theirs, ours, kind):
    tokens = text.tokenize("\n".join(LINES), tokenizer=theirs)
    vocabulary = Vocabulary.build([tokens], tokenizer=theirs, documents="file")
    ids, _ = vocabulary.encode_text(subwords.TEXT)
    expected = "\n".join(joined(theirs, numbers(theirs, line)) for line in subwords.TEXT.split("\n"))
    assert vocabulary.detokenize(ids) == expected
    if kind in ("byte pairs", "letters", "callable"):
        assert vocabulary.detokenize(ids) == subwords.TEXT
        assert vocabulary.unknown_rate(ids) == 0
    seen = {*tokens} - {"\n", "<unk>"}
    assert {*vocabulary.types} == {"<unk>", "<eos>", *seen, *ours.pieces}
    assert "<unk>" not in ours.pieces
    assert "<s>" not in ours.pieces


def test_half_characters_are_held_back():
    ours = SubwordTokenizer.of(made("byte pairs"))
    joiner = text.Joiner(ours)
    [names] = ours.named(["a☃"])
    assert [joiner.add(name) for name in names] == ["a", "", "", "☃"]
    [names] = ours.named(["☃"])
    assert [joiner.add(name) for name in [*names[:2], "\n"]] == ["", "", "\ufffd\n"]
    joiner.add(names[0])
    assert (joiner.finish(), joiner.finish()) == ("\ufffd", "")


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_text_that_comes_piece_by_piece_is_the_text(kind, data):
    ours = MADE.setdefault(kind, SubwordTokenizer.of(made(kind)))
    names = [*(ours.pieces or ["97", "32", "98"]), "<unk>", "<eos>", "\n"]
    tokens = data.draw(st.lists(st.sampled_from(names), max_size=30))
    joiner = text.Joiner(ours)
    pieces = [*map(joiner.add, tokens), joiner.finish()]
    assert "".join(pieces) == text.detokenize(tokens, tokenizer=ours)


MADE = {}


def test_long_lines_take_time_in_proportion():
    ours = SubwordTokenizer.of(made("byte pairs"))
    line = "the café was lower, ☃ and so on; " * 120
    [names] = ours.named([line])
    assert len(names) > 1500
    looked_at = []

    class Counting(SubwordJoiner):
        def add(self, piece):
            looked_at.append(len(self._line))
            return super().add(piece)

    joiner = Counting(ours)
    assert "".join([*map(joiner.add, names), joiner.finish()]) == line
    assert max(looked_at) < 520


# ---- what text becomes -----------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_byte_pairs_are_exact(content):
    ours = MADE.setdefault("trained", trained())
    as_read = content.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    assert text.detokenize(text.tokenize(content, tokenizer=ours), tokenizer=ours) == as_read
    vocabulary = MADE.setdefault("vocabulary", Vocabulary([*ours.pieces], tokenizer=ours, documents="file"))
    ids, _ = vocabulary.encode_text(content)
    assert vocabulary.unknown_rate(ids) == 0
    assert vocabulary.detokenize(ids) == as_read


def trained(n_pieces=300):
    pytest.importorskip("tokenizers")
    return SubwordTokenizer.train_bpe([subwords.TEXT], vocab_size=n_pieces)


def test_training_is_deterministic_and_takes_blocks():
    one = trained()
    assert len(one.pieces) == 300
    blocks = [line + "\n" for line in subwords.LINES]
    assert one == SubwordTokenizer.train_bpe(blocks, vocab_size=300)
    assert one != trained(301)
    assert str(one) == "tokenizers, 300 pieces"


@pytest.mark.parametrize("documents", ["blank-line", "line", "file"])
def test_one_reading_equals_two(tmp_path, monkeypatch, kind, theirs, documents):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 100)
    (tmp_path / "text").write_text(f"\n\n{subwords.TEXT}\n \n{subwords.TEXT}")
    corpus = Corpus(tmp_path / "text", tokenizer=theirs, documents=documents)
    for min_count in (None, 2):
        vocabulary = corpus.build_vocabulary(min_count)
        encoded = EncodedCorpus(corpus, min_count=min_count)
        assert encoded.vocabulary == vocabulary
        assert {*SubwordTokenizer.of(theirs).pieces} <= {*vocabulary.types} or min_count == 2
        for one, other in zip(encoded.chunks(), corpus.chunks(vocabulary), strict=True):
            np.testing.assert_array_equal(one.ids, other.ids)
            np.testing.assert_array_equal(one.starts, other.starts)
    lines = [line for line in subwords.LINES * 2 if line or documents == "file"]
    lines += ["", "", "", " "] if documents == "file" else []
    found = corpus.read(corpus.build_vocabulary())
    assert found.ids.size == sum(len(numbers(theirs, line)) + 1 for line in lines)
    assert found.starts.size == {"blank-line": 4, "line": 8, "file": 1}[documents]


def test_a_line_without_an_end_is_not_cut(tmp_path, theirs):
    (tmp_path / "text").write_text("the lower cat")
    [tokens] = Corpus(tmp_path / "text", tokenizer=theirs).token_lists()
    assert tokens == [*next(SubwordTokenizer.of(theirs).named(["the lower cat"])), "\n"]


def test_lone_surrogates_are_named(theirs):
    with pytest.raises(ValueError, match="text must be what UTF-8 can hold"):
        text.tokenize("a\udcff", tokenizer=theirs)


def test_words_of_pieces(theirs, kind):
    content = "the lower cat\nsat on the mat"
    vocabulary = Vocabulary.build([text.tokenize(content, tokenizer=theirs)], tokenizer=theirs)
    ids, _ = vocabulary.encode_text(content)
    starts = WordBounds.of(vocabulary).starts(TokenStream.of(ids))
    words = [vocabulary.detokenize(word).strip() for word in np.split(ids, starts[1:])]
    assert words == ["the", "lower", "cat", "", "sat", "on", "the", "mat"]


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STORED)
@pytest.mark.parametrize("model", [saffu.ExplicitLM, saffu.SaffuLM])
def test_a_model_holds_its_tokenizer(tmp_path, kind, model):
    theirs = made(kind)
    vocabulary = Vocabulary.build([text.tokenize(subwords.TEXT, tokenizer=theirs)], tokenizer=theirs)
    ids, _ = vocabulary.encode_text(subwords.TEXT)
    settings = {"windows": (), "induction": 0} if model is saffu.ExplicitLM else {"bits": 2, "hidden": 2, "radius": 2}
    fitted = model(**settings).fit(ids, vocab_size=len(vocabulary))
    fitted.vocabulary = vocabulary
    fitted.save(tmp_path / "model")
    found = saffu.load(tmp_path / "model").vocabulary
    assert found == vocabulary
    assert found.encode_text("a lower ☃ café\nx")[0].tolist() == vocabulary.encode_text("a lower ☃ café\nx")[0].tolist()
    assert found.detokenize(ids) == vocabulary.detokenize(ids)


@pytest.mark.parametrize("kind", STORED)
def test_copies_are_equal(kind):
    ours = SubwordTokenizer.of(made(kind))
    copy = pickle.loads(pickle.dumps(ours))
    assert copy == ours == SubwordTokenizer.of(ours)
    assert hash(copy) == hash(ours)
    assert copy.encode(["the lower cat"]) == ours.encode(["the lower cat"])
    assert (ours == "words", ours != SubwordTokenizer.of(subwords.Letters())) == (False, True)


def test_what_cannot_be_stored_is_named(tmp_path):
    letters = subwords.Letters()
    model = saffu.ExplicitLM(order=2, windows=(), induction=0).fit([2, 3, 2])
    model.vocabulary = Vocabulary(["97", "98"], tokenizer=letters)
    with pytest.raises(ValueError, match=r"a model file can hold tokenizers of the libraries .* but not Letters"):
        model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    assert SubwordTokenizer.of(letters) == OtherTokenizer(letters) != OtherTokenizer(subwords.Letters())


@pytest.mark.parametrize(("name", "library"), [("pieces.json", "tokenizers"), ("pieces.model", "sentencepiece")])
def test_files_of_the_libraries(tmp_path, name, library):
    theirs = made("byte pairs" if library == "tokenizers" else "sentence pieces")
    stored = theirs.to_str().encode() if library == "tokenizers" else theirs.serialized_model_proto()
    (tmp_path / name).write_bytes(stored)
    found = SubwordTokenizer.read(tmp_path / name)
    assert found == SubwordTokenizer.of(theirs)
    assert found.path == str(tmp_path / name)
    for foul in (b"", b"{}", b"\xff\xfe", stored[: len(stored) // 2]):
        (tmp_path / name).write_bytes(foul)
        with pytest.raises(ValueError, match=f"is no tokenizer of {library}"):
            SubwordTokenizer.read(tmp_path / name)


def test_a_damaged_tokenizer_is_named(tmp_path):
    model = saffu.ExplicitLM(order=2, windows=(), induction=0).fit([2, 3, 2])
    model.vocabulary = Vocabulary(["a", "b"], tokenizer=made("byte pairs"))
    model.save(tmp_path / "model")
    kind, arrays, metadata = checkpoint.read(tmp_path / "model")
    for library, stored in (("tokenizers", b"{}"), ("sentencepiece", b"x"), ("words", b"x"), (3, b"")):
        changed = {**metadata, "vocabulary": {**metadata["vocabulary"], "tokenizer": library}}
        checkpoint.write(
            tmp_path / "foul", kind, {**arrays, "vocabulary.tokenizer": np.frombuffer(stored, np.uint8)}, changed
        )
        with pytest.raises(checkpoint.Damaged, match="is a damaged explicit-lm model"):
            saffu.load(tmp_path / "foul")


@pytest.mark.parametrize("library", ["tokenizers", "sentencepiece"])
def test_a_missing_library_is_one_line(tmp_path, monkeypatch, library):
    name = {"tokenizers": "pieces.json", "sentencepiece": "pieces.model"}[library]
    (tmp_path / name).write_text("{}")
    monkeypatch.setitem(sys.modules, library, None)
    message = rf"^{library} is not installed; pip install 'saffu\[tokenizers\]' installs it$"
    with pytest.raises(ImportError, match=message):
        SubwordTokenizer.read(tmp_path / name)
    if library == "tokenizers":
        with pytest.raises(ImportError, match=message):
            SubwordTokenizer.train_bpe(["a"], vocab_size=300)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SubwordTokenizer.of(3), TypeError, r"tokenizer must be a name, or have encode.*, got int"),
        (lambda: Corpus("-", tokenizer=3.5), TypeError, "tokenizer must be a name, or have"),
        (lambda: Vocabulary([], tokenizer=None), TypeError, "got NoneType"),
        (lambda: SubwordTokenizer.train_bpe(["a"], vocab_size=256), ValueError, "vocab_size must be at least 257"),
        (lambda: SubwordTokenizer.read("pieces.txt"), ValueError, r"path must end with .json or .model, got 'pieces"),
        (lambda: SubwordTokenizer.read("nowhere.json"), FileNotFoundError, "nowhere"),
        (lambda: text.detokenize(["1"], tokenizer=NoDecoder()), TypeError, r"must have decode\(ids\) to join text"),
        (lambda: text.detokenize(["<unk>"], tokenizer=subwords.Letters()), None, "\ufffd"),
    ],
)
def test_mistakes_are_named(make, error, message):
    if error is None:
        assert make() == message
        return
    with pytest.raises(error, match=message):
        make()


class NoDecoder:
    def __call__(self, line):
        return {"input_ids": [len(line)]}


@pytest.mark.parametrize("model", ["WordLevel", "Unigram"])
def test_what_is_unknown_to_hugging_face_is_unknown(model):
    tokenizers = pytest.importorskip("tokenizers")
    if model == "WordLevel":
        made = tokenizers.models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]")
    else:
        made = tokenizers.models.Unigram([("<pad>", 0.0), ("[UNK]", 0.0), ("a", -1.0)], unk_id=1)
    tokenizer = tokenizers.Tokenizer(made)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    assert text.tokenize("a zz a", tokenizer=tokenizer) == ["a", "<unk>", "a"]
    vocabulary = Vocabulary(["a"], tokenizer=tokenizer)
    assert vocabulary.encode_text("a zz a")[0].tolist() == [2, 0, 2]
    assert vocabulary.detokenize([2, 0]) == "a [UNK]"


# ---- transformers ----------------------------------------------------------------------------------------------------


def test_tokenizers_of_transformers():
    transformers = pytest.importorskip("transformers")
    backend = made("byte pairs")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=backend)
    assert SubwordTokenizer.of(fast).encode(LINES) == [numbers(backend, line) for line in LINES]
    assert SubwordTokenizer.of(fast).library == "tokenizers"
    slow = transformers.ByT5Tokenizer()
    ours = SubwordTokenizer.of(slow)
    assert ours.encode(LINES) == [slow(line, add_special_tokens=False)["input_ids"] for line in LINES]
    assert ours.encode(["ab"]) == [[100, 101]]
    tokens = text.tokenize(subwords.TEXT, tokenizer=slow)
    assert text.detokenize(tokens, tokenizer=slow) == subwords.TEXT


def test_a_file_of_hugging_face_is_what_it_was(tmp_path):
    theirs = made("byte pairs")
    theirs.save(str(tmp_path / "tokenizer.json"))
    assert json.loads((tmp_path / "tokenizer.json").read_text())["truncation"]["max_length"] == 4
    found = SubwordTokenizer.read(tmp_path / "tokenizer.json")
    assert len(found.encode(["a long line of many words"])[0]) > 4
