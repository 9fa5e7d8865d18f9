"""A sample of text as arrays of a file, and back; also from files that older versions wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from saffu.ngram_lm.text_blocks import BLOCK, INSIDE_UNKNOWN, OPENS_UNKNOWN, Blocks, Cut, OpenBlock, threshold
from saffu.ngram_lm.text_sample import TokenSample
from saffu.utils import fingerprints, validate
from saffu.utils.arrays import Array
from saffu.utils.fingerprints import Multiset
from saffu.utils.streams import TokenStream

Arrays = Mapping[str, Array]
DAMAGED = "the sample of text is damaged"


def write(sample: TokenSample) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays by their names, and what goes into the metadata. Equal text gives equal arrays."""
    blocks, halvings = TokenSample(sample.parts, sample.halvings).blocks()
    arrays: dict[str, Array] = {f"sample.{name}": array for name, array in blocks._asdict().items()}
    metadata: dict[str, Any] = {"halvings": halvings, "open": None}
    if sample.open is not None:
        arrays["sample.open"] = sample.open.ids
        metadata["open"] = {"before": sample.open.before, "offset": sample.open.offset}
    if sample.documents is not None:
        arrays |= {f"documents.{name}": array for name, array in sample.documents.arrays().items()}
    return arrays, metadata


def read(arrays: Arrays, metadata: Mapping[str, Any], vocab_size: int) -> TokenSample:
    """The sample that :func:`write` wrote, checked."""
    halvings = validate.integer(metadata["halvings"], "halvings", 0)
    ids = validate.token_ids(arrays["sample.ids"], "sample.ids", vocab_size)
    keys, counts, before, lengths = (arrays[f"sample.{name}"] for name in ("keys", "counts", "before", "lengths"))
    Multiset.from_arrays(keys, counts)
    sound = (
        before.dtype == np.uint64
        and lengths.dtype == np.int64
        and before.shape == lengths.shape == keys.shape
        and (lengths >= 1).all()
        and lengths.sum() == ids.size
        and (keys <= threshold(halvings)).all()
    )
    if not sound:
        raise ValueError(DAMAGED)
    still_open = None
    if metadata["open"] is not None:
        end = validate.token_ids(arrays["sample.open"], "sample.open", vocab_size)
        before_open, offset = (validate.integer(metadata["open"][name], name, 0) for name in ("before", "offset"))
        if before_open >= 2**64 or offset >= 2**62:
            raise ValueError(DAMAGED)
        still_open = OpenBlock.of(end, before_open, offset)
    documents = None
    if "documents.keys" in arrays:
        documents = Multiset.from_arrays(arrays["documents.keys"], arrays["documents.counts"])
    return TokenSample([Blocks(keys, counts, before, lengths, ids)], halvings, still_open, documents)


def read_older(arrays: Arrays, stride: int, vocab_size: int, n_tokens: int, is_open: bool) -> TokenSample:
    """The sample of a file that keeps every ``stride``-th of the blocks of 8,192 tokens that a stream was cut into.

    Where that is all text, it is read again. Where it is a part, the documents are not known: what there is of them
    stays as it is, one of ``stride`` blocks, and which of it can be forgotten only the counts decide.
    """
    ids = validate.token_ids(arrays["sample.ids"], "sample.ids", vocab_size)
    starts, lengths = arrays["sample.starts"], arrays["sample.lengths"]
    if lengths.ndim != 2 or (lengths < 0).any() or tuple(lengths.sum(axis=0)) != (ids.size, starts.size):
        raise ValueError(DAMAGED)
    begins = (np.cumsum(lengths, axis=0) - lengths)[:, 0]
    true = np.repeat(begins, lengths[:, 1]) + starts
    if (np.diff(true) <= 0).any() or (true.size and (true[0] < 0 or true[-1] >= ids.size)):
        raise ValueError(DAMAGED)
    if stride == 1 and ids.size == n_tokens and (ids.size == 0 or (true.size and true[0] == 0)):
        sample = TokenSample().plus(TokenStream(ids, true.astype(np.int64)))
        return sample if is_open else sample.closed()
    halvings = stride.bit_length() - 1
    segments = np.union1d(true, begins[lengths[:, 0] > 0]).astype(np.int64)
    before = np.where(np.isin(segments, true), OPENS_UNKNOWN, INSIDE_UNKNOWN).astype(np.uint64)
    ends = np.append(segments[1:], ids.size)
    keys = (fingerprints.of_prefixes(TokenStream(ids, segments), ends) + before) >> np.uint64(halvings)
    blocks, halvings = Blocks.of(Cut(keys, before, segments, ends - segments), ids, halvings)
    still_open = OpenBlock.of(ids[:0], INSIDE_UNKNOWN, BLOCK) if is_open else None
    return TokenSample([blocks], halvings, still_open, None)
