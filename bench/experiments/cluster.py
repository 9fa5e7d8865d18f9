"""What a text larger than a machine takes: rates measured here, and an estimate for 10^10 and 10^11 tokens.

``python -m bench.experiments.cluster [--print]`` takes about two minutes. Needs SAFFU_DATA and dask.

Measured on one core each: reading, counting, cutting, summing and joining, a token or an entry of the tables; bytes of
an entry while it is on its way and in the model; the memory of a worker; what passes from one worker process to another
in a second; what Dask needs for a task. The text is that of Brown and the children's corpora, its documents in random
order. From these, and from how the tables have grown over the last factor of four, the estimate follows by the
assumptions written under it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.data.corpora import CHILDREN
from bench.measure.clock import timed
from bench.measure.memory import peak_bytes
from bench.report.command import only_print
from bench.report.requirements import data_folder
from bench.report.tables import machine_line, markdown_table, publish
from saffu.ngram_lm.contexts import Contexts
from saffu.ngram_lm.count_ranges import CountsRange, JoinedRanges, TableRange, balanced_cuts, cut
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.text_counts import PIECE, count_streams
from saffu.text import Corpus, Vocabulary
from saffu.utils.streams import TokenStream

CONTEXTS = Contexts.of(5, 4, (60, 500, 2000), 2000, "k-fold")
N_RANGES = 64
N_TASKS = 2000
SENT_BYTES = 1 << 27
TARGETS = {1e10: 2**27, 1e11: 2**28}  # tokens: bytes of text that are a part
# The cluster of the estimate.
RANGES_PER_THREAD = 2
CORES, MEMORY, NETWORK = 16, 128e9, 10e9 / 8  # of a worker: cores, bytes, bytes a second
HEADROOM = 2  # what all workers keep at a time, over the ranges of all counts
COPIES = 3  # two tables and their sum, while a thread adds them
LEVELS = 3  # of sums of two, in a task


class Growth(NamedTuple):
    """Entries of each table, and the power of the number of tokens that they grow with."""

    n_tokens: int
    sizes: NDArray
    powers: NDArray

    def entries(self, n_tokens: float) -> NDArray:
        """Of each table, of so many tokens."""
        return self.sizes * (n_tokens / self.n_tokens) ** self.powers

    def full(self) -> float:
        """Tokens at which the first table has 2^31 entries."""
        return float((self.n_tokens * (2**31 / self.sizes) ** (1 / self.powers)).min())


class Rates(NamedTuple):
    """What was measured; CPU seconds and bytes, of one core."""

    growth: Growth
    n_types: int
    text: float  # bytes a token
    read: float  # seconds a token
    count: float  # seconds a token
    cut: float  # seconds an entry
    add: float  # seconds an entry of either summand
    join: float  # seconds an entry
    sent: float  # bytes an entry of a range
    kept: float  # bytes an entry of the model's counts
    cluster: ClusterRates


class ClusterRates(NamedTuple):
    """What was measured on two worker processes."""

    peak: float  # bytes by which a worker grows that counts all of it
    transfer: float  # bytes a second from one to the other
    task: float  # CPU seconds of the scheduler and the client


# ---- measuring -------------------------------------------------------------------------------------------------------


def text(folder: Path) -> str:
    """Documents of all corpora, in random order."""
    paths = ["brown/train.txt.gz", *(f"children/{part}.train.txt.gz" for part in CHILDREN)]
    corpus = Corpus([folder / path for path in paths], tokenizer="whitespace")
    words = [token for tokens in corpus.token_lists() for token in tokens]
    documents = " ".join(words).split("\n\n")
    order = np.random.default_rng(0).permutation(len(documents))
    return "\n\n".join(documents[i].strip() for i in order) + "\n"


def cpu(run: Callable[[], Any], repeats: int = 3) -> tuple[Any, float]:
    """What it returns, and the CPU seconds of the quickest of some runs."""
    runs = [timed(run) for _ in range(repeats)]
    return runs[-1][0], min(spent.cpu for _, spent in runs)


def count(stream: TokenStream, vocab_size: int) -> NgramCounts:
    """The counts of a text, on one thread."""
    return count_streams([stream], CONTEXTS, vocab_size).counts


def growth_of(stream: TokenStream, counts: NgramCounts) -> Growth:
    """How entries have grown over the last factor of four."""
    quarter = stream.slice(0, int(stream.starts[stream.starts.size // 4]))
    sizes, fewer = (
        np.array([table.nnz for table in found.tables]) for found in (counts, count(quarter, counts.vocab_size))
    )
    return Growth(stream.ids.size, sizes, np.log(sizes / fewer) / np.log(stream.ids.size / quarter.ids.size))


def measured(path: Path) -> Rates:
    """All rates, on a file of text."""
    corpus = Corpus(path, tokenizer="whitespace")
    vocabulary = corpus.build_vocabulary(min_count=3)
    chunk, reading = cpu(lambda: corpus.read(vocabulary))
    stream, size, n = chunk.stream, len(vocabulary), chunk.ids.size
    counts, counting = cpu(lambda: count(stream, size))
    middle = int(stream.starts[stream.starts.size // 2])
    halves = [count(part, size) for part in (stream.slice(0, middle), stream.slice(middle, n))]
    cuts = balanced_cuts(halves, N_RANGES)
    pieces, cutting = cpu(lambda: [cut(part, cuts) for part in halves])
    added, adding = cpu(lambda: [a.add(b) for a, b in zip(*pieces, strict=True)])
    _, joining = cpu(lambda: joined(counts, cuts, added))
    both = sum(part.n_entries for part in halves)
    kept = sum(array.nbytes for table in counts.tables for array in (table.data, table.indices, table.indptr))
    return Rates(
        growth=growth_of(stream, counts),
        n_types=size,
        text=path.stat().st_size / n,
        read=reading / n,
        count=counting / n,
        cut=cutting / both,
        add=adding / both,
        join=joining / counts.n_entries,
        sent=sum(map(nbytes, added)) / counts.n_entries,
        kept=kept / counts.n_entries,
        cluster=of_cluster(str(path), vocabulary),
    )


def joined(counts: NgramCounts, cuts: Any, ranges: Sequence[CountsRange]) -> NgramCounts:
    """Ranges side by side."""
    empty = NgramCounts(counts.vocab_size, counts.radius, counts.order, counts.start_length)
    whole = JoinedRanges(empty, cuts, np.stack([piece.sizes for piece in ranges]))
    for number, piece in enumerate(ranges):
        whole.put(number, piece)
    return whole.counts(counts.unigram)


def nbytes(piece: CountsRange) -> int:
    """Bytes of the arrays of a range."""
    return sum(array.nbytes for table in (*piece.chain, *piece.far) for array in table)


# ---- a cluster of two processes --------------------------------------------------------------------------------------


def of_cluster(path: str, vocabulary: Vocabulary) -> ClusterRates:
    """What passes between two workers, what they need, and what Dask needs for a task."""
    import distributed

    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        one, other = sorted(client.scheduler_info(n_workers=-1)["workers"])
        before = client.submit(peak_bytes, workers=[other], pure=False).result()
        ranges = client.submit(ranges_of, path, vocabulary, workers=[other])
        distributed.wait(ranges)
        peak = client.submit(peak_bytes, workers=[other], pure=False).result() - before
        rates = []
        for _ in range(5):
            there = client.submit(copies, ranges, workers=[other], pure=False)
            distributed.wait(there)
            sent, spent = timed(client.submit(total_bytes, there, workers=[one], pure=False).result)
            rates.append(sent / spent.wall)
        _, tasks = timed(lambda: client.gather(client.map(identity, range(N_TASKS), pure=False)))
    return ClusterRates(peak, max(rates), tasks.cpu / N_TASKS)


def ranges_of(path: str, vocabulary: Vocabulary) -> list[CountsRange]:
    """Ranges of the counts of a file, read and counted as a worker does."""
    chunks = Corpus(path, tokenizer="whitespace").chunks(vocabulary)
    counts = count_streams((chunk.stream for chunk in chunks), CONTEXTS, len(vocabulary)).counts
    return cut(counts, balanced_cuts([counts], N_RANGES))


def copies(ranges: list[CountsRange]) -> list[CountsRange]:
    """Copies of ranges, of so many bytes, made where they are."""
    return [
        CountsRange(*map(copied, (r.chain, r.far))) for _ in range(SENT_BYTES // total_bytes(ranges)) for r in ranges
    ]


def copied(tables: list[TableRange]) -> list[TableRange]:
    """Tables of arrays of their own."""
    return [TableRange(*(array.copy() for array in table)) for table in tables]


def total_bytes(ranges: Sequence[CountsRange]) -> int:
    """Bytes of some ranges."""
    return sum(map(nbytes, ranges))


def identity(value: int) -> int:
    """A task that does nothing."""
    return value


# ---- the estimate ----------------------------------------------------------------------------------------------------


class Estimate(NamedTuple):
    """What a text takes; hours of cores, and of the whole cluster."""

    n_parts: int
    n_ranges: int
    n_tasks: float
    entries: NDArray
    core_hours: dict[str, float]
    sent: float  # bytes
    kept: float  # bytes of the model's counts
    n_workers: int
    hours: dict[str, float]


def estimate(rates: Rates, n_tokens: float, part_bytes: int) -> Estimate:
    """The arithmetic of the estimate."""

    def entries(tokens: float) -> float:
        return float(rates.growth.entries(min(tokens, n_tokens)).sum())

    part = part_bytes / rates.text
    n_parts = int(np.ceil(n_tokens / part))
    # A tree of sums of two: at level k there are n_parts / 2^k summands, each with the entries of 2^k parts.
    summands = [n_parts / 2**k * entries(part * 2**k) for k in range(int(np.ceil(np.log2(n_parts))))]
    n_entries, sent = entries(n_tokens), sum(summands[::LEVELS]) * rates.sent
    core_hours = {
        "read": n_tokens * rates.read / 3600,
        "count": n_tokens * rates.count / 3600,
        "cut": summands[0] * rates.cut / 3600,
        "sum": sum(summands) * rates.add / 3600,
    }
    n_workers = workers(rates, part, entries(part), n_entries)
    n_ranges = RANGES_PER_THREAD * CORES * n_workers
    n_tasks = n_parts * (3 + n_ranges * (1 + 1 / (2**LEVELS - 1)))  # count, pick, mark; pick each range, sum
    rate = min(NETWORK, rates.cluster.transfer)
    hours = {
        "computing": sum(core_hours.values()) / (CORES * n_workers),
        "sending": sent / (rate * n_workers) / 3600,
        "scheduling": n_tasks * rates.cluster.task / 3600,
        "gathering": n_entries * (rates.sent / rate + rates.join) / 3600,
    }
    kept = n_entries * rates.kept
    return Estimate(
        n_parts, n_ranges, n_tasks, rates.growth.entries(n_tokens), core_hours, sent, kept, n_workers, hours
    )


def workers(rates: Rates, part: float, part_entries: float, n_entries: float) -> int:
    """The least number whose memory suffices, for what is kept and for what every core works on."""
    counting = min(part, PIECE) * rates.cluster.peak / rates.growth.n_tokens + COPIES * part_entries * rates.kept
    if CORES * counting >= MEMORY:
        raise ValueError(f"parts of {part:.0f} tokens are too large for a worker")
    n = 1
    while True:
        adding = COPIES * n_entries * rates.kept / (RANGES_PER_THREAD * CORES * n)
        if n * (MEMORY - CORES * max(counting, adding)) >= HEADROOM * n_entries * rates.sent:
            return n
        n += 1


# ---- tables ----------------------------------------------------------------------------------------------------------


def rate_table(rates: Rates) -> str:
    """What was measured."""
    growth, cluster = rates.growth, rates.cluster
    per_token = growth.sizes.sum() / growth.n_tokens
    powers = f"{growth.powers.min():.2f} to {growth.powers.max():.2f}"
    rows = [
        ["read, split and number text", f"{1e-6 / rates.read:.2f}M tokens/s; {rates.text:.2f} bytes a token"],
        ["count: distances 1..5, suffixes of 2 and 3 tokens", f"{1e-6 / rates.count:.2f}M tokens/s"],
        ["cut into ranges", f"{1e9 * rates.cut:.1f} ns an entry"],
        ["sum two ranges", f"{1e9 * rates.add:.1f} ns an entry of either"],
        ["join ranges", f"{1e9 * rates.join:.1f} ns an entry"],
        ["a range, in memory and on its way", f"{rates.sent:.1f} bytes an entry"],
        ["counts of the model", f"{rates.kept:.1f} bytes an entry"],
        ["memory of a worker that counts a part", f"{cluster.peak / growth.n_tokens:.0f} bytes a token of it"],
        ["from one worker process to another", f"{cluster.transfer / 1e6:,.0f} MB/s"],
        ["a task of Dask, in its scheduler and its client", f"{1e3 * cluster.task:.2f} ms"],
        [f"entries of {growth.n_tokens:,} tokens, V = {rates.n_types:,}", f"{per_token:.2f} a token"],
        ["tables grow with the number of tokens to the power of", powers],
    ]
    return markdown_table(["measured here, on one core", "rate"], rows)


def estimate_table(found: dict[float, Estimate]) -> str:
    """What the texts take."""
    rows: list[tuple[str, Callable[[Estimate], str]]] = [
        ("parts, ranges", lambda e: f"{e.n_parts:,}, {e.n_ranges:,}"),
        ("tasks", lambda e: f"{e.n_tasks:,.0f}"),
        ("entries of all tables", lambda e: f"{e.entries.sum() / 1e9:.1f} billion"),
        ("of the largest table (a model takes 2.1 billion)", lambda e: f"{e.entries.max() / 1e9:.1f} billion"),
        (
            "core hours: read, count, cut, sum",
            lambda e: ", ".join(f"{hours:,.1f}" for hours in e.core_hours.values()),
        ),
        ("sent between workers", lambda e: f"{e.sent / 1e12:,.1f} TB"),
        ("workers of 16 cores, 128 GB, 10 Gbit/s", lambda e: f"{e.n_workers:,}"),
        ("hours: computing", lambda e: f"{e.hours['computing']:.2f}"),
        ("hours: sending, if nothing overlaps", lambda e: f"{e.hours['sending']:.2f}"),
        ("hours: Dask's scheduler, beside these", lambda e: f"{e.hours['scheduling']:.2f}"),
        ("hours: gathering all counts in one process", lambda e: f"{e.hours['gathering']:.2f}"),
        ("memory of that process", lambda e: f"{e.kept / 1e9:,.0f} GB"),
    ]
    header = ["estimate", *(f"10^{np.log10(n):.0f} tokens" for n in found)]
    return markdown_table(header, [[name, *map(show, found.values())] for name, show in rows])


def notes(limit: float) -> str:
    """The assumptions, and where the largest table is full, billions of tokens."""
    parts = ", ".join(f"{n_bytes / 2**20:,.0f} MiB for 10^{np.log10(n):.0f} tokens" for n, n_bytes in TARGETS.items())
    return f"""\
Assumed: the vocabulary is that of the measurement, and each table keeps growing with the power measured over its last
factor of four, which is too much, since that power falls; files are on storage that feeds all workers; a part is
{parts}; summands of a task are sent to it, at the rate of the network
or the one above, whichever is less; workers are as many as have memory for {HEADROOM} times the ranges of all counts
and, for each core, a part that is counted or {COPIES} ranges of a sum; cores are as fast when all are at work. Where
Dask's scheduler takes longer than the rest, make parts larger or ranges fewer, on workers with more memory. Weighing
and priming follow in the process that has the counts, and are not in the table. The largest table reaches 2^31 entries,
the most that a model takes, at {limit:.1f} billion tokens."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run as a command."""
    printed = only_print("cluster", __doc__, argv, needs=("dask", "distributed"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "text.txt")
        path.write_text(text(data_folder()), encoding="utf-8")
        rates = measured(path)
    found = {n_tokens: estimate(rates, n_tokens, part) for n_tokens, part in TARGETS.items()}
    closing = machine_line("one core for each figure", ["dask", "distributed"])
    publish(
        "cluster",
        "\n\n".join([rate_table(rates), estimate_table(found), notes(rates.growth.full() / 1e9), closing]),
        printed,
    )


if __name__ == "__main__":
    main()
