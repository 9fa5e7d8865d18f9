"""The README: every line of its Python runs as it stands, and it fits two screens."""

import re
from pathlib import Path

import numpy as np

from helpers.made_up import documents_with_habits

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
WORDS = ["the", "a", "one", "of", "and", "sea", "ship", "whale", "captain", "sails", "under", "over"]


def test_its_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ids, starts = documents_with_habits(3000, 0, 7, (0.4, 0.6))
    documents = np.split(ids, starts[1:])
    Path("book.txt").write_text("\n\n".join(" ".join(WORDS[i] for i in document) for document in documents))
    rng = np.random.default_rng(0)
    labels = np.array(["two", "four", "six"])[rng.integers(0, 3, 120)]
    features = rng.poisson(1 + 2 * (np.array(["two", "four", "six"]) == labels[:, None])).astype(np.float32)
    names = {"features": features, "labels": labels, "new_features": features[:5], "new_ids": ids[:40]}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    large, small = (names[name].perplexity(ids[:99]) for name in ("large", "small"))
    np.testing.assert_allclose(large, small, rtol=1e-4)
    perplexity, total = map(float, capsys.readouterr().out.splitlines()[1].split())
    assert perplexity < len(WORDS)
    assert abs(total - 1) < 1e-9


def test_it_fits_two_screens():
    assert len(README.splitlines()) <= 200
