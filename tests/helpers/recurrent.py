"""The recurrent language model written as its equations, one stream and one step at a time."""

import numpy as np


def logistic(x):
    return 1 / (1 + np.exp(-x))


def lstm_step(R, C_before, G):
    """Gates [in, forget, candidate, out], cells, their tangents and what is read of them."""
    i, f, a, o = np.split(G + R, 4, axis=1)
    gates = [logistic(i), logistic(f), np.tanh(a), logistic(o)]
    C = gates[1] * C_before + gates[0] * gates[2]
    return np.hstack(gates), C, np.tanh(C), gates[3] * np.tanh(C)


def n_layers(arrays):
    return sum(name.endswith(".recurrent") for name in arrays)


def document_log_probs(arrays, document):
    """Log-probabilities of all tokens at every position of a document, and behind it: (M + 1, V)."""
    tokens = np.asarray(arrays["tokens"], np.float64)
    E, bias, n_words = tokens[:, :-1], tokens[:-1, -1], len(tokens) - 1
    dim, cells = E.shape[1], arrays["layer0.recurrent"].shape[1] // 4
    states = [(np.zeros((1, dim)), np.zeros((1, cells))) for _ in range(n_layers(arrays))]
    found = []
    for before in (n_words, *document):
        x = E[[before]]
        for layer, (h, c) in enumerate(states):
            W, R, b = (np.float64(arrays[f"layer{layer}.{name}"]) for name in ("input", "recurrent", "bias"))
            _, c, _, read = lstm_step(h @ R, c, x @ W + b)
            h = read @ arrays[f"layer{layer}.projection"] if f"layer{layer}.projection" in arrays else read
            states[layer] = h, c
            x = h
        logits = (x @ E[:-1].T + bias)[0]
        found.append(logits - np.logaddexp.reduce(logits))
    return np.array(found)


def log_prob(arrays, ids, starts):
    """Log-probability of every token of a text."""
    found = []
    for first, last in zip(starts, [*starts[1:], len(ids)], strict=True):
        rows = document_log_probs(arrays, ids[first:last])
        found += [rows[t, w] for t, w in enumerate(ids[first:last])]
    return np.array(found)
