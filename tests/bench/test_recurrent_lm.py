"""The recurrent language model of the benchmarks: torch has the same network, and the command writes its tables."""

import gzip

import numpy as np
import pytest

from saffu import RecurrentLM
from saffu.recurrent_lm import network
from saffu.utils.streams import TokenStream

# Of torch, whose fast implementation has none.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

LINES = ["the cat sat on the mat", "a dog ran to the cat", "the dog sat", "a cat ran on a mat to the dog"]
SIZES = pytest.mark.parametrize("sizes", [(6, 6, 1), (5, 8, 1), (5, 8, 2)])


@pytest.fixture
def peer(monkeypatch):
    """The network on one thread: threads of torch that wait for each other take very long on a busy machine."""
    pytest.importorskip("torch")
    from bench.peers import torch_recurrent

    monkeypatch.setattr(torch_recurrent, "available_cpus", lambda: 1)
    return torch_recurrent


@SIZES
def test_torch_gives_the_same_perplexity(peer, sizes):
    rng = np.random.default_rng(0)
    ids, starts = rng.integers(0, 9, 300), np.array([0, 120, 121])
    dim, cells, layers = sizes
    model = RecurrentLM(dim=dim, cells=cells, layers=layers, epochs=1).fit(ids, documents=starts)
    twin = peer.TorchRecurrent(model._fitted, 0.3, False)
    found = twin.perplexity(TokenStream.of(ids, starts))
    assert found == pytest.approx(model.perplexity(ids, documents=starts), rel=1e-5)


def test_training_lowers_the_loss(peer):
    ids = np.tile([0, 1, 2, 3, 4], 200).astype(np.int32)
    stream, arrays = TokenStream.of(ids, None, 5), network.initial(5, 6, 6, 1, np.random.default_rng(0))
    twin, state = peer.TorchRecurrent(arrays, 0.0, False), None
    before = twin.perplexity(stream)
    for _, batch in zip(range(25), peer.batches(stream, 5, 0), strict=False):
        state = twin.step(batch, state, 0.02)[1]
    assert twin.perplexity(stream) < 0.5 * before
    assert peer.trained(arrays, stream, 0.2, 0.0, False, seed=0)[1] > 0


def test_the_command_writes_its_tables(peer, tmp_path, capsys, monkeypatch):
    (tmp_path / "brown").mkdir()
    rng = np.random.default_rng(3)
    for part, n_documents in (("train", 40), ("valid", 6), ("test", 6)):
        documents = ["\n".join(LINES[i] for i in rng.integers(0, len(LINES), 6)) for _ in range(n_documents)]
        path = tmp_path / "brown" / f"{part}.txt.gz"
        path.write_bytes(gzip.compress(("\n\n".join(documents) + "\n").encode(), mtime=0))
    from bench.experiments import recurrent_lm
    from bench.peers import torch_softmax

    monkeypatch.setattr(torch_softmax, "product_dtype", lambda: peer.torch.float32)
    monkeypatch.setenv("SAFFU_DATA", str(tmp_path))
    small = ["--dim", "4", "4", "--cells", "4", "6", "--steps", "2"]
    recurrent_lm.main(["--print", *small, "--budget", "0.2", "--shares", "0.5", "1", "--seeds", "2"])
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines() if "|" in line
    ]
    assert [row[0] for row in rows if row[0][0] == "4"] == ["4, 4", "4, 6"]
    scored = [row for row in rows if row[0].endswith("%")]
    assert [row[:2] for row in scored] == [
        [share, start] for share in ("50%", "100%") for start in ("explicit", "random", "torch, random")
    ]
    for row in scored:
        assert 1 < float(row[4].split(" ")[0]) < 15
