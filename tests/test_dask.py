"""Models counted by many processes equal those counted by one, to the bit, whatever the parts and whoever is killed."""

import inspect
import io
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import saffu
from helpers.made_up import documents_with_habits
from saffu.text import Corpus, Vocabulary
from saffu.utils.streams import TokenStream

distributed = pytest.importorskip("distributed")

import dask  # noqa: E402
import dask.array  # noqa: E402
import dask.bag  # noqa: E402

import saffu.dask  # noqa: E402
from saffu.utils import dask_computation  # noqa: E402

SHAPE = {"radius": 2, "order": 4, "windows": (9,), "induction": 20, "n_threads": 1}
UNPRIMED = {**SHAPE, "priming": "unit"}
V = 14
IDS, DOCUMENTS = documents_with_habits(4000, 0, 3, (0.4, 0.7))
TEXT = TokenStream.of(IDS, DOCUMENTS)
WAIT = 60  # seconds


def pieces(n, stream=TEXT):
    """The stream in n parts of whole documents."""
    bounds = [0, *stream.starts[np.linspace(0, stream.starts.size, n + 1).astype(int)[1:-1]].tolist(), stream.ids.size]
    return [tuple(stream.slice(*pair)) for pair in itertools.pairwise(bounds)]


def fitted(stream=TEXT, **settings):
    return saffu.ExplicitLM(**settings).fit(stream.ids, documents=stream.starts, vocab_size=V)


def assert_same_models(one, other):
    (mine, metadata), (theirs, their_metadata) = (model._to_checkpoint() for model in (one, other))
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
        assert array.dtype == theirs[name].dtype
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    assert {**metadata, "seconds": 0} == {**their_metadata, "seconds": 0}


@pytest.fixture(scope="module")
def cluster():
    with (
        dask.config.set({"distributed.comm.timeouts.connect": WAIT}),
        distributed.LocalCluster(n_workers=3, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
    ):
        yield cluster


@pytest.fixture
def client(cluster):
    """All three workers, whatever became of them before."""
    with distributed.Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(3, timeout=WAIT)
        yield client


@pytest.fixture(scope="module")
def primed():
    return fitted(**SHAPE)


def processes(client):
    return client.run(os.getpid)


# ---- equal to one machine --------------------------------------------------------------------------------------------


def read_by(ids, starts, folder):
    """A part that leaves a file with the name of the process that read it."""
    Path(folder, str(os.getpid())).touch()
    return ids, starts


@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_a_model_is_that_of_one_machine_with_any_number_of_workers(client, tmp_path, primed, n_workers):
    workers = dict(sorted(processes(client).items())[:n_workers])
    parts = [dask.delayed(read_by)(*part, str(tmp_path)) for part in pieces(9)]
    with dask.annotate(workers=list(workers), allow_other_workers=False):
        model = saffu.dask.fit(parts, vocab_size=V, n_ranges=3, client=client, **SHAPE)
    assert {int(path.name) for path in tmp_path.iterdir()} <= set(workers.values())
    assert_same_models(model, primed)


@pytest.mark.parametrize("priming", ["kneser-ney", "leave-one-out"])
def test_every_priming(client, priming):
    settings = {**SHAPE, "priming": priming}
    assert_same_models(saffu.dask.fit(pieces(3), vocab_size=V, client=client, **settings), fitted(**settings))


@pytest.mark.parametrize(("n_parts", "n_ranges"), [(1, 1), (2, 40), (TEXT.starts.size, 3)])
def test_parts_and_ranges_do_not_show(n_parts, n_ranges):
    model = saffu.dask.fit(pieces(n_parts), vocab_size=V, n_ranges=n_ranges, **UNPRIMED)
    assert_same_models(model, fitted(**UNPRIMED))


def test_the_model_goes_on_like_one_of_one_machine():
    one, other = saffu.dask.fit(pieces(3), vocab_size=V, **UNPRIMED), fitted(**UNPRIMED)
    for model in (one, other):
        model.partial_fit(IDS[:9]).update(IDS[9:20]).subtract(IDS[: DOCUMENTS[1]])
    assert_same_models(one, other)
    assert_same_models(
        other.merge(one), fitted(**UNPRIMED).partial_fit(IDS[:20]).subtract(IDS[: DOCUMENTS[1]]).merge(one)
    )


# ---- workers that are killed -----------------------------------------------------------------------------------------


def killing(ids, starts, marker):
    """A part whose first reader is killed while it reads."""
    if not os.path.exists(marker):
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return ids, starts


def when_there(ids, starts, marker):
    """A part that is read as soon as there is a file."""
    began = time.monotonic()
    while not os.path.exists(marker):
        if time.monotonic() > began + WAIT:
            raise TimeoutError(marker)
        time.sleep(0.01)
    return ids, starts


def test_a_worker_that_is_killed_while_it_counts(client, primed, tmp_path):
    before = processes(client)
    parts = [
        dask.delayed(killing)(*part, str(tmp_path / "killed")) if i == 5 else part for i, part in enumerate(pieces(8))
    ]
    model = saffu.dask.fit(parts, vocab_size=V, client=client, **SHAPE)
    assert (tmp_path / "killed").exists()
    client.wait_for_workers(3, timeout=WAIT)
    assert set(processes(client).values()) != set(before.values())
    assert_same_models(model, primed)


def test_a_worker_that_is_killed_with_what_it_has_counted(client, tmp_path):
    """Its parts are counted again, wherever their ranges had got to."""
    marker = tmp_path / "go on"
    *first, last = pieces(9)
    parts = [*first, dask.delayed(when_there)(*last, str(marker))]
    before = processes(client)

    def kill_one_that_holds_counts():
        began = time.monotonic()
        held = []
        while not held and time.monotonic() < began + WAIT:
            held = client.run_on_scheduler(holders)
            time.sleep(0.02)
        os.kill(before[held[0]], signal.SIGKILL)
        marker.touch()

    thread = threading.Thread(target=kill_one_that_holds_counts)
    thread.start()
    model = saffu.dask.fit(parts, vocab_size=V, client=client, **UNPRIMED)
    thread.join()
    client.wait_for_workers(3, timeout=WAIT)
    assert len(set(processes(client).values()) & set(before.values())) <= 2
    assert_same_models(model, fitted(**UNPRIMED))


def holders(dask_scheduler):
    """Workers that hold results and are not busy with a part that waits."""
    return [
        address
        for address, worker in dask_scheduler.workers.items()
        if worker.has_what
        and not any("count_part" in task.key or "when_there" in task.key for task in worker.processing)
    ]


# ---- sources ---------------------------------------------------------------------------------------------------------

BOOKS = [
    "the cat sat .\n\nthe dog\nsat .\n" * 9,
    "a cat , a dog",
    "\n\n\na dog sat\n \nthe cat .\n",
    "",
    "zebra zebra\n" * 3,
]


@pytest.fixture
def corpus(tmp_path):
    paths = [tmp_path / f"{number}.txt" for number in range(len(BOOKS))]
    for path, text in zip(paths, BOOKS, strict=True):
        path.write_text(text, encoding="utf-8")
    return Corpus(paths)


def of_one_machine(corpus, vocabulary):
    text = corpus.read(vocabulary)
    model = saffu.ExplicitLM(**UNPRIMED).fit(text.ids, documents=text.starts, vocab_size=len(vocabulary))
    model.vocabulary = vocabulary
    return model


@pytest.mark.filterwarnings("ignore:.*holds no text")
@pytest.mark.parametrize("blocksize", [60, "64 MiB"])
def test_files(client, corpus, blocksize):
    expected = corpus.build_vocabulary(1)
    found = saffu.dask.build_vocabulary(corpus, min_count=1, blocksize=blocksize, client=client)
    assert found == expected
    settings = {"blocksize": blocksize, "n_ranges": 3, **UNPRIMED}
    model = saffu.dask.fit(corpus.paths, vocabulary=expected, client=client, **settings)
    assert_same_models(model, of_one_machine(corpus, expected))


@pytest.mark.filterwarnings("ignore:.*holds no text")
@pytest.mark.parametrize("blocksize", [20, 50, "64 MiB"])
def test_files_without_a_cluster(corpus, blocksize):
    for min_count in (None, 2):
        expected = corpus.build_vocabulary(min_count)
        assert saffu.dask.build_vocabulary(corpus.paths, min_count=min_count, blocksize=blocksize) == expected
    model = saffu.dask.fit(corpus, vocabulary=expected, blocksize=blocksize, **UNPRIMED)
    assert_same_models(model, of_one_machine(corpus, expected))
    one_file = saffu.dask.count(corpus.paths[0], vocabulary=expected, blocksize=blocksize)
    assert one_file.counts.n_tokens == Corpus(corpus.paths[0]).read(expected).ids.size


@pytest.mark.filterwarnings("ignore:.*holds no text")
def test_a_bag_of_texts(corpus):
    texts = dask.bag.from_sequence(BOOKS, npartitions=3)
    vocabulary = corpus.build_vocabulary(2)
    assert saffu.dask.build_vocabulary(texts, min_count=2) == vocabulary
    assert_same_models(saffu.dask.fit(texts, vocabulary=vocabulary, **UNPRIMED), of_one_machine(corpus, vocabulary))
    by_blank_lines = dask.bag.read_text(corpus.paths, linedelimiter="\n\n", blocksize=64)
    assert saffu.dask.fit(by_blank_lines, vocabulary=vocabulary, **UNPRIMED).n_tokens > 0


def test_documents_of_two_tokens_are_no_pairs():
    documents = [(1, 2), (0, 3), (2, 0)]
    expected = saffu.ExplicitLM(**UNPRIMED).fit([1, 2, 0, 3, 2, 0], documents=[0, 2, 4], vocab_size=V)
    assert_same_models(saffu.dask.fit(dask.bag.from_sequence(documents), vocab_size=V, **UNPRIMED), expected)
    assert_same_models(saffu.dask.fit(documents, vocab_size=V, **UNPRIMED), expected)


def test_a_bag_of_documents():
    documents = dask.bag.from_sequence([ids.tolist() for ids in np.split(IDS, DOCUMENTS[1:])], npartitions=5)
    assert_same_models(saffu.dask.fit(documents, vocab_size=V, **UNPRIMED), fitted(**UNPRIMED))


@pytest.mark.parametrize("chunks", [150, 151, 1000, 4000, (1, 3998, 1)])
def test_an_array_is_cut_at_document_starts(chunks):
    array = dask.array.from_array(IDS, chunks=(chunks,))
    assert_same_models(saffu.dask.fit(array, documents=DOCUMENTS, vocab_size=V, **UNPRIMED), fitted(**UNPRIMED))


def test_an_array_without_documents_is_one():
    array = dask.array.from_array(IDS, chunks=500)
    one_document = TokenStream.of(IDS)
    assert_same_models(saffu.dask.fit(array, vocab_size=V, **UNPRIMED), fitted(one_document, **UNPRIMED))


def test_parts_of_every_kind(client):
    whole = [np.array(ids) for ids in np.split(IDS, DOCUMENTS[1:])]
    first, second, third, fourth, *rest = whole
    parts = [
        first,
        second.tolist(),
        dask.delayed(np.array)(third.tolist()),
        dask.array.from_array(fourth, chunks=40),
        np.empty(0, np.int64),
        (dask.delayed(np.concatenate)(rest), DOCUMENTS[4:] - DOCUMENTS[4]),
    ]
    assert_same_models(saffu.dask.fit(parts, vocab_size=V, **UNPRIMED), fitted(**UNPRIMED))
    parts[0] = client.submit(np.array, first)
    assert_same_models(saffu.dask.fit(parts, vocab_size=V, client=client, **UNPRIMED), fitted(**UNPRIMED))


def test_counts_alone():
    found = saffu.dask.count(pieces(3), vocab_size=V, order=4, radius=2)
    assert (found.counts != found.counts) is False
    model = fitted(**SHAPE)
    for table, expected in zip(found.counts.tables, model.counts.tables, strict=True):
        assert (table != expected).nnz == 0
    np.testing.assert_array_equal(found.end, model.counted.end)


# ---- use -------------------------------------------------------------------------------------------------------------


def test_the_current_client_is_used(cluster, tmp_path):
    with distributed.Client(cluster):
        saffu.dask.count([dask.delayed(read_by)(*part, str(tmp_path)) for part in pieces(4)], vocab_size=V)
    assert str(os.getpid()) not in {path.name for path in tmp_path.iterdir()}


def test_a_bar_counts_parts_and_ranges(client, monkeypatch):
    bars = []

    class Bar(dask_computation.Bar):
        def __exit__(self, *arguments):
            bars.append((self.desc, self.n, self.total))
            super().__exit__(*arguments)

    def shown(total, description, show):
        return Bar(total=total, desc=description, file=io.StringIO())

    monkeypatch.setattr("saffu.ngram_lm.dask_counting.progress_bar", shown)
    for where in (None, client):
        saffu.dask.count(pieces(4), vocab_size=V, client=where, n_ranges=3)
    assert bars == [("count", 7, 7)] * 2


def test_a_task_that_fails_ends_all(client):
    parts = [*pieces(4), dask.delayed(np.array)([1, V])]
    with pytest.raises(ValueError, match=f"ids must be below {V}, got {V} at position 1"):
        saffu.dask.fit(parts, vocab_size=V, client=client, **UNPRIMED)
    began = time.monotonic()
    while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
        assert time.monotonic() < began + WAIT
        time.sleep(0.05)


VOCABULARY = Vocabulary(["a"])


@pytest.mark.parametrize(
    ("source", "arguments", "error", "message"),
    [
        ([[0, V]], {"vocab_size": V}, ValueError, "ids must be below 14"),
        ([[0, 1]], {}, TypeError, "vocab_size must be given for token ids, or vocabulary for texts"),
        ([[0, 1]], {"vocab_size": 0}, ValueError, "vocab_size must be at least 1"),
        ([[0, 1]], {"vocab_size": V, "vocabulary": VOCABULARY}, ValueError, "vocab_size must be 3"),
        ([], {"vocab_size": V}, ValueError, "source must have at least one part, got none"),
        ([[], []], {"vocab_size": V}, ValueError, "source must hold at least one token, got none"),
        ([[0]], {"vocab_size": V, "documents": [0]}, ValueError, "documents must be given with a dask.array only"),
        ([[0]], {"vocab_size": V, "n_ranges": 0}, ValueError, "n_ranges must be at least 1"),
        ([[0]], {"vocab_size": V, "windos": ()}, TypeError, "must be those of ExplicitLM.from_counts, got windos"),
        ([[0]], {"vocab_size": V, "order": 1}, ValueError, "order must be at least 2"),
        (["text.txt"], {"vocab_size": V}, TypeError, "vocabulary must be given to read files"),
        (["no such file.txt"], {"vocabulary": VOCABULARY}, FileNotFoundError, "no such file"),
        (__file__, {"vocabulary": VOCABULARY, "blocksize": 0}, ValueError, "blocksize must be at least 1"),
        (dask.bag.from_sequence(["a"]), {"vocab_size": V}, TypeError, "vocabulary must be given to read texts"),
        (dask.array.zeros((2, 2), dtype=int), {"vocab_size": V}, ValueError, "one dimension and of known chunks"),
        (dask.array.zeros(3), {"vocab_size": V}, TypeError, "ids must be integers"),
        (3, {"vocab_size": V}, TypeError, "source must be files, a bag, a dask.array or a sequence of parts, got int"),
    ],
)
def test_mistakes(source, arguments, error, message):
    with pytest.raises(error, match=message):
        saffu.dask.fit(source, **arguments)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ([[0, 1]], TypeError, "source must be files, a Corpus or a dask.bag of texts, got list"),
        (dask.bag.from_sequence([""]), ValueError, "source holds no text"),
        (dask.bag.from_sequence([3]), TypeError, "texts must be strings, got int"),
    ],
)
def test_what_has_no_vocabulary(source, error, message):
    with pytest.raises(error, match=message):
        saffu.dask.build_vocabulary(source)


def test_without_dask_one_error_names_the_extra():
    code = "import sys; sys.modules['distributed'] = None; import saffu; import saffu.dask"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(saffu.__file__).parents[1]
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith("ImportError: saffu.dask needs dask and distributed: pip install 'saffu[dask]'")


@pytest.mark.parametrize("name", saffu.dask.__all__)
def test_public_functions_have_examples_and_one_positional_argument(name):
    function = getattr(saffu.dask, name)
    assert ">>>" in inspect.getdoc(function)
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    assert kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) == 1
