"""The estimate for a text larger than a machine: rates are measured, the rest is arithmetic."""

import numpy as np
import pytest

from bench.experiments import cluster
from bench.experiments.cluster import ClusterRates, Growth, Rates

GROWTH = Growth(1000, np.array([900, 400]), np.array([0.5, 1.0]))
RATES = Rates(
    growth=GROWTH,
    n_types=10,
    text=5.0,
    read=1e-6,
    count=2e-6,
    cut=3e-9,
    add=4e-9,
    join=5e-9,
    sent=6.0,
    kept=14.0,
    cluster=ClusterRates(peak=1e5, transfer=1e8, task=1e-3),
)


def test_tables_grow_with_their_powers():
    np.testing.assert_allclose(GROWTH.entries(4000), [1800, 1600])
    full = GROWTH.full()
    np.testing.assert_allclose(GROWTH.entries(full)[1], 2**31)
    assert GROWTH.entries(full)[0] < 2**31


def test_the_estimate_adds_up_every_level_of_the_tree():
    n = 4e8
    found = cluster.estimate(RATES, n, int(n * 5 / 16))
    summands = [k * GROWTH.entries(n / k).sum() for k in (16, 8, 4, 2)]
    assert found.n_parts == 16
    sent = summands[0] + summands[3]  # the first task adds eight parts
    np.testing.assert_allclose(found.sent, 6 * sent)
    expected = {"read": 1e-6 * n, "count": 2e-6 * n, "cut": 3e-9 * summands[0], "sum": 4e-9 * sum(summands)}
    assert found.core_hours == pytest.approx({step: seconds / 3600 for step, seconds in expected.items()})
    n_entries = GROWTH.entries(n).sum()
    assert found.n_ranges == 32 * found.n_workers
    assert found.kept == pytest.approx(14 * n_entries)
    assert found.hours["sending"] == pytest.approx(6 * sent / 1e8 / found.n_workers / 3600)


def test_workers_have_memory_for_what_they_keep_and_what_they_do():
    n_entries, part = 1e11, 1e7
    n = cluster.workers(RATES, part, 5e6, n_entries)

    def needed(n):
        counting = 1e7 * 1e5 / 1000 + 3 * 5e6 * 14
        adding = 3 * n_entries / (32 * n) * 14
        return 2 * 6 * n_entries + n * 16 * max(counting, adding)

    assert needed(n) <= n * 128e9
    assert needed(n - 1) > (n - 1) * 128e9
    with pytest.raises(ValueError, match="parts of 10000000 tokens are too large"):
        cluster.workers(RATES, part, 5e9, n_entries)


def test_rates_are_measured_on_a_text(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "of_cluster", lambda path, vocabulary: RATES.cluster)
    rng = np.random.default_rng(0)
    path = tmp_path / "text.txt"
    path.write_text("".join(" ".join(map(str, rng.zipf(1.5, 30) % 40)) + "\n\n" for _ in range(60)), encoding="utf-8")
    rates = cluster.measured(path)
    assert rates.growth.n_tokens == 60 * 31
    assert 2 < rates.text < 4
    assert ((rates.growth.powers > 0) & (rates.growth.powers < 1)).all()
    assert 4 < rates.sent < rates.kept
    for table in (cluster.rate_table(rates), cluster.estimate_table({1e10: cluster.estimate(rates, 1e10, 2**28)})):
        assert table.count("\n") > 8
        assert "nan" not in table


def test_a_worker_counts_and_copies_what_it_sends(tmp_path, monkeypatch):
    path = tmp_path / "text.txt"
    path.write_text("a b c\n\nb c a\n" * 50, encoding="utf-8")
    from saffu.text import Corpus

    ranges = cluster.ranges_of(str(path), Corpus(path, tokenizer="whitespace").build_vocabulary(1))
    assert len(ranges) == cluster.N_RANGES
    monkeypatch.setattr(cluster, "SENT_BYTES", 3 * cluster.total_bytes(ranges))
    assert cluster.total_bytes(cluster.copies(ranges)) == cluster.SENT_BYTES
