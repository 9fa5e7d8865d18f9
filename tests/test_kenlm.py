"""saffu.kenlm against the real kenlm, on one file, and in the libraries that call it."""

import copy
import importlib
import importlib.util
import math
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import saffu
import saffu.kenlm
from helpers.made_up import told_by_two
from saffu.kenlm import Model, State
from saffu.text import LINE_END_ID, Corpus, Vocabulary
from saffu.utils.streams import TokenStream

WORDS = ["the", "cat", "sat", "on", "a", "mat", "naïve", "a\u00a0b", "1990"]
V = 2 + len(WORDS)
UNKNOWN = ("xyzzy", "Straße", "<unk>")
MARKS = [(True, True), (True, False), (False, True), (False, False)]


def trained(priming="backoff", order=4, length=8, **settings):
    model = saffu.ExplicitLM(order=order, priming=priming, **settings)
    model.vocabulary = Vocabulary(WORDS, tokenizer="whitespace")
    ids = told_by_two(1600, 0, V, 0.5)
    ids[length - 1 :: length] = LINE_END_ID
    return model.fit(ids, documents=np.arange(0, 1600, length))


def sentences(n=60, seed=1):
    rng = np.random.default_rng(seed)
    words = [*WORDS * 3, *UNKNOWN]
    made = [" ".join(rng.choice(words, rng.integers(1, 40))) for _ in range(n)]
    return ["", " ", "the", "</s>", "cat </s> the", "the\tcat\n sat", *made]


def split(sentence):
    """Words as KenLM splits them: at white space of ASCII."""
    return [word.decode() for word in sentence.encode().split()]


@pytest.fixture(scope="module")
def kenlm():
    return pytest.importorskip("kenlm")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """ARPA files by priming and order, made when they are asked for."""
    folder = tmp_path_factory.mktemp("arpa")

    def file(priming, order, length=8):
        path = folder / f"{priming}-{order}-{length}.arpa"
        if not path.exists():
            trained(priming, order, length).to_arpa(path)
        return str(path)

    return file


def real(kenlm, path):
    config = kenlm.Config()
    config.show_progress = False
    return kenlm.Model(path, config)


# ---- the real one ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", range(2, 7))
@pytest.mark.parametrize("priming", ["kneser-ney", "backoff"])
@pytest.mark.parametrize("length", [8, 40], ids=["a line each", "five lines each"])
def test_scores_are_those_of_kenlm(kenlm, files, priming, order, length):
    path = files(priming, order, length)
    theirs, ours, own = real(kenlm, path), Model(path), Model(trained(priming, order, length))
    assert theirs.order == ours.order == own.order == order
    for sentence in sentences():
        for bos, eos in MARKS:
            expected = list(theirs.full_scores(sentence, bos, eos))
            for model in (ours, own):
                found = list(model.full_scores(sentence, bos, eos))
                assert [word[1:] for word in found] == [word[1:] for word in expected]
                np.testing.assert_allclose([w[0] for w in found], [w[0] for w in expected], rtol=0, atol=1e-5)
                total = theirs.score(sentence, bos, eos)
                assert model.score(sentence, bos, eos) == pytest.approx(total, abs=1e-5 * max(len(found), 1))
        assert ours.perplexity(sentence) == pytest.approx(theirs.perplexity(sentence), rel=1e-4)


@pytest.mark.parametrize("order", [2, 3, 5])
def test_states_go_on_as_those_of_kenlm(kenlm, files, order):
    theirs, ours = real(kenlm, files("backoff", order)), Model(files("backoff", order))
    for sentence in sentences(20):
        for begin in ("BeginSentenceWrite", "NullContextWrite"):
            state, before = State(), kenlm.State()
            getattr(ours, begin)(state), getattr(theirs, begin)(before)
            for word in [*split(sentence), "</s>", "the"]:
                after, expected = State(), kenlm.State()
                score = theirs.BaseScore(before, word, expected)
                assert ours.BaseScore(state, word, after) == pytest.approx(score, abs=1e-5)
                full = ours.BaseFullScore(state, word, after)
                theirs_full = theirs.BaseFullScore(before, word, expected)
                assert (full.ngram_length, full.oov) == (theirs_full.ngram_length, theirs_full.oov)
                assert full.log_prob == pytest.approx(theirs_full.log_prob, abs=1e-5)
                state, before = after, expected


def test_states_are_equal_where_those_of_kenlm_are(kenlm, files):
    theirs, ours = real(kenlm, files("kneser-ney", 3)), Model(files("kneser-ney", 3))
    seen = {}
    for sentence in sentences(80):
        state, other, null = State(), kenlm.State(), kenlm.State()
        ours.NullContextWrite(state), theirs.NullContextWrite(other), theirs.NullContextWrite(null)
        for word in split(sentence):
            ours.BaseScore(state, word, state)
            after = kenlm.State()
            theirs.BaseScore(other, word, after)
            other = after
        seen.setdefault(other, set()).add(state)
    assert max(map(len, seen.values())) == 1
    assert len({state for states in seen.values() for state in states}) <= len(seen)


@pytest.mark.parametrize("word", ["the", "</s>", "<s>", "<unk>", "xyzzy", "a\u00a0b", ""])
def test_words_that_are_known(kenlm, files, word):
    theirs, ours = real(kenlm, files("backoff", 3)), Model(files("backoff", 3))
    assert (word in ours) == (word in theirs)
    assert (word.encode() in ours) == (word in ours)


def test_the_start_as_a_word(kenlm, files):
    """Which it should not be."""
    theirs, ours = real(kenlm, files("backoff", 3)), Model(files("backoff", 3))
    for bos, eos in MARKS:
        assert ours.score("<s> the cat", bos, eos) == pytest.approx(theirs.score("<s> the cat", bos, eos), abs=1e-4)


def test_on_real_text(kenlm, data_folder, tmp_path):
    """Unknown words are those of the test text that the training text lacks, or has once or twice."""
    corpus = Corpus(data_folder / "children" / "fairytales.train.txt.gz", tokenizer="whitespace")
    vocabulary = corpus.build_vocabulary(3)
    text = corpus.read(vocabulary)
    ends = np.flatnonzero(text.ids == LINE_END_ID) + 1
    model = saffu.ExplicitLM(order=3, priming="backoff")
    model.vocabulary = vocabulary
    model.fit(text.ids, documents=[0, *ends[:-1]])
    model.to_arpa(tmp_path / "model.arpa")
    theirs, ours = real(kenlm, str(tmp_path / "model.arpa")), Model(tmp_path / "model.arpa")
    test = Corpus(data_folder / "children" / "fairytales.test.txt.gz", tokenizer="whitespace")
    words = [word for block in test.token_lists() for word in block]
    lines = " ".join(words).replace("\n\n", "\n").split("\n")[:500]
    expected = [theirs.score(line) for line in lines]
    # KenLM adds numbers of 32 bits.
    np.testing.assert_allclose(ours.score_batch(lines), expected, rtol=1e-6, atol=1e-5)
    assert sum(unknown for line in lines for *_, unknown in ours.full_scores(line)) > 100


# ---- without it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"radius": 2, "windows": (), "induction": 0}, {"priming": "unit"}])
def test_models_with_other_contexts(settings):
    """What a model says of a sentence as a document is what it says here, in one go and word by word."""
    lm = trained(**{"priming": "k-fold", **settings}, length=400)
    model = Model(lm)
    for sentence in sentences(6):
        words = [*split(sentence), "</s>"]
        ids = lm.vocabulary.encode(["<eos>" if word == "</s>" else word for word in words])
        expected = lm.log_prob(ids) / math.log(10)
        found = list(model.full_scores(sentence))
        np.testing.assert_allclose([word[0] for word in found], expected, atol=1e-12)
        assert all(1 <= length <= model.order for _, length, _ in found)
        state = State()
        model.BeginSentenceWrite(state)
        for word, value in zip(words, found, strict=True):
            after = State()
            assert model.BaseFullScore(state, word, after) == pytest.approx(value)
            state = after
        assert model.score(sentence) == pytest.approx(expected.sum())


def test_no_context_is_not_the_start_of_a_document():
    """Also of a model that is not one of back-off: the unigrams alone are left."""
    lm = trained("unit", radius=1, windows=(50,), induction=0)
    model = Model(lm)
    found = [model.score(word, bos=False, eos=False) for word in WORDS]
    np.testing.assert_allclose(found, lm.unigram_log_prob(np.arange(2, V)) / math.log(10))
    assert model.score("the", eos=False) != pytest.approx(found[0])


def test_other_language_models():
    lm = saffu.Transformer(V, hidden=6, seed=3)
    lm.vocabulary = Vocabulary(WORDS)
    model = Model(lm)
    expected = lm.log_prob([2, 3, 0, 1]) / math.log(10)
    np.testing.assert_allclose([word[0] for word in model.full_scores("the cat xyzzy")], expected, rtol=1e-6)
    state = State()
    model.BeginSentenceWrite(state)
    scores = [model.BaseScore(state, word, state) for word in ("the", "cat", "xyzzy", "</s>")]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_many_sentences_at_once(files):
    model = Model(files("backoff", 4))
    lines = sentences()
    for bos, eos in MARKS:
        np.testing.assert_allclose(model.score_batch(lines, bos, eos), [model.score(line, bos, eos) for line in lines])
    assert model.score_batch([]).shape == (0,)


def test_short_and_long_sentences_are_scored_alike(files, monkeypatch):
    model = Model(files("backoff", 4))
    arrays = [model.score(line) for line in sentences()]
    monkeypatch.setattr(saffu.kenlm, "SHORT", 1000)
    np.testing.assert_allclose([model.score(line) for line in sentences()], arrays, atol=1e-12)


def test_saved_models_and_models_in_memory(tmp_path):
    lm = trained()
    lm.save(tmp_path / "model.saffu")
    lm.to_arpa(tmp_path / "model.arpa.gz")
    lm.to_backoff().save(tmp_path / "ngrams.saffu")
    expected = Model(lm).score("the cat sat on")
    for name in ("model.saffu", "model.arpa.gz", "ngrams.saffu"):
        for path in (tmp_path / name, str(tmp_path / name), bytes(tmp_path / name)):
            model = Model(path)
            assert model.score("the cat sat on") == pytest.approx(expected, abs=1e-7)
            assert model.path == bytes(tmp_path / name)
            assert name in repr(model)


def test_copies(files):
    model = Model(files("backoff", 3))
    assert pickle.loads(pickle.dumps(model)).score("the cat") == model.score("the cat")
    state = State()
    model.BeginSentenceWrite(state)
    for copied in (copy.copy(state), copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        assert copied == state
        assert hash(copied) == hash(state)
        model.BaseScore(copied, "the", copied)
        assert copied != state
    assert sorted([state, State()]) == [State(), state]


def test_what_cannot_be(tmp_path):
    with pytest.raises(TypeError, match="must be str or bytes, got int"):
        Model(trained()).score(3)
    with pytest.raises(ValueError, match="must have a vocabulary"):
        Model(saffu.ExplicitLM(order=2).fit([1, 2, 3]))
    saffu.BitCipher(2).fit([0, 0, 1]).save(tmp_path / "cipher")
    with pytest.raises(ValueError, match="holds BitCipher, which is not a language model"):
        Model(tmp_path / "cipher")
    (tmp_path / "text").write_text("no model")
    with pytest.raises(ValueError, match="not an ARPA file"):
        Model(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        Model(tmp_path / "none")


# ---- in the libraries that call it -----------------------------------------------------------------------------------

LETTERS = ["", " ", *"acehimnostw"]  # the blank first


def emissions():
    """Log-probabilities of frames that spell "the cat sat", or nearly as well "the hat sat" and the like."""
    found = np.full((11, len(LETTERS)), -12.0)
    for t, letter in enumerate("the cat sat"):
        found[t, LETTERS.index(letter)] = -0.7
    found[4, LETTERS.index("h")] = -0.6  # without a language model it is a hat
    return found


def spelling_model(tmp_path, liked="cat"):
    lm = saffu.ExplicitLM(order=3, priming="backoff")
    lm.vocabulary = Vocabulary(["the", "cat", "sat", "hat", "mat", "on"], tokenizer="whitespace")
    said = lm.vocabulary.encode(f"the {liked} sat <eos> on the mat <eos>".split())
    text = [*np.tile(said, 40), *lm.vocabulary.encode(["hat", "cat", "mat", "<eos>"])]
    stream = TokenStream.of(text)
    ends = np.flatnonzero(stream.ids == LINE_END_ID) + 1
    lm.fit(stream.ids, documents=[0, *ends[:-1]])
    lm.to_arpa(tmp_path / f"{liked}.arpa")
    return tmp_path / f"{liked}.arpa"


@pytest.mark.numpy1
@pytest.mark.filterwarnings("default")
def test_in_pyctcdecode(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", saffu.kenlm)
    for name in [name for name in sys.modules if name.startswith("pyctcdecode")]:
        monkeypatch.delitem(sys.modules, name)
    pyctcdecode = importlib.import_module("pyctcdecode")
    assert pyctcdecode.build_ctcdecoder(LETTERS).decode(emissions()) == "the hat sat"
    for liked in ("cat", "hat"):
        path = spelling_model(tmp_path, liked)
        decoder = pyctcdecode.build_ctcdecoder(LETTERS, str(path))
        assert decoder.decode(emissions()) == f"the {liked} sat"
    model = pyctcdecode.LanguageModel(Model(spelling_model(tmp_path)), ["the", "cat", "hat", "sat"])
    decoder = pyctcdecode.BeamSearchDecoderCTC(pyctcdecode.Alphabet.build_alphabet(LETTERS), model)
    assert decoder.decode(emissions()) == "the cat sat"


def test_in_ctc_beam_decoder(tmp_path):
    """It reads ARPA files itself."""
    library = pytest.importorskip("ctc_beam_decoder")
    assert library.build_ctcdecoder(LETTERS).decode(emissions()) == "the hat sat"
    for liked in ("cat", "hat"):
        decoder = library.build_ctcdecoder(LETTERS, str(spelling_model(tmp_path, liked)))
        assert decoder.decode(emissions()) == f"the {liked} sat"


def test_in_flashlight_text(tmp_path):
    """Whose decoders are those of torchaudio, and whose LM is its CTCDecoderLM."""
    flashlight = pytest.importorskip("flashlight.lib.text.decoder")
    dictionary = pytest.importorskip("flashlight.lib.text.dictionary")
    words = dictionary.Dictionary()
    for word in ("the", "cat", "sat", "hat", "mat", "on", "<unk>"):
        words.add_entry(word)
    names = [words.get_entry(i) for i in range(words.index_size())]

    def decoded(path):
        lm = flashlight.ZeroLM() if path is None else saffu.kenlm.decoder_lm(Model(path), words=names)
        trie, start = flashlight.Trie(len(LETTERS), 1), lm.start(False)
        for i, name in enumerate(names[:-1]):
            trie.insert([*map(LETTERS.index, name), 1], i, lm.score(start, i)[1])
        trie.smear(flashlight.SmearingMode.MAX)
        options = flashlight.LexiconDecoderOptions(
            beam_size=50,
            beam_size_token=len(LETTERS),
            beam_threshold=100.0,
            lm_weight=1.0,
            word_score=0.0,
            unk_score=-np.inf,
            sil_score=0.0,
            log_add=False,
            criterion_type=flashlight.CriterionType.CTC,
        )
        decoder = flashlight.LexiconDecoder(options, trie, lm, 1, 0, len(names) - 1, [], False)
        frames = np.ascontiguousarray(np.vstack([emissions(), np.eye(1, len(LETTERS), 1) * 12 - 12]), np.float32)
        best = decoder.decode(frames.ctypes.data, *frames.shape)[0]
        return [names[i] for i in best.words if i >= 0], best.score

    assert decoded(None)[0] == ["the", "hat", "sat"]
    for liked in ("cat", "hat"):
        path = spelling_model(tmp_path, liked)
        assert decoded(path)[0] == ["the", liked, "sat"]
    found, score = decoded(spelling_model(tmp_path))
    heard = emissions()[np.arange(11), [LETTERS.index(letter) for letter in "the cat sat"]].sum()
    assert score == pytest.approx(heard + Model(spelling_model(tmp_path)).score(" ".join(found)), abs=1e-4)


def decoders_of_torchaudio(monkeypatch):
    """The module of torchaudio's decoders.

    Its wheels load an extension of CUDA on import, and fail where torch is one for the CPU. The decoders do not use it:
    there they are imported without running what the packages around them import.
    """
    try:
        return importlib.import_module("torchaudio.models.decoder")
    except OSError:
        folder = Path(importlib.util.find_spec("torchaudio").origin).parent
        for name in ("torchaudio", "torchaudio.models"):
            package = types.ModuleType(name)
            package.__path__ = [str(folder.joinpath(*name.split(".")[1:]))]
            monkeypatch.setitem(sys.modules, name, package)
        return importlib.import_module("torchaudio.models.decoder")


@pytest.mark.torchaudio
def test_in_torchaudio(tmp_path, monkeypatch):
    """As its CTCDecoderLM, with and without a lexicon."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("flashlight.lib.text.decoder")
    decoders = decoders_of_torchaudio(monkeypatch)
    words = ["the", "cat", "sat", "hat", "mat", "on", "<unk>"]
    (tmp_path / "words").write_text("\n".join(words))
    (tmp_path / "lexicon").write_text("".join(f"{word}\t{' '.join(word)} |\n" for word in words[:-1]))
    letters = ["-", "|", *LETTERS[2:]]
    frames = np.vstack([emissions(), np.eye(1, len(letters), 1) * 12 - 12])[None].astype(np.float32)

    def decoded(lm, weight=1.0):
        decoder = decoders.ctc_decoder(
            str(tmp_path / "lexicon"), letters, lm, str(tmp_path / "words"), lm_weight=weight, beam_threshold=100
        )
        return decoder(torch.tensor(frames))[0][0]

    assert decoded(None).words == ["the", "hat", "sat"]
    for liked in ("cat", "hat"):
        lm = saffu.kenlm.decoder_lm(Model(spelling_model(tmp_path, liked)), words=words)
        assert issubclass(decoders.CTCDecoderLM, type(lm).__mro__[1])
        assert decoded(lm).words == ["the", liked, "sat"]
    model = Model(spelling_model(tmp_path))
    found = decoded(saffu.kenlm.decoder_lm(model, words=words), 1.5)
    heard = emissions()[np.arange(11), [LETTERS.index(letter) for letter in "the cat sat"]].sum()
    assert found.score == pytest.approx(heard + 1.5 * model.score("the cat sat"), abs=1e-4)


def test_what_installs_flashlight_text(monkeypatch, files):
    monkeypatch.setitem(sys.modules, "flashlight.lib.text.decoder", None)
    with pytest.raises(ImportError, match=r"pip install 'saffu\[speech\]'"):
        saffu.kenlm.decoder_lm(Model(files("backoff", 3)), words=["the"])
