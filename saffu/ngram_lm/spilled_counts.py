"""Counts within a memory limit: what exceeds it is written to disk as sorted runs, which are merged in the end.

The newest pieces are in memory. When they take 0.3 of the limit, which merging them may double, they are written as one
run: tables that are mapped from files. Sixteen runs of one size are merged to one of the next, so that every entry is
written a logarithm of the number of runs times. To all others runs are pieces like any.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any, NamedTuple

from saffu.ngram_lm.counting_limits import CountingLimits
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.incremental_counts import IncrementalCounts
from saffu.ngram_lm.statistics import Statistics
from saffu.ngram_lm.table_merging import merged
from saffu.utils.locks import made_once
from saffu.utils.mapped_files import release
from saffu.utils.spill_folder import SpillFolder

SHARE_OF_PIECES = 0.3  # of the limit, that pieces in memory may take
SHARE_OF_MERGE = 0.2  # of the limit, that merging may take to work in
RUNS = 16  # of one size, merged when there are so many


class _Run(NamedTuple):
    """What is on disk: counts, their folder, and how often they were merged."""

    counts: NgramCounts
    folder: str
    level: int


class SpilledCounts(IncrementalCounts):
    """The counts of a stream in pieces, of which most may be on disk.

    Parameters
    ----------
    limits : CountingLimits
        With a memory limit.

    Attributes
    ----------
    pieces : list of NgramCounts
        First the runs, then what is in memory.
    """

    def __init__(self, limits: CountingLimits) -> None:
        super().__init__()
        assert limits.memory is not None
        self._memory, self._parent = limits.memory, limits.spill_folder
        self._folder: SpillFolder | None = None
        self._runs: list[_Run] = []

    @property
    def are_on_disk(self) -> bool:
        """Whether a part of the counts is on disk."""
        return bool(self._runs)

    @property
    @made_once("_statistics")
    def statistics(self) -> Statistics:
        """What the rows share; computed from all counts once, and kept current from then on."""
        total = self.total()
        found = Statistics.of(total)
        release_tables(total)
        return found

    @made_once("_whole")
    def total(self) -> NgramCounts:
        """All counts in one piece, on disk if a part of them was; takes time proportional to them."""
        if not self._runs:
            return super().total()
        if len(self.pieces) > 1:
            self._set_runs([self._written(self.pieces, level=0)])
        if self._has_zeros:
            super().total()
            self._set_runs([self._written(self.pieces, level=0)])
        return self.pieces[0]

    def _append(self, piece: NgramCounts) -> None:
        n_runs = len(self._runs)
        newest = IncrementalCounts(self.pieces[n_runs:])
        newest._append(piece)
        self.pieces, self._whole = [*self.pieces[:n_runs], *newest.pieces], None
        if sum(map(n_bytes, newest.pieces)) > SHARE_OF_PIECES * self._memory:
            self._set_runs([*self._runs, self._written(newest.pieces, level=0)])
            self._merge_runs()

    def _merge_runs(self) -> None:
        """Merge the newest runs while there are many of one level."""
        while len(self._runs) >= RUNS and self._runs[-RUNS].level == self._runs[-1].level:
            newest, level = self._runs[-RUNS:], self._runs[-1].level + 1
            self._set_runs([*self._runs[:-RUNS], self._written([run.counts for run in newest], level)])

    def new_folder(self) -> str | None:
        """A folder for tables that are made of these counts, if these are on disk."""
        return self._folder.new() if self._folder is not None and self._runs else None

    def _written(self, pieces: Sequence[NgramCounts], level: int) -> _Run:
        if self._folder is None:
            self._folder = SpillFolder(self._parent)
        folder = self._folder.new()
        return _Run(merged(pieces, folder, int(SHARE_OF_MERGE * self._memory)), folder, level)

    def _set_runs(self, runs: list[_Run]) -> None:
        """These hold all counts now; the files of others are removed, though readers may still have them mapped."""
        kept = {run.folder for run in runs}
        for run in self._runs:
            if run.folder not in kept:
                shutil.rmtree(run.folder, ignore_errors=True)
        self._runs, self.pieces = runs, [run.counts for run in runs]

    def __getstate__(self) -> dict[str, Any]:
        # A copy has the arrays in memory, and a folder of its own when it needs one.
        return {**vars(self), "_folder": None, "_runs": []}


def n_bytes(counts: NgramCounts) -> int:
    """Bytes of all tables."""
    return sum(table.indptr.nbytes + table.indices.nbytes + table.data.nbytes for table in counts.tables)


def release_tables(counts: NgramCounts) -> None:
    """Give back the memory in which the system keeps tables that are mapped from files."""
    for table in counts.tables:
        release(table.indptr, table.indices, table.data)


def check_spill_folder(folder: str) -> None:
    """Raise OSError now if counts could not be written there later; remove what killed processes have left."""
    SpillFolder(folder).remove()
