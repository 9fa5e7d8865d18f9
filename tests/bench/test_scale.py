"""The curves of training against the size of the text: a quick run, and the text that is drawn for it."""

import csv

import numpy as np
import pytest

from bench.data.drawn_text import PairSource
from bench.experiments import scale


def test_quick_run_writes_table_and_figure(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    scale.main(["--quick", "--tokens", "3000", "--min-entry", "1,1,2", "--out", str(tmp_path / "out")])
    with open(tmp_path / "out" / "results.csv", encoding="utf-8", newline="") as file:
        [record] = csv.DictReader(file)
    assert int(record["tokens"]) >= 3000
    assert 1 < float(record["perplexity"]) < int(record["types"])
    assert float(record["peak bytes"]) > 1e7
    assert record["memory limit"] == "1M"
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert f"| {int(record['tokens']):,} |" in table
    assert (tmp_path / "out" / "figure.png").read_bytes()[:4] == b"\x89PNG"
    assert not [path for path in tmp_path.iterdir() if path.name != "out"]
    capsys.readouterr()


def test_drawn_documents_follow_the_pairs_and_the_frequencies(tmp_path):
    source = PairSource.made_up()
    rng = np.random.default_rng(0)
    drawn = source.draw(rng, 500, 200)
    known = source._pairs.toarray() > 0
    share = known[drawn[:, :-1], drawn[:, 1:]].mean()
    assert 0.75 < share < 0.99
    frequent = np.bincount(drawn.ravel(), minlength=500) / drawn.size
    expected = np.diff(source._all, prepend=0) / source._all[-1]
    assert abs(frequent - expected).max() < 0.02
    for name in ("one", "other"):
        source.write(tmp_path / name, 2500, seed=3)
    text = (tmp_path / "one").read_text()
    assert text == (tmp_path / "other").read_text()
    assert len(text.split()) >= 2500
    assert text.count("\n\n") == 3
