"""Tokenizers, the vocabulary, and files as streams of documents."""

import bz2
import gzip
import importlib.util
import io
import lzma
import os
import re
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import saffu
from saffu import text
from saffu.attention_lm.model import SaffuLM
from saffu.ngram_lm.model import ExplicitLM
from saffu.text import Corpus, Vocabulary, reading
from saffu.utils import checkpoint
from saffu.utils.streams import TokenStream


def write(folder, content, name="corpus.txt"):
    path = folder / name
    data = content if isinstance(content, bytes) else content.encode()
    opener = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}.get(path.suffix, open)
    with opener(path, "wb") as file:
        file.write(data)
    return path


def naive_documents(content, documents, split):
    """One list of tokens for each document, line by line."""
    lines = content.removesuffix("\n").split("\n")
    result = [[]]
    for line in lines:
        if documents != "file" and not line.strip():
            result.append([])
        else:
            result[-1] += [*split(line), "<eos>"]
            result += [[]] * (documents == "line")
    return [tokens for tokens in result if tokens]


def read_documents(path, tokenizer, documents):
    corpus = Corpus(path, tokenizer=tokenizer, documents=documents)
    vocabulary = corpus.build_vocabulary(min_count=1)
    chunk = corpus.read(vocabulary)
    return [vocabulary.decode(ids) for ids in np.split(chunk.ids, chunk.starts)[1:]], chunk


def as_read(content):
    """Every line end as one character, no byte order mark."""
    return re.sub("\r\n?", "\n", content.removeprefix("\ufeff"))


# ---- tokenizers ------------------------------------------------------------------------------------------------------


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
    assert text.tokenize(content, tokenizer="words") == tokens


@given(st.text())
def test_words_and_whitespace_lose_only_spaces(content):
    content = as_read(content)
    bare = re.sub(r"[^\S\n]", "", content)
    assert "".join(text.tokenize(content, tokenizer="words")) == bare
    assert "".join(text.tokenize(content, tokenizer="whitespace")) == bare
    assert [token for token in text.tokenize(content, tokenizer="whitespace") if token != "\n"] == content.split()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_chars_and_bytes_join_exactly(content):
    assert text.detokenize(text.tokenize(content, tokenizer="bytes"), tokenizer="bytes") == content
    assert text.detokenize(text.tokenize(content, tokenizer="chars"), tokenizer="chars") == as_read(content)
    assert len(text.tokenize(content, tokenizer="chars")) == len(as_read(content))
    assert len(text.tokenize(content, tokenizer="bytes")) == len(content.encode())


@pytest.mark.parametrize(
    "content",
    [
        'He said: "I know (well-known) things, don\'t I?"\nShe left; it cost $3.50.',
        "A list [1, 2] and “curly quotes”… end!",
        "<unk> is a word",
    ],
)
def test_words_join_readably(content):
    assert text.detokenize(text.tokenize(content, tokenizer="words"), tokenizer="words") == content


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["words", "whitespace"]))
def test_joined_text_has_the_same_lines_and_letters(content, tokenizer):
    joined = text.detokenize(text.tokenize(content, tokenizer=tokenizer), tokenizer=tokenizer)
    assert re.sub(r"[^\S\n]", "", joined) == re.sub(r"[^\S\n]", "", as_read(content))


def test_bytes_show_an_unfinished_character_at_the_end():
    joiner = text.Joiner("bytes")
    first, second = text.tokenize("é", tokenizer="bytes")
    assert [joiner.add(first), joiner.add(second)] == ["", "é"]
    assert joiner.add(first) == ""
    assert joiner.finish() == "\ufffd"


def test_unknown_tokenizer_is_named():
    for call in (
        lambda: text.tokenize("a", tokenizer="word"),
        lambda: text.Joiner("word"),
        lambda: Vocabulary([], tokenizer="word"),
        lambda: Corpus("-", tokenizer="word"),
    ):
        with pytest.raises(ValueError, match=r"tokenizer must be one of 'words', 'whitespace', .*, got 'word'"):
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
    vocabulary = Vocabulary.build([tokens], min_count=min_count)
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
    vocabulary = Vocabulary(types, tokenizer="whitespace", documents="file", min_count=4)
    arrays, metadata = vocabulary._to_checkpoint()
    again = Vocabulary._from_checkpoint(arrays, metadata)
    assert vars(again) == vars(vocabulary)
    assert again == vocabulary
    assert Vocabulary([*types, "<other>"], tokenizer="whitespace", documents="file") != vocabulary
    assert Vocabulary(types, tokenizer="whitespace", documents="blank-line") != vocabulary


def test_files_of_before_spell_tokenizer_another_way(tmp_path):
    model = ExplicitLM(order=2, radius=1, windows=(), induction=0).fit([0, 1, 2] * 30)
    model.vocabulary = Vocabulary(["a"], tokenizer="whitespace", documents="file", min_count=4)
    model.save(tmp_path / "new")
    kind, arrays, metadata = checkpoint.read(tmp_path / "new")
    metadata["vocabulary"]["tokeniser"] = metadata["vocabulary"].pop("tokenizer")
    checkpoint.write(tmp_path / "old", kind, arrays, metadata)
    assert vars(saffu.load(tmp_path / "old").vocabulary) == vars(model.vocabulary)
    del metadata["vocabulary"]["tokeniser"]
    checkpoint.write(tmp_path / "neither", kind, arrays, metadata)
    with pytest.raises(ValueError, match="'tokenizer' is missing"):
        saffu.load(tmp_path / "neither")


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
    ids, starts = Vocabulary(["a", "é"], tokenizer="chars").encode_text("a\n\né")
    np.testing.assert_array_equal(ids, [2, 1, 1, 3])
    assert starts.size == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Vocabulary(["a", "b", "a"]), ValueError, "distinct .* got 'a' again"),
        (lambda: Vocabulary(["<eos>"]), ValueError, "got '<eos>' again"),
        (
            lambda: Vocabulary(["a"], documents="verse"),
            ValueError,
            "documents must be one of 'blank-line', 'line', 'file'",
        ),
        (lambda: Vocabulary.build([["a"]], min_count=0), ValueError, "min_count must be at least 1"),
        (lambda: Vocabulary.build(["a b"]), TypeError, "lists of tokens, got a string"),
        (lambda: Vocabulary(["a"]).encode("a b"), TypeError, "got a string; use encode_text"),
        (lambda: Vocabulary(["a"]).decode([3]), ValueError, "ids must be below 3, got 3 at position 0"),
        (lambda: Vocabulary(["a"]).decode([1.0]), TypeError, "ids must be integers"),
        (lambda: Vocabulary(["a", "b\ud800"]), ValueError, "types must be what UTF-8 can hold, got .*ud800"),
        (lambda: Vocabulary.build([["\udfff"]]), ValueError, "lone surrogate"),
        (lambda: Vocabulary(["a", 3]), TypeError, "types must be strings, got 3"),
        (lambda: Vocabulary(["é", "ab"], tokenizer="bytes"), ValueError, "single characters below 256, got 'ab'"),
        (lambda: Vocabulary(["Ā"], tokenizer="bytes"), ValueError, "single characters below 256, got 'Ā'"),
        (
            lambda: Vocabulary(["a"], tokenizer="bytes").encode_text("a\ud800"),
            ValueError,
            "text must be what UTF-8 can hold",
        ),
        (lambda: text.tokenize("a\ud800", tokenizer="bytes"), ValueError, "text must be what UTF-8 can hold"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def tiny_models():
    return [ExplicitLM(order=2, radius=1, windows=(), induction=0), SaffuLM(bits=2, hidden=2, radius=2)]


@pytest.mark.parametrize("model", tiny_models())
def test_a_model_takes_a_vocabulary_of_its_own_size_only(model):
    vocabulary = Vocabulary(["a", "b"])
    with pytest.raises(TypeError, match=r"vocabulary must be a saffu.text.Vocabulary or None, got list"):
        model.vocabulary = ["<unk>", "<eos>", "a", "b"]
    assert model.vocabulary is None
    model.vocabulary = vocabulary
    with pytest.raises(ValueError, match="vocab_size must be 4, the size of the vocabulary, got 5"):
        model.fit([0, 1, 2] * 30, vocab_size=5)
    with pytest.raises(ValueError, match="ids must be below 4, got 4"):
        model.fit([0, 1, 4] * 30)
    model.fit([0, 1, 2] * 30)
    assert model.vocab_size == 4
    with pytest.raises(ValueError, match="vocabulary must have 4 types, as the model has, got one of 3"):
        model.vocabulary = Vocabulary(["a"])
    assert model.vocabulary is vocabulary
    model.vocabulary = None
    model.fit([0, 1, 2] * 30, vocab_size=3)
    model.vocabulary = Vocabulary(["a"])


def test_merging_keeps_to_the_vocabulary():
    empty, full = (ExplicitLM(order=2, radius=1, windows=(), induction=0) for _ in range(2))
    full.fit([0, 1, 2] * 30)
    empty.vocabulary = Vocabulary(["a", "b"])
    with pytest.raises(ValueError, match="vocab_size must be 4"):
        empty.merge(full)


# ---- files -----------------------------------------------------------------------------------------------------------

contents = st.text(st.sampled_from("ab \n\t,é\u3000"), max_size=60).filter(lambda content: content.strip())


@given(contents, st.sampled_from(["whitespace", "words", "chars"]), st.sampled_from(text.DOCUMENTS), st.integers(1, 30))
def test_stream_equals_reading_line_by_line(tmp_path_factory, content, tokenizer, documents, block):
    split = {"whitespace": str.split, "words": lambda line: re.findall(r"\w+|[^\w\s]", line), "chars": list}[tokenizer]
    path = write(tmp_path_factory.getbasetemp(), content, "naive.txt")
    expected = naive_documents(content, documents, split)
    whole, chunk = read_documents(path, tokenizer, documents)
    assert whole == expected
    blank = [line for line in content.removesuffix("\n").split("\n") if documents != "file" and not line.strip()]
    assert chunk.n_characters == len(content.removesuffix("\n")) + 1 - sum(len(line) + 1 for line in blank)
    # A word or a line of spaces longer than a block is cut; single characters in a file survive every block size.
    if tokenizer == "chars" and documents == "file":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reading, "BLOCK_BYTES", block)
            parts, chunk_of_parts = read_documents(path, tokenizer, documents)
        assert parts == expected
        assert chunk_of_parts.n_characters == chunk.n_characters


@given(
    st.lists(st.lists(st.sampled_from(["ab", "c", "édé", "", " "])), min_size=1),
    st.integers(16, 40),
    st.sampled_from(["blank-line", "line"]),
)
def test_blocks_do_not_show(tmp_path_factory, lines, block, separated_by):
    content = "\n".join(" ".join(words) for words in lines) + "x"
    path = write(tmp_path_factory.getbasetemp(), content, "blocks.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BLOCK_BYTES", block)
        corpus = Corpus(path, tokenizer="whitespace", documents=separated_by)
        vocabulary = corpus.build_vocabulary(min_count=1)
        chunks = list(corpus.chunks(vocabulary))
    ids = np.concatenate([chunk.ids for chunk in chunks])
    offsets = np.cumsum([0, *(chunk.ids.size for chunk in chunks)])
    starts = np.concatenate([chunk.starts + offset for chunk, offset in zip(chunks, offsets, strict=False)])
    documents = [vocabulary.decode(part) for part in np.split(ids, starts)[1:]]
    assert documents == naive_documents(content, separated_by, str.split)
    assert all(chunk.starts.size == 0 or chunk.starts[-1] < chunk.ids.size for chunk in chunks)


def test_chunks_join_to_the_stream_of_the_whole(tmp_path, monkeypatch):
    corpus = Corpus(write(tmp_path, "a b c\nd e\n\nf g\n\n\nh\n" * 9), tokenizer="whitespace")
    vocabulary = corpus.build_vocabulary(min_count=1)
    whole = corpus.read(vocabulary)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 16)
    chunks = list(corpus.chunks(vocabulary))
    assert len(chunks) > 9
    assert any(chunk.starts.size == 0 or chunk.starts[0] > 0 for chunk in chunks)  # one goes on with a document
    for joined in (TokenStream.concat(chunk.stream for chunk in chunks), corpus.read(vocabulary).stream):
        np.testing.assert_array_equal(joined.ids, whole.ids)
        np.testing.assert_array_equal(joined.starts, whole.starts)
    assert sum(chunk.n_characters for chunk in chunks) == whole.n_characters


def test_parts_are_the_files_and_report_together(tmp_path):
    paths = [write(tmp_path, content, name) for name, content in (("1", "a b"), ("2", ""), ("3", "c"))]
    corpus = Corpus(paths, tokenizer="whitespace", documents="file")
    vocabulary = Vocabulary(["a", "b", "c"], tokenizer="whitespace", documents="file")
    parts = corpus.parts()
    read = [part.read(vocabulary) for part in parts]  # an empty one raises and warns of nothing by itself
    assert [vocabulary.decode(chunk.ids) for chunk in read] == [["a", "b", "<eos>"], [], ["c", "<eos>"]]
    assert [chunk.starts.tolist() for chunk in read] == [[0], [], [0]]
    with pytest.warns(UserWarning, match="2' holds no text and is left out"):
        Corpus.check_parts(parts)
    with pytest.raises(ValueError, match=r"2' holds no text$"):
        Corpus.check_parts(parts[1:2])


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
    vocabulary = Corpus(path, tokenizer="whitespace", documents="file").build_vocabulary()
    assert vocabulary.types == ["<unk>", "<eos>", "a"]
    assert (vocabulary.tokenizer, vocabulary.documents, vocabulary.min_count) == ("whitespace", "file", 3)
    assert Corpus(path, tokenizer="chars").build_vocabulary().types == ["<unk>", "<eos>", " ", "a", "b"]
    with pytest.raises(ValueError, match="vocabulary must be of 'words' tokens, got one of 'whitespace'"):
        Corpus(path, tokenizer="words").read(vocabulary)


def test_bytes_are_taken_as_they_are(tmp_path):
    data = "é\r\n\n".encode() + b"\xff\n"
    documents, chunk = read_documents(write(tmp_path, data), "bytes", None)
    assert documents == [["Ã", "©", "\r", "<eos>", "<eos>", "ÿ", "<eos>"]]
    assert chunk.n_characters == 6


def test_standard_input_can_be_read_twice(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a b\n\nc")))
    corpus = Corpus("-", tokenizer="whitespace")
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
    for _ in corpus.token_lists(advance=steps.append):
        pass
    assert sum(steps) == corpus.n_bytes == sum(path.stat().st_size for path in paths)


@pytest.mark.parametrize(
    ("content", "position", "line"),
    [(b"ab\ncd \xff", 6, 2), (b"\x80", 0, 1), ("é".encode() * 9 + b"\n\xc3(", 19, 2), (b"abc\xe2\x82", 3, 1)],
)
@pytest.mark.parametrize("block", [1, 4, 1 << 20])
def test_undecodable_bytes_are_located(tmp_path, monkeypatch, content, position, line, block):
    monkeypatch.setattr(reading, "BLOCK_BYTES", block)
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
    for name in ("cut.gz", "cut.xz", "cut.bz2"):
        path = write(tmp_path, bytes(range(32, 127)) * 50, name)
        path.write_bytes(path.read_bytes()[:-12])
        with pytest.raises(ValueError, match=rf"{name}' is damaged"):
            list(Corpus(path).token_lists())


@pytest.mark.parametrize("tokenizer", text.TOKENIZERS)
@pytest.mark.parametrize("documents", text.DOCUMENTS)
@given(
    st.text(st.sampled_from("ab \t\n\r\ufeffé"), max_size=12)
    | st.sampled_from(["ab\r\ncd\r\n", "a\rb", "\ufeffa", "\n\na\n\n\nb", " \n\r\na\r\n\r\nb\r", "\ufeff\n a"])
)
def test_a_text_gives_the_ids_that_its_file_gives(tmp_path_factory, tokenizer, documents, content):
    content += "\n"
    types = (
        sorted({*"abcdé\ufeff\r", "ab", "cd"}) if tokenizer != "bytes" else [*map(chr, range(9)), *"abcd\r\xef\xbb\xbf"]
    )
    vocabulary = Vocabulary(types, tokenizer=tokenizer, documents=documents)
    path = tmp_path_factory.getbasetemp() / "same.txt"
    path.write_bytes(content.encode())
    ids, starts = vocabulary.encode_text(content)
    if ids.size == 0:
        with pytest.raises(ValueError, match="holds no text"):
            Corpus(path, tokenizer=tokenizer, documents=documents).read(vocabulary)
        return
    chunk = Corpus(path, tokenizer=tokenizer, documents=documents).read(vocabulary)
    np.testing.assert_array_equal(ids, chunk.ids)
    np.testing.assert_array_equal([0, *starts[starts < ids.size]], chunk.starts)
    if documents == "file":
        np.testing.assert_array_equal(vocabulary.encode(text.tokenize(content, tokenizer=tokenizer)), chunk.ids)


def test_line_ends_of_windows_are_one_token():
    vocabulary = Vocabulary("abcd", tokenizer="chars")
    np.testing.assert_array_equal(vocabulary.encode_text("ab\r\ncd\r\n")[0], [2, 3, 1, 4, 5, 1])
    np.testing.assert_array_equal(vocabulary.encode_text("\ufeffa\rb")[0], [2, 1, 3])


@pytest.mark.parametrize("block", [1, 2, 1 << 20])
def test_a_byte_order_mark_is_found_in_blocks_of_any_size(tmp_path, monkeypatch, block):
    monkeypatch.setattr(reading, "BLOCK_BYTES", block)
    assert read_documents(write(tmp_path, "\ufeffa\ufeff"), "chars", None)[0] == [["a", "\ufeff", "<eos>"]]


# ---- compressed, empty and foreign files -----------------------------------------------------------------------------

PACKERS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("name", ["text", "text.txt", "text.gz", "text.xz"])
def test_compressed_files_are_told_by_their_bytes(tmp_path, kind, name):
    path = tmp_path / name
    path.write_bytes(PACKERS[kind](b"a b\n") + PACKERS[kind](b"c\n"))  # of two parts, as such files may be
    assert read_documents(path, "whitespace", None)[0] == [["a", "b", "<eos>", "c", "<eos>"]]
    path.write_bytes(PACKERS[kind](b""))
    with pytest.raises(ValueError, match="holds no text"):
        Corpus(path).build_vocabulary()


@pytest.mark.parametrize("kind", PACKERS)
def test_standard_input_may_be_compressed(monkeypatch, kind):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(PACKERS[kind](b"a b\n"))))
    assert read_documents("-", "whitespace", None)[0] == [["a", "b", "<eos>"]]


def test_a_plain_text_may_have_any_name_and_beginning(tmp_path):
    path = tmp_path / "text.gz"
    for content in ("plain text", "BZh9 is a beginning", "BZ", "B"):
        path.write_text(content)
        assert read_documents(path, "whitespace", None)[0] == [[*content.split(), "<eos>"]]


@pytest.mark.parametrize("kind", PACKERS)
def test_every_damage_of_a_compressed_file_is_named(tmp_path, kind):
    content = bytes(range(32, 127)) * 3
    packed = PACKERS[kind](content)
    path = tmp_path / "text"
    for length in range(10, len(packed)):
        path.write_bytes(packed[:length])
        with pytest.raises(ValueError, match=r"text' is (damaged|not UTF-8)"):
            list(Corpus(path).token_lists())


def zstandard_frame(content):
    """A Zstandard frame with one raw block (RFC 8878): magic, header of one segment, size of the content, block."""
    assert len(content) < 256
    block = (1 | len(content) << 3).to_bytes(3, "little")
    return b"\x28\xb5\x2f\xfd\x20" + bytes([len(content)]) + block + content


def reads_zstandard():
    return any(importlib.util.find_spec(name) for name in ("compression", "zstandard"))


@pytest.mark.skipif(not reads_zstandard(), reason="what reads Zstandard is not installed")
def test_zstandard_is_read(tmp_path):
    path = tmp_path / "text.txt"
    whole = zstandard_frame(b"a b\n") + zstandard_frame(b"c\n")
    path.write_bytes(whole)
    assert read_documents(path, "whitespace", None)[0] == [["a", "b", "<eos>", "c", "<eos>"]]
    for length in range(4, len(whole)):
        if length != len(zstandard_frame(b"a b\n")):
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match="is damaged"):
                list(Corpus(path).token_lists())
    path.write_bytes(whole[:6] + b"\xff\xff\xff" + whole[9:])
    with pytest.raises(ValueError, match="is damaged"):
        list(Corpus(path).token_lists())


def test_what_reads_zstandard_is_named_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "compression", None)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    path = tmp_path / "text.zst"
    path.write_bytes(zstandard_frame(b"a b\n"))
    with pytest.raises(ValueError, match=r"text.zst' is compressed with Zstandard; pip install 'saffu\[zstd\]'"):
        Corpus(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("content", ["ab", "привет мир\n" * 9, "a line\n" * 9])
def test_utf16_is_named(tmp_path, encoding, content):
    path = write(tmp_path, content.encode(encoding))
    with pytest.raises(ValueError, match="is not UTF-8"):
        list(Corpus(path).token_lists())
    assert list(Corpus(path, tokenizer="bytes").token_lists())
    path = write(tmp_path, "a zero \0 here and there is text\n" * 9)
    with pytest.raises(ValueError, match="UTF-16"):
        list(Corpus(path).token_lists())
    assert list(Corpus(write(tmp_path, "one zero \0" + " word" * 99)).token_lists())


def test_an_empty_file_among_others_is_left_out(tmp_path):
    full, empty, blank = write(tmp_path, "a b", "1.txt"), write(tmp_path, "", "2.txt"), write(tmp_path, " \n", "3.txt")
    corpus = Corpus([empty, full, blank], tokenizer="whitespace")
    with pytest.warns(UserWarning, match="holds no text and is left out") as told:
        vocabulary = corpus.build_vocabulary(min_count=1)
    assert [Path(str(warning.message).split("'")[1]) for warning in told] == [empty, blank]
    chunk = corpus.read(vocabulary)  # without another word
    assert (vocabulary.decode(chunk.ids), chunk.starts.tolist()) == (["a", "b", "<eos>"], [0])
    with pytest.raises(ValueError, match=r"2.txt' holds no text, nor does any other file"):
        Corpus([empty, blank]).build_vocabulary()
    corpus = Corpus(empty)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"2.txt' holds no text$"):
            corpus.build_vocabulary()


def test_a_closed_standard_input_is_named(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ValueError, match=r"standard input \('-'\) is closed"):
        Corpus("-")


def test_brown_has_the_published_size(data_folder):
    corpus = Corpus(data_folder / "brown" / "train.txt.gz", tokenizer="whitespace")
    vocabulary = corpus.build_vocabulary()
    chunk = corpus.read(vocabulary)
    assert len(vocabulary) == 19_422
    assert chunk.starts.size == 400
    assert int((chunk.ids != text.LINE_END_ID).sum()) == 929_285
