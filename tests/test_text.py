"""Tokenisers, the vocabulary, and files as streams of documents."""

import gzip
import io
import lzma
import os
import re
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffu import text
from saffu.text import Corpus, Vocabulary


def write(folder, content, name="corpus.txt"):
    path = folder / name
    data = content if isinstance(content, bytes) else content.encode()
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opener(path, "wb") as file:
        file.write(data)
    return path


def naive_documents(content, documents, split):
    """One list of tokens for each document, line by line."""
    lines = content.removesuffix("\n").split("\n")
    result = [[]]
    for line in lines:
        if documents == "blank-line" and not line.strip():
            result.append([])
        else:
            result[-1] += [*split(line), "<eos>"]
    return [tokens for tokens in result if tokens]


def read_documents(path, tokeniser, documents):
    corpus = Corpus(path, tokeniser, documents)
    vocabulary = corpus.build_vocabulary(min_count=1)
    chunk = corpus.read(vocabulary)
    return [vocabulary.decode(ids) for ids in np.split(chunk.ids, chunk.documents)[1:]], chunk


# ---- tokenisers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ("It isn't so, he said.", ["It", "isn't", "so", ",", "he", "said", "."]),
        ("a well-known - fact", ["a", "well-known", "-", "fact"]),
        ("3.14 and 1,000,000.", ["3.14", "and", "1,000,000", "."]),
        ("f(x_1)=-2", ["f", "(", "x_1", ")", "=", "-", "2"]),
        ("naïve façade", ["naïve", "façade"]),
        ("cafe\u0301 Ελλάδα", ["cafe\u0301", "Ελλάδα"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("it’s “so”", ["it’s", "“", "so", "”"]),
        ("a <unk> b <eos>", ["a", "<unk>", "b", "<eos>"]),
        ("two\nlines\n", ["two", "\n", "lines", "\n"]),
        ("", []),
    ],
)
def test_words(content, tokens):
    assert text.tokenise(content, "words") == tokens


@given(st.text())
def test_words_and_whitespace_lose_only_spaces(content):
    bare = re.sub(r"[^\S\n]", "", content)
    assert "".join(text.tokenise(content, "words")) == bare
    assert "".join(text.tokenise(content, "whitespace")) == bare
    assert [token for token in text.tokenise(content, "whitespace") if token != "\n"] == content.split()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_chars_and_bytes_join_exactly(content):
    for tokeniser in ("chars", "bytes"):
        assert text.detokenise(text.tokenise(content, tokeniser), tokeniser) == content
    assert len(text.tokenise(content, "chars")) == len(content)
    assert len(text.tokenise(content, "bytes")) == len(content.encode())


@pytest.mark.parametrize(
    "content",
    [
        'He said: "I know (well-known) things, don\'t I?"\nShe left; it cost $3.50.',
        "A list [1, 2] and “curly quotes”… end!",
        "<unk> is a word",
    ],
)
def test_words_join_readably(content):
    assert text.detokenise(text.tokenise(content, "words"), "words") == content


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["words", "whitespace"]))
def test_joined_text_has_the_same_lines_and_letters(content, tokeniser):
    joined = text.detokenise(text.tokenise(content, tokeniser), tokeniser)
    assert re.sub(r"[^\S\n]", "", joined) == re.sub(r"[^\S\n]", "", content)


def test_bytes_show_an_unfinished_character_at_the_end():
    joiner = text.Joiner("bytes")
    first, second = text.tokenise("é", "bytes")
    assert [joiner.add(first), joiner.add(second)] == ["", "é"]
    assert joiner.add(first) == ""
    assert joiner.finish() == "\ufffd"


def test_unknown_tokeniser_is_named():
    for call in (
        lambda: text.tokenise("a", "word"),
        lambda: text.Joiner("word"),
        lambda: Vocabulary([], "word"),
        lambda: Corpus("-", "word"),
    ):
        with pytest.raises(ValueError, match=r"tokeniser must be one of 'words', 'whitespace', .*, got 'word'"):
            call()


# ---- vocabulary ------------------------------------------------------------------------------------------------------


def test_types_by_frequency_then_first_appearance():
    vocabulary = Vocabulary.build([["d", "b", "a"], ["a", "c", "b", "\n"]])
    assert vocabulary.types == ["<unk>", "<eos>", "b", "a", "d", "c"]
    assert Vocabulary.build([["d", "b", "a"], ["a", "c", "b"]], min_count=2).types == ["<unk>", "<eos>", "b", "a"]


def test_specials_in_the_text_are_the_specials():
    vocabulary = Vocabulary.build([["<unk>", "a", "<unk>", "<eos>", "\n", "\n\n"]])
    assert vocabulary.types == ["<unk>", "<eos>", "a"]
    np.testing.assert_array_equal(vocabulary.encode(["<unk>", "a", "<eos>", "\n", "\n\n", "?"]), [0, 2, 1, 1, 1, 0])


@given(st.lists(st.sampled_from(["a", "bb", "é", "\U0001f600", "<unk>", "\n"])), st.integers(1, 3))
def test_encode_inverts_decode(tokens, min_count):
    vocabulary = Vocabulary.build([tokens], min_count)
    ids = vocabulary.encode(tokens)
    assert ids.dtype == np.int32
    expected = [
        "<eos>" if t == "\n" else t if t in vocabulary and tokens.count(t) >= min_count else "<unk>" for t in tokens
    ]
    assert vocabulary.decode(ids) == expected
    rate = expected.count("<unk>") / len(tokens) if tokens else 0.0
    assert vocabulary.unknown_rate(ids) == pytest.approx(rate)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), unique=True))
def test_vocabulary_survives_a_checkpoint(types):
    types = [kind for kind in types if kind not in ("<unk>", "<eos>")]
    vocabulary = Vocabulary(types, "whitespace", "file", min_count=4)
    arrays, metadata = vocabulary._to_checkpoint()
    again = Vocabulary._from_checkpoint(arrays, metadata)
    assert vars(again) == vars(vocabulary)
    assert again == vocabulary
    assert Vocabulary([*types, "<other>"], "whitespace", "file") != vocabulary
    assert Vocabulary(types, "whitespace", "blank-line") != vocabulary


def test_damaged_vocabulary_is_refused():
    arrays, metadata = Vocabulary(["a"])._to_checkpoint()
    with pytest.raises(ValueError, match="offsets of the vocabulary"):
        Vocabulary._from_checkpoint({**arrays, "type_offsets": arrays["type_offsets"][:-1]}, metadata)
    with pytest.raises(ValueError, match="does not begin with"):
        Vocabulary._from_checkpoint({**arrays, "types": arrays["types"][::-1]}, metadata)


def test_encode_text_keeps_a_prompt_open_and_names_documents():
    vocabulary = Vocabulary(["a", "b"])
    ids, starts = vocabulary.encode_text("a b\n\n \nb a")
    np.testing.assert_array_equal(ids, [2, 3, 1, 3, 2])
    np.testing.assert_array_equal(starts, [3])
    ids, starts = Vocabulary(["a", "é"], "chars").encode_text("a\n\né")
    np.testing.assert_array_equal(ids, [2, 1, 1, 3])
    assert starts.size == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Vocabulary(["a", "b", "a"]), ValueError, "distinct .* got 'a' again"),
        (lambda: Vocabulary(["<eos>"]), ValueError, "got '<eos>' again"),
        (lambda: Vocabulary(["a"], documents="line"), ValueError, "documents must be one of 'blank-line', 'file'"),
        (lambda: Vocabulary.build([["a"]], min_count=0), ValueError, "min_count must be at least 1"),
        (lambda: Vocabulary.build(["a b"]), TypeError, "lists of tokens, got a string"),
        (lambda: Vocabulary(["a"]).encode("a b"), TypeError, "got a string; use encode_text"),
        (lambda: Vocabulary(["a"]).decode([3]), ValueError, "ids must be below 3, got 3 at position 0"),
        (lambda: Vocabulary(["a"]).decode([1.0]), TypeError, "ids must be integers"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- files -----------------------------------------------------------------------------------------------------------

contents = st.text(st.sampled_from("ab \n\t,é\u3000"), max_size=60).filter(lambda content: content.strip())


@given(contents, st.sampled_from(["whitespace", "words", "chars"]), st.sampled_from(text.DOCUMENTS), st.integers(1, 30))
def test_stream_equals_reading_line_by_line(tmp_path_factory, content, tokeniser, documents, block):
    split = {"whitespace": str.split, "words": lambda line: re.findall(r"\w+|[^\w\s]", line), "chars": list}[tokeniser]
    path = write(tmp_path_factory.getbasetemp(), content, "naive.txt")
    expected = naive_documents(content, documents, split)
    whole, chunk = read_documents(path, tokeniser, documents)
    assert whole == expected
    blank = [line for line in content.removesuffix("\n").split("\n") if documents == "blank-line" and not line.strip()]
    assert chunk.n_characters == len(content.removesuffix("\n")) + 1 - sum(len(line) + 1 for line in blank)
    # A word or a line of spaces longer than a block is cut; single characters in a file survive every block size.
    if tokeniser == "chars" and documents == "file":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(text, "BLOCK_BYTES", block)
            parts, chunk_of_parts = read_documents(path, tokeniser, documents)
        assert parts == expected
        assert chunk_of_parts.n_characters == chunk.n_characters


@given(st.lists(st.lists(st.sampled_from(["ab", "c", "édé", "", " "])), min_size=1), st.integers(16, 40))
def test_blocks_do_not_show(tmp_path_factory, lines, block):
    content = "\n".join(" ".join(words) for words in lines) + "x"
    path = write(tmp_path_factory.getbasetemp(), content, "blocks.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK_BYTES", block)
        corpus = Corpus(path, "whitespace")
        vocabulary = corpus.build_vocabulary(min_count=1)
        chunks = list(corpus.chunks(vocabulary))
    ids = np.concatenate([chunk.ids for chunk in chunks])
    offsets = np.cumsum([0, *(chunk.ids.size for chunk in chunks)])
    starts = np.concatenate([chunk.documents + offset for chunk, offset in zip(chunks, offsets, strict=False)])
    documents = [vocabulary.decode(part) for part in np.split(ids, starts)[1:]]
    assert documents == naive_documents(content, "blank-line", str.split)
    assert all(chunk.documents.size == 0 or chunk.documents[-1] < chunk.ids.size for chunk in chunks)


def test_every_file_begins_a_document(tmp_path):
    paths = [
        write(tmp_path, "a b", "1.txt"),
        write(tmp_path, "\n\nc\n\n\nd\n\n", "2.txt.gz"),
        write(tmp_path, "e", "3.txt.xz"),
    ]
    documents, chunk = read_documents(paths, "whitespace", None)
    assert documents == [["a", "b", "<eos>"], ["c", "<eos>"], ["d", "<eos>"], ["e", "<eos>"]]
    assert chunk.n_characters == 4 + 2 + 2 + 2


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_kind(tmp_path, ending):
    path = write(tmp_path, ending.join(["a", "b", "", "c"]))
    assert read_documents(path, "whitespace", None)[0] == [["a", "<eos>", "b", "<eos>"], ["c", "<eos>"]]


def test_byte_order_mark_is_no_text(tmp_path):
    assert read_documents(write(tmp_path, "\ufeffa"), "chars", None)[0] == [["a", "<eos>"]]


def test_a_corpus_builds_its_own_vocabulary(tmp_path):
    path = write(tmp_path, "a a a b b")
    vocabulary = Corpus(path, "whitespace", "file").build_vocabulary()
    assert vocabulary.types == ["<unk>", "<eos>", "a"]
    assert (vocabulary.tokeniser, vocabulary.documents, vocabulary.min_count) == ("whitespace", "file", 3)
    assert Corpus(path, "chars").build_vocabulary().types == ["<unk>", "<eos>", " ", "a", "b"]
    with pytest.raises(ValueError, match="vocabulary must be of 'words' tokens, got one of 'whitespace'"):
        Corpus(path, "words").read(vocabulary)


def test_bytes_are_taken_as_they_are(tmp_path):
    data = "é\r\n\n".encode() + b"\xff\n"
    documents, chunk = read_documents(write(tmp_path, data), "bytes", None)
    assert documents == [["Ã", "©", "\r", "<eos>", "<eos>", "ÿ", "<eos>"]]
    assert chunk.n_characters == 6


def test_standard_input_can_be_read_twice(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a b\n\nc")))
    corpus = Corpus("-", "whitespace")
    assert corpus.n_bytes is None
    vocabulary = corpus.build_vocabulary(min_count=1)
    assert vocabulary.decode(corpus.read(vocabulary).ids) == ["a", "b", "<eos>", "c", "<eos>"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_can_be_read_twice(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"a b\n",))
    writer.start()
    assert read_documents(path, "whitespace", None)[0] == [["a", "b", "<eos>"]]
    writer.join()


def test_progress_adds_up_to_the_bytes_on_disk(tmp_path):
    paths = [write(tmp_path, "some words\n" * 100, "1.txt.gz"), write(tmp_path, "more\n", "2.txt")]
    corpus, steps = Corpus(paths), []
    for _ in corpus.token_lists(steps.append):
        pass
    assert sum(steps) == corpus.n_bytes == sum(path.stat().st_size for path in paths)


@pytest.mark.parametrize(
    ("content", "position", "line"),
    [(b"ab\ncd \xff", 6, 2), (b"\x80", 0, 1), ("é".encode() * 9 + b"\n\xc3(", 19, 2), (b"abc\xe2\x82", 3, 1)],
)
@pytest.mark.parametrize("block", [1, 4, 1 << 20])
def test_undecodable_bytes_are_located(tmp_path, monkeypatch, content, position, line, block):
    monkeypatch.setattr(text, "BLOCK_BYTES", block)
    path = write(tmp_path, content)
    message = rf"corpus.txt' is not UTF-8: byte 0x{content[position]:02x} at position {position} \(line {line}\)"
    with pytest.raises(ValueError, match=message):
        list(Corpus(path).token_lists())


def test_missing_empty_and_damaged_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Corpus(tmp_path / "nowhere.txt")
    with pytest.raises(IsADirectoryError):
        Corpus(tmp_path)
    with pytest.raises(ValueError, match="at least one file"):
        Corpus([])
    with pytest.raises(ValueError, match="only once"):
        Corpus(["-", "-"])
    for content in ("", "\n \n"):
        with pytest.raises(ValueError, match=r"empty.txt' holds no text"):
            list(Corpus(write(tmp_path, content, "empty.txt")).token_lists())
    for name in ("cut.gz", "cut.xz"):
        path = write(tmp_path, bytes(range(32, 127)) * 50, name)
        path.write_bytes(path.read_bytes()[:-12])
        with pytest.raises(ValueError, match=rf"{name}' is damaged"):
            list(Corpus(path).token_lists())
        path.write_bytes(b"plain text")
        with pytest.raises(ValueError, match=rf"{name}' is damaged"):
            list(Corpus(path).token_lists())


def test_brown_has_the_published_size(data_folder):
    corpus = Corpus(data_folder / "brown" / "train.txt.gz", "whitespace")
    vocabulary = corpus.build_vocabulary()
    chunk = corpus.read(vocabulary)
    assert len(vocabulary) == 19_422
    assert chunk.documents.size == 400
    assert int((chunk.ids != text.LINE_END_ID).sum()) == 929_285
