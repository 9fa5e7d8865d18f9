"""Many threads read one model at once, whatever it still has to make: the same bits as one alone, and no exception."""

import copy
import multiprocessing
import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import saffu
from helpers.made_up import told_by_two
from saffu.attention_lm.segments import SegmentedText
from saffu.attention_lm.shared_counts import SharedCounts
from saffu.ngram_lm import solution
from saffu.ngram_lm.contexts import PRIMINGS
from saffu.ngram_lm.cross_fitting import HeldOutLogits
from saffu.text import Vocabulary
from saffu.utils import locks as _locks
from saffu.utils.locks import Lock, made_once
from saffu.utils.streams import TokenStream
from saffu.utils.threads import one_blas_thread

N_THREADS = 4
VOCAB_SIZE = 12
IDS = told_by_two(900, 0, VOCAB_SIZE, 0.4)
DOCUMENTS = np.arange(0, 900, 30)
NEW = told_by_two(40, 1, VOCAB_SIZE, 0.4)


@pytest.fixture(autouse=True)
def switching():
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture(scope="module")
def readers():
    with ThreadPoolExecutor(N_THREADS) as pool:
        yield pool


def at_once(readers, tasks):
    """What the tasks return, each begun as nearly at the same moment as can be."""
    gate = threading.Barrier(N_THREADS)

    def run(task):
        gate.wait()
        return task()

    futures = [readers.submit(run, task) for task in tasks]
    return [future.result(60) for future in futures]


def equal(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name, value in one.items():
            equal(value, other[name])
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


READINGS = {
    "log_prob": lambda m: m.log_prob(NEW[:3]),
    "documents": lambda m: m.log_prob(NEW, documents=[0, 7, 8]),
    "distribution": lambda m: m.distribution(NEW[:4]),
    "start": lambda m: m.distribution([]),
    "generate": lambda m: list(m.generate(NEW[:2], 2, seed=0)),
    "perplexity": lambda m: m.perplexity(NEW[:9]),
    "read": lambda m: m.read(NEW[:6]).logits(),
    "unigram": lambda m: m.unigram_log_prob(NEW),
    "scalars": lambda m: m.scalars,
    "counts": lambda m: m.counts.distance[0].data,
    "summary": lambda m: m.summary(),
    "grow": lambda m: m.grow(windows=(20, 40)).log_prob(NEW[:3]),
}


# ---- the explicit language model -------------------------------------------------------------------------------------


@pytest.mark.parametrize("priming", ["unit", "kneser-ney"])
@pytest.mark.parametrize("tokens_per_position", [0, 1, 10**9], ids=["rows", "rows then whole", "whole"])
def test_reading_between_updates(readers, monkeypatch, priming, tokens_per_position):
    """Four readers after each update, none of them the first by agreement, of two things each: 1,440 in all."""
    monkeypatch.setattr(solution, "TOKENS_PER_POSITION", tokens_per_position)
    rng = np.random.default_rng(tokens_per_position % 7)
    model = saffu.ExplicitLM(radius=2, order=3, windows=(20,), induction=9, priming=priming, n_threads=1)
    model.fit(IDS[:300], vocab_size=VOCAB_SIZE, documents=DOCUMENTS[:10])
    names = [name for name in READINGS if priming != "kneser-ney" or name != "grow"]
    for round_number in range(30):
        first = 300 + 6 * round_number
        if rng.random() < 0.1:
            model.update(NEW[:20], documents=[0]).subtract(NEW[:20])
        model.update(IDS[first : first + 6], documents=np.flatnonzero(np.isin(np.arange(first, first + 6), DOCUMENTS)))
        alone = copy.deepcopy(model)
        chosen = rng.choice(names, (N_THREADS, 2))
        tasks = [lambda pair=pair: [READINGS[name](model) for name in pair] for pair in chosen]
        expected = {name: READINGS[name](copy.deepcopy(alone)) for name in np.unique(chosen)}
        for pair, values in zip(chosen, at_once(readers, tasks), strict=True):
            for name, value in zip(pair, values, strict=True):
                equal(value, expected[name])
    equal(model.log_prob(NEW), alone.log_prob(NEW))


@pytest.mark.parametrize("priming", PRIMINGS)
def test_many_threads_ask_an_unprimed_model_first(readers, priming):
    model = saffu.ExplicitLM(radius=2, order=3, windows=(20,), induction=9, priming=priming, n_threads=1)
    model.partial_fit(IDS, vocab_size=VOCAB_SIZE, documents=DOCUMENTS)
    alone = copy.deepcopy(model).prime()
    found = at_once(readers, [lambda: (model.log_prob(NEW), model.scalars, model.distribution([]))] * N_THREADS)
    for log_prob, scalars, start in found:
        equal(log_prob, alone.log_prob(NEW))
        equal(scalars, alone.scalars)
        equal(start, alone.distribution([]))


def test_files_are_written_while_others_read(readers, tmp_path):
    model = saffu.ExplicitLM(radius=2, order=3, windows=(), induction=0, priming="unit").fit(
        IDS[:450], vocab_size=VOCAB_SIZE
    )
    for first in range(450, 900, 50):
        model.update(IDS[first : first + 50], documents=[0])
        path = tmp_path / f"{first}.saffu"
        at_once(readers, [lambda: model.save(path), *[lambda: model.log_prob(NEW)] * 3])  # noqa: B023 (called now)
        equal(saffu.load(path).log_prob(NEW), copy.deepcopy(model).log_prob(NEW))


# ---- the other models ------------------------------------------------------------------------------------------------


def reads_alike(readers, make, *readings, rounds=12):
    """A fresh model, read by all threads, gives what one thread reads of another."""
    expected = [reading(make()) for reading in readings]
    for _ in range(rounds):
        model = make()
        chosen = [i % len(readings) for i in range(N_THREADS)]
        found = at_once(readers, [lambda i=i: readings[i](model) for i in chosen])  # noqa: B023 (called now)
        for i, value in zip(chosen, found, strict=True):
            equal(value, expected[i])


@pytest.mark.parametrize("priming", ["primed", "mean-norm"])
def test_softmax_layer(readers, priming):
    H = np.random.default_rng(0).poisson(2.0, (200, 8)) + np.eye(8)[np.arange(200) % 8]
    counted = saffu.SoftmaxLayer(priming, n_threads=1).fit(H, np.arange(200) % 4)
    reads_alike(
        readers,
        lambda: copy.deepcopy(counted),
        lambda m: m.predict_proba(H),
        lambda m: m.scalars,
        lambda m: m.weights,
        lambda m: m.predict(H[:9]),
        rounds=40,
    )


def test_explicit_network(readers):
    X = np.random.default_rng(0).random((150, 6))
    network = saffu.ExplicitNetwork((6, 4), rounds=2, corrections=2, n_threads=1).fit(X, np.arange(150) % 2)
    reads_alike(
        readers, lambda: network, lambda m: m.predict_proba(X), lambda m: m.predict_log_proba(X), lambda m: m.output
    )


def test_transformer(readers):
    model = saffu.Transformer(VOCAB_SIZE, hidden=8, layers=1, positions=16, n_threads=1)
    reads_alike(readers, lambda: model, lambda m: m.log_prob(NEW), lambda m: m.logits(NEW[None, :9]))


@pytest.fixture(scope="module")
def explicit():
    return saffu.ExplicitLM(radius=2, order=3, windows=(20,), induction=9, n_threads=1).fit(
        IDS, vocab_size=VOCAB_SIZE, documents=DOCUMENTS
    )


def test_text_that_was_read(readers, explicit):
    text = explicit.read(IDS, documents=DOCUMENTS)
    reads_alike(readers, lambda: text, lambda t: t.log_prob(), lambda t: t.logits([5, 3, 800]))


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_held_out_logits(readers, explicit, memory):
    reads_alike(
        readers,
        lambda: HeldOutLogits(
            copy.deepcopy(explicit).update(NEW, documents=[0]),
            IDS,
            documents=DOCUMENTS,
            folds=4,
            n_threads=1,
            memory=memory,
        ),
        *(lambda h, fold=fold: h.log_prob(fold) for fold in range(3)),
        lambda h: h.logits(1),
        rounds=6,
    )


@pytest.mark.parametrize("on_top", [False, True], ids=["alone", "on an explicit model"])
def test_units(readers, explicit, on_top):
    residual = copy.deepcopy(explicit) if on_top else None
    solved = saffu.SaffuLM(bits=4, radius=2, hidden=4, residual=residual, words=6, n_threads=2)
    solved.fit(IDS, documents=DOCUMENTS, vocab_size=VOCAB_SIZE).update(NEW)
    reads_alike(
        readers,
        lambda: copy.deepcopy(solved),
        lambda m: m.log_prob(NEW, documents=[0, 9]),
        lambda m: m.distribution(NEW[:5]),
        lambda m: list(m.generate(NEW[:3], 3, seed=1)),
        lambda m: m.summary(),
        rounds=8,
    )


def test_passages_of_a_text(readers):
    text = SegmentedText(TokenStream(IDS, DOCUMENTS), VOCAB_SIZE, np.dtype(np.float32), 1)
    text.buffer(40)

    def filled(value):
        room = text.buffer(30)
        for _ in range(200):
            room[:] = value
        return room.copy()

    found = at_once(readers, [lambda value=value: filled(value) for value in range(N_THREADS)])
    for value, room in enumerate(found):
        assert (room == value).all()


def test_vocabulary_cipher_and_shared_counts(readers):
    vocabulary = Vocabulary.build([["a", "b", "b", "\n"]] * 3)
    reads_alike(readers, lambda: vocabulary, lambda v: v.encode_text("a b c\n b")[0], lambda v: v.detokenize([2, 3]))
    codes = np.eye(4, dtype=np.float32)
    reads_alike(
        readers,
        lambda: saffu.BitCipher(4).fit(IDS),
        lambda c: c.codes.flags.writeable,
        lambda c: c.codes,
        lambda c: c.decode(codes),
        lambda c: c.encode([1, 2]),
        rounds=100,
    )
    reads_alike(
        readers,
        lambda: SharedCounts(TokenStream(IDS, DOCUMENTS), VOCAB_SIZE, 1),
        lambda s: s.codes(4),
        lambda s: s.embeddings(4),
        lambda s: s.source((0, 0), lambda: s) is s,
    )


def test_blas_has_its_threads_back_when_the_last_one_is_done(readers):
    def threads():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before, within = threads(), []

    def limited(n):
        for _ in range(n):
            with one_blas_thread():
                within.append(threads())

    at_once(readers, [lambda n=n: limited(n) for n in (5, 20, 10, 15)])
    assert threads() == before
    assert set(map(tuple, within)) == {(1,) * len(before)}


# ---- the lock --------------------------------------------------------------------------------------------------------


class Kept:
    def __init__(self):
        self._lock, self._value, self.made = Lock(), None, 0

    @made_once("_value")
    def value(self):
        self.made += 1
        return object()


def test_made_by_one_and_seen_by_all(readers):
    for _ in range(100):
        kept = Kept()
        found = at_once(readers, [kept.value] * N_THREADS)
        assert kept.made == 1
        assert len({id(value) for value in found}) == 1


def test_what_could_not_be_made_is_tried_again():
    class Stubborn(Kept):
        @made_once("_value")
        def value(self):
            self.made += 1
            if self.made == 1:
                raise KeyboardInterrupt
            return 1

    kept = Stubborn()
    with pytest.raises(KeyboardInterrupt):
        kept.value()
    assert kept.value() == 1


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda lock: pickle.loads(pickle.dumps(lock))])
def test_a_copy_of_a_held_lock_is_open(readers, copied):
    lock = Lock()
    with lock, lock:  # twice by one thread
        other = copied(lock)
        readers.submit(other.__enter__).result(10)


def test_models_are_copied_and_pickled_with_their_locks(explicit):
    model = pickle.loads(pickle.dumps(copy.deepcopy(explicit).update(NEW, documents=[0])))
    equal(model.log_prob(NEW), copy.deepcopy(explicit).update(NEW, documents=[0]).log_prob(NEW))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_does_not_wait_for_threads_that_it_lacks(explicit):
    model = copy.deepcopy(explicit).update(NEW, documents=[0])
    expected = copy.deepcopy(model).log_prob(NEW)
    held, done = threading.Event(), threading.Event()

    def hold():
        with model.solution._lock, model.counted.counts._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()

    def child():
        with ThreadPoolExecutor(N_THREADS) as pool:
            queue.put([future.result() for future in [pool.submit(model.log_prob, NEW) for _ in range(N_THREADS)]])

    process = context.Process(target=child)
    process.start()
    try:
        for found in queue.get(timeout=30):
            equal(found, expected)
    finally:
        done.set()
        thread.join()
        process.terminate()
        process.join()
    assert _locks._generation == 0
