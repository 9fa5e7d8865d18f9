"""Language models of more text than a machine can count, with Dask as the engine; needs the extra ``dask``.

Every part of the text, a number of whole documents, is counted by itself. Its tables are cut into ranges of n-grams at
the same places as those of all other parts, each range is summed over the parts in a tree of pairwise sums, and the
sums are put side by side where the model shall be. Sums are exact, so that neither the parts nor the order in which
they are done can be seen in the model: it equals, to the bit, the one that :class:`saffu.ExplicitLM` fits to all text
at once. A part whose worker is lost is counted again.

What memory holds: a worker, for each of its threads, the tokens and the counts of one part, or up to eight neighbouring
ranges and their sum; the workers together, the ranges that have not been added yet, in narrow integers; the process
that calls, all counts of the model and one range. No worker ever holds all counts.

Workers must have saffu installed and see the files; each task computes on one thread. Without a cluster the scheduler
that Dask is set to on this machine is used, threads by default.

Examples
--------
>>> import dask.bag
>>> texts = dask.bag.from_sequence(["the cat sat .", "the dog sat ."], npartitions=2)
>>> vocabulary = build_vocabulary(texts, min_count=1)
>>> vocabulary.types[2:]
['the', 'sat', '.', 'cat', 'dog']
>>> model = fit(texts, vocabulary=vocabulary, order=3, windows=(), induction=0)
>>> model.n_tokens
10
"""

from saffu.ngram_lm.dask_counting import count, fit
from saffu.text.dask_vocabulary import build_vocabulary

__all__ = ["build_vocabulary", "count", "fit"]
