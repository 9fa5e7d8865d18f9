"""Text for the tests of language models."""

import numpy as np

N_TYPES, DOCUMENT = 12, 150


def documents_with_habits(n_tokens, seed, back, up_to):
    """Ids and document starts.

    A token is told by the one before it (below the first share), by the one ``back`` tokens before it (below the
    second), or is a word that its document prefers.
    """
    rng = np.random.default_rng(seed)
    ids = np.zeros(n_tokens, np.int32)
    for t in range(n_tokens):
        kind = rng.random()
        if kind < up_to[0]:
            ids[t] = (5 * ids[t - 1] + 3) % N_TYPES
        elif kind < up_to[1]:
            ids[t] = ids[t - back]
        else:
            ids[t] = (t // DOCUMENT + min(rng.zipf(1.7), N_TYPES)) % N_TYPES
    return ids, np.arange(0, n_tokens, DOCUMENT)


def told_by_two(n_tokens, seed, n_types, share, drift=0):
    """Ids of one stream: this share of tokens is told by the two before it, the others are frequent ones.

    Which are frequent moves on by one every ``drift`` tokens.
    """
    rng = np.random.default_rng(seed)
    ids = np.zeros(n_tokens, np.int32)
    for t in range(2, n_tokens):
        follow = (3 * ids[t - 1] + 5 * ids[t - 2] + 1) % n_types
        topic = t // drift if drift else 0
        ids[t] = follow if rng.random() < share else min(rng.zipf(1.5) - 1 + topic, n_types - 1)
    return ids


def as_text(ids_and_documents):
    """Ids and document starts as the keywords of a verb."""
    ids, documents = ids_and_documents
    return {"ids": ids, "documents": documents}
