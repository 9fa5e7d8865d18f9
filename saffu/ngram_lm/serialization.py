"""An ExplicitLM as arrays and metadata of a file, and back.

Counts and scalars are stored; weights are made of them again on loading, to the same bits. Everything is checked, so
that no kernel can be led out of bounds by a damaged file; but not arrays that are mapped from a file, which are only
looked at when they are needed.

Small tables are stored in few bytes, in numbers of 32 bits. Large ones, and those that were on disk, are stored as they
are used, with the statistics of all rows, so that they need not be read at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from saffu.explicit.cooccurrence import as_csr
from saffu.explicit.discounting import MOST_REPEATS
from saffu.ngram_lm import pruned_text_files, text_sample_files
from saffu.ngram_lm.contexts import Contexts
from saffu.ngram_lm.counted_text import CountedText
from saffu.ngram_lm.counts import NgramCounts
from saffu.ngram_lm.incremental_counts import IncrementalCounts
from saffu.ngram_lm.pruned_counts import PrunedCounts
from saffu.ngram_lm.pruned_text import PrunedText
from saffu.ngram_lm.solution import Solution
from saffu.ngram_lm.statistics import Statistics
from saffu.ngram_lm.text_sample import TokenSample
from saffu.utils import checkpoint, validate
from saffu.utils.arrays import Array
from saffu.utils.mapped_files import is_mapped

LARGE = 1 << 24  # entries from which on tables are stored as they are used
SETTINGS = ("radius", "order", "windows", "induction", "priming")
LATER_SETTINGS = ("floor", "skips", "words", "delimiters", "line_ends")  # in a file where they are not the default


def write(counted: CountedText, solution: Solution) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays and metadata of the counts, the sample of text, the scalars and the settings."""
    if isinstance(counted, PrunedText):
        return _with_scalars(solution, *pruned_text_files.write(counted, solution.bounds))
    scalars, counts = solution.primed_scalars(), counted.kept()
    sample, sample_metadata = text_sample_files.write(counted.sample)
    arrays: dict[str, Array] = {"scalars": scalars, "unigram": counts.unigram, "tail": counted.end, **sample}
    if solution.bounds is not None:
        arrays["bounds"] = solution.bounds
    if solution.contexts.floor:
        arrays["share"] = np.array([solution.share])
    as_used = counts.n_entries >= LARGE or any(is_mapped(table.data) for table in counts.tables)
    for j, table in enumerate(counts.tables):
        arrays |= _table_arrays(f"table{j}", table, as_used)
    if isinstance(counts, PrunedCounts):
        arrays |= {f"table{j}.dropped": dropped for j, dropped in enumerate(counts.dropped)}
    if as_used or isinstance(counts, PrunedCounts):
        statistics = counted.counts.statistics
        arrays |= {"statistics.followed": statistics.followed, "statistics.repeats": statistics.repeats}
    metadata = {
        **counted.contexts.settings(),
        "vocab_size": counts.vocab_size,
        "n_tokens": counts.n_tokens,
        "sample": sample_metadata,
        "stale": solution.outdated,
        "start_token": counted.start_length > 0,
    }
    return arrays, metadata


def _table_arrays(name: str, table: csr_array, as_used: bool) -> dict[str, Array]:
    if as_used:
        return {f"{name}.indptr": table.indptr, f"{name}.words": table.indices, f"{name}.counts": table.data}
    fits = table.nnz == 0 or table.data.max() < 2**31
    return {
        f"{name}.lengths": np.diff(table.indptr).astype(np.int32),
        f"{name}.words": table.indices,
        f"{name}.counts": table.data.astype(np.int32 if fits else np.int64),
    }


def read_counted_text(arrays: Mapping[str, Array], metadata: Mapping[str, Any], contexts: Contexts) -> CountedText:
    """What :func:`write` wrote of the counts and the sample; also of files of earlier versions."""
    if "pruning" in metadata:
        return pruned_text_files.read(arrays, metadata, contexts)
    counted = CountedText(contexts)
    if not metadata.get("start_token", False):
        counted.start_length = 0
    counted.vocab_size = checkpoint.parse(validate.size, metadata["vocab_size"], "vocab_size")
    # Checked before anything of that size is made.
    unigram = checkpoint.checked(arrays, "unigram", np.int64, (counted.vocab_size,))
    counts = counted.empty_counts()
    counts.unigram = unigram
    counts.n_tokens = checkpoint.parse(validate.integer, metadata["n_tokens"], "n_tokens", 0)
    if counts.unigram.min() < 0 or counts.unigram.sum() != counts.n_tokens:
        raise checkpoint.Damaged("array 'unigram' is damaged")
    tables, parents = list[csr_array](), counts.parents
    for j in range(contexts.n_tables):
        n_rows = counts.tables[j].shape[0] if parents[j] < 0 else tables[parents[j]].nnz
        tables.append(_read_table(arrays, f"table{j}", n_rows, counts.vocab_size))
    counts = counts.with_tables(tables)
    statistics = _read_statistics(arrays, counts)
    if "table0.dropped" in arrays:
        if statistics is None:
            raise checkpoint.Damaged("'statistics.repeats' is missing")
        counts = _read_pruned(arrays, counts, statistics)
    counted.counts = IncrementalCounts([counts], statistics)
    counted.end = checkpoint.parse(validate.token_ids, arrays["tail"], "tail", counts.vocab_size)
    counted.sample = checkpoint.parse(_read_sample, arrays, metadata, counts, counted.end.size > 0)
    if (counted.sample.open is None) != (counted.end.size == 0):
        raise checkpoint.Damaged("the end of the last document is damaged")
    return counted


def read_scalars(arrays: Mapping[str, Array], metadata: Mapping[str, Any], solution: Solution) -> None:
    """Put into a solution what :func:`write` wrote of it."""
    contexts = solution.contexts
    n_levels = min(contexts.order - 1, arrays["bounds"].size) if "bounds" in arrays else 0
    solution.bounds = checkpoint.checked(arrays, "bounds", np.float64, (n_levels,)) if n_levels else None
    n_states = 1 if solution.bounds is None else 2 * n_levels
    solution.scalars = checkpoint.checked(arrays, "scalars", np.float64, (n_states, len(contexts.columns)))
    if contexts.floor:
        solution.share = float(checkpoint.checked(arrays, "share", np.float64, (1,))[0])
        if not 0.0 <= solution.share < 1.0:
            raise checkpoint.Damaged("array 'share' is damaged")
    solution.outdated = bool(metadata.get("stale", False))
    if isinstance(solution.counted, PrunedText):
        solution.take(solution.counted.weights, solution.bounds, solution.scalars)


def _with_scalars(
    solution: Solution, arrays: dict[str, Array], metadata: dict[str, Any]
) -> tuple[dict[str, Array], dict[str, Any]]:
    arrays["scalars"] = solution.primed_scalars()
    if solution.bounds is not None:
        arrays["bounds"] = solution.bounds
    return arrays, metadata


def _read_statistics(arrays: Mapping[str, Array], counts: NgramCounts) -> Statistics | None:
    """What all rows share, if the file has it."""
    if "statistics.repeats" not in arrays:
        return None
    followed = checkpoint.checked(arrays, "statistics.followed", np.int64, (counts.vocab_size,))
    repeats = checkpoint.checked(arrays, "statistics.repeats", np.int64, (counts.n_weighed, MOST_REPEATS + 1))
    if followed.min(initial=0) < 0 or repeats.min(initial=0) < 0:
        raise checkpoint.Damaged("the statistics are damaged")
    return Statistics(counts.n_tokens, counts.unigram, followed, repeats)


def _read_pruned(arrays: Mapping[str, Array], counts: NgramCounts, statistics: Statistics) -> PrunedCounts:
    """Counts that lack rare entries."""
    dropped = [arrays[f"table{j}.dropped"] for j in range(len(counts.tables))]
    for j, (table, own) in enumerate(zip(counts.tables, dropped, strict=True)):
        if own.dtype != np.int64 or own.shape != (table.shape[0],) or (not is_mapped(own) and own.min(initial=0) < 0):
            raise checkpoint.Damaged(f"array 'table{j}.dropped' is damaged")
    pruned = PrunedCounts(counts, dropped, statistics)
    pruned.distance, pruned.suffix = counts.distance, counts.suffix
    return pruned


def _read_table(arrays: Mapping[str, Array], name: str, n_rows: int, n_cols: int) -> csr_array:
    words, counts = arrays[f"{name}.words"], arrays[f"{name}.counts"]
    if f"{name}.indptr" in arrays:
        indptr = arrays[f"{name}.indptr"]
        lengths = np.zeros(1) if is_mapped(indptr) else np.diff(indptr)
        if indptr.dtype != np.int64 or indptr.shape != (n_rows + 1,) or indptr[0] or counts.dtype != np.int64:
            raise checkpoint.Damaged(f"table {name!r} is damaged")
        if is_mapped(words) and words.dtype == np.int32 and counts.shape == words.shape == (indptr[-1],):
            return as_csr(indptr, words, counts, (n_rows, n_cols))
    else:
        lengths = checkpoint.checked(arrays, f"{name}.lengths", np.int32, (n_rows,))
        indptr = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    if (lengths < 0).any() or indptr[-1] != words.size:
        raise checkpoint.Damaged(f"table {name!r} is damaged")
    inner = np.ones(max(words.size - 1, 0), bool)
    inner[indptr[(indptr > 0) & (indptr < words.size)] - 1] = False  # last entry of a row, followed by another row
    sound = (
        words.dtype == np.int32
        and counts.shape == words.shape == (indptr[-1],)
        and (words.size == 0 or (words.min() >= 0 and words.max() < n_cols and counts.min() >= 0))
        and (np.diff(words)[inner] > 0).all()
    )
    if not sound:
        raise checkpoint.Damaged(f"table {name!r} is damaged")
    return as_csr(indptr, words, counts.astype(np.int64, copy=False), (n_rows, n_cols))


def _read_sample(
    arrays: Mapping[str, Array], metadata: Mapping[str, Any], counts: NgramCounts, is_open: bool
) -> TokenSample:
    if "sample_stride" in metadata:
        stride = validate.integer(metadata["sample_stride"], "sample_stride", 1)
        return text_sample_files.read_older(arrays, stride, counts.vocab_size, counts.n_tokens, is_open)
    return text_sample_files.read(arrays, metadata["sample"], counts.vocab_size)
