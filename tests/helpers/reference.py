"""Naive numpy twins of the kernels, each written as its equation."""

import itertools
from collections import Counter, defaultdict

import numpy as np

FLOAT_ROWS = 3e-6  # nats by which log-probabilities with rows of float32 may differ from those of float64


def count(contexts, targets, distances, documents, n_rows, n_cols):
    """count[c, w] = #{(t, k) : contexts[t] = c, targets[t + k] = w, both in one document}."""
    table = np.zeros((n_rows, n_cols), np.int64)
    ends = [*documents[1:], len(contexts)]
    for start, end in zip(documents, ends, strict=True):
        for k in distances:
            for t in range(start, end - k):
                if contexts[t] >= 0:
                    table[contexts[t], targets[t + k]] += 1
    return table


def weigh(indptr, counts, lower, discount):
    """Total, freed mass, u and p of every entry of a table, one at a time."""
    d = [0.0, *discount]
    total, mass, u, p = [], [], [], []
    for start, end in itertools.pairwise(indptr):
        row = [int(n) for n in counts[start:end]]
        total.append(sum(row))
        mass.append(sum(d[min(n, 3)] for n in row))
        for n, q in zip(row, lower[start:end], strict=True):
            kept = n - d[min(n, 3)]
            u.append(np.log(1 + kept / (mass[-1] * q)) if n else 0.0)
            p.append((kept + mass[-1] * q) / total[-1] if total[-1] else q)
    return total, mass, u, p


# ---- language models -------------------------------------------------------------------------------------------------


def discounts(counts):
    """D(1), D(2), D(3+) of modified Kneser-Ney from counts of counts.

    Where one of these is zero, the discount of k is that of k - 1, that of nothing 1/2; each is within [0.001, k].
    """
    n = [None, *(sum(1 for c in counts if c == k) for k in (1, 2, 3, 4))]
    found = [0.5]
    for k in (1, 2, 3):
        d = found[-1]
        if n[1] and n[k] and n[k + 1]:
            d = k - (k + 1) * n[1] / (n[1] + 2 * n[2]) * n[k + 1] / n[k]
        found.append(min(max(d, 0.001), k))
    return [None, *found[1:]]


class KneserNey:
    """Textbook modified interpolated Kneser-Ney of documents, by dictionaries and recursion.

    As SRILM and KenLM have it: one start token before each document, a context that is never predicted. Below the top
    order an n-gram counts as often as it has different tokens before it, the start token being one of them; what begins
    with the start token keeps its occurrences.
    """

    START = "<s>"

    def __init__(self, ids, order, documents=(0,)):
        self.order = order
        spans = zip(documents, [*documents[1:], len(ids)], strict=True)
        padded = [(self.START, *(int(w) for w in ids[a:b])) for a, b in spans]
        raw = [Counter(text[t : t + n] for text in padded for t in range(len(text) - n + 1)) for n in range(order + 1)]
        self.counts = [Counter(gram[1:] for gram in raw[n + 1]) for n in range(order)] + [raw[order]]
        for n in range(2, order):
            self.counts[n] |= {gram: count for gram, count in raw[n].items() if gram[0] == self.START}
        self.discounts = [None, None, *(discounts(self.counts[n].values()) for n in range(2, order + 1))]
        self.after = [None] * (order + 1)
        for n in range(2, order + 1):
            self.after[n] = defaultdict(dict)
            for gram, count in self.counts[n].items():
                self.after[n][gram[:-1]][gram[-1]] = count

    def log_prob(self, ids, documents=(0,)):
        """Log-probability of every token given what precedes it in its document."""
        found = []
        for a, b in zip(documents, [*documents[1:], len(ids)], strict=True):
            text = (self.START, *(int(w) for w in ids[a:b]))
            found += [np.log(self.probability(text[t], text[:t])) for t in range(1, len(text))]
        return found

    def probability(self, word, context):
        context = tuple(context)[max(0, len(context) - self.order + 1) :]
        n = len(context) + 1
        if n == 1:
            return self.counts[1][(word,)] / sum(self.counts[1].values())
        lower = self.probability(word, context[1:])
        row = self.after[n].get(context)
        if not row:
            return lower
        d = self.discounts[n]
        total = sum(row.values())
        freed = sum(d[min(count, 3)] for count in row.values())
        count = row.get(word, 0)
        kept = count - d[min(count, 3)] if count else 0.0
        return (kept + freed * lower) / total


class DenseExplicitLM:
    """The pooled explicit model by its equations: every row dense, every softmax over the whole vocabulary."""

    def __init__(self, ids, documents, vocab_size, radius, order, windows, induction, table_discounts, counted=None):
        """``counted`` (M) says which tokens of the text count; the others are context only."""
        counted = np.ones(len(ids), bool) if counted is None else counted
        self.vocab_size, self.radius, self.order = vocab_size, radius, order
        self.windows, self.induction, self.discounts = windows, induction, table_discounts
        self.count = defaultdict(lambda: np.zeros(vocab_size))
        for start, end in zip(documents, [*documents[1:], len(ids)], strict=True):
            for t in np.flatnonzero(counted[start:end]) + start:
                for feature, context in self.contexts(ids, t, start):
                    self.count[feature, context][ids[t]] += 1
        self.unigram = self._smoothed(np.bincount(ids[counted], minlength=vocab_size), counted.sum())
        followed = sum((row > 0).astype(float) for (f, _), row in self.count.items() if f == ("distance", 1))
        self.continuation = self._smoothed(followed, counted.sum())

    @staticmethod
    def _smoothed(counts, n_tokens):
        unseen = counts == 0
        if not unseen.any():
            return counts / counts.sum()
        share = 1 / (n_tokens + 1)
        return np.where(unseen, share / unseen.sum(), counts / counts.sum() * (1 - share))

    def contexts(self, ids, t, start):
        text = ["<s>", *(int(w) for w in ids[start:t])]  # the start token is the nearest to the first token only
        for k in range(1, self.radius + 1):
            if len(text) > k or k == 1:
                yield ("distance", k), (text[-k],)
        for n in range(2, self.order):
            if len(text) > n:
                yield ("suffix", n), tuple(text[-n:])

    def _row(self, feature, context):
        """Counts less discounts, freed mass and lower order of one row."""
        n = self.count.get((feature, context), np.zeros(self.vocab_size))
        d = np.array([0.0, *self.discounts[feature]])[np.minimum(n, 3).astype(int)]
        if feature == ("distance", 1):
            lower = self.continuation
        elif feature[0] == "distance":
            lower = self.unigram
        else:
            shorter = ("distance", 1) if feature[1] == 2 else ("suffix", feature[1] - 1)
            lower = self.probability(shorter, context[1:])
        return n, n - d, d.sum(), lower

    def probability(self, feature, context):
        n, kept, freed, lower = self._row(feature, context)
        return (kept + freed * lower) / n.sum() if n.sum() else lower

    def u(self, feature, context):
        n, kept, freed, lower = self._row(feature, context)
        return np.log(1 + kept / (freed * lower)) if n.sum() else np.zeros(self.vocab_size)

    def features(self, ids, t, start):
        """x (2 + n_features, V): log p, log p_cont, contexts, windows, induction."""
        found = dict(self.contexts(ids, t, start))
        names = [("distance", k) for k in range(1, self.radius + 1)] + [("suffix", n) for n in range(2, self.order)]
        x = [np.log(self.unigram), np.log(self.continuation)]
        x += [self.u(f, found[f]) if f in found else np.zeros(self.vocab_size) for f in names]
        for length in self.windows:
            n = np.bincount(ids[max(start, t - length) : t], minlength=self.vocab_size)
            x.append(np.log(1 + n / (length * self.unigram)))
        n = np.zeros(self.vocab_size)
        for s in range(max(start, t - self.induction), t - 1):
            n[ids[s + 1]] += ids[s] == ids[t - 1]
        x.append(np.log(1 + n / (2 * self.unigram)))
        return np.array(x)

    def state(self, ids, t, start, bounds):
        """2 j + (n > bounds[j]) for the longest known suffix, of j + 1 tokens, seen n times."""
        known = [
            self.count[f, c].sum()
            for f, c in self.contexts(ids, t, start)
            if (f == ("distance", 1) or f[0] == "suffix") and (f, c) in self.count
        ]
        level = max(len(known) - 1, 0)
        return 2 * level + ((known[-1] if known else 0) > bounds[level])


# ---- moments, dense log weights, softmax -------------------------------------------------------------------------


def moments(H, Y, weights=None):
    """F = H^T Y (N, D) and the mass of each class; Y one-hot or soft."""
    H, Y = np.asarray(H, np.float64), np.asarray(Y, np.float64)
    Y = Y if weights is None else Y * weights[:, None]
    return Y.T @ H, Y.sum(0)


def one_hot(labels, n_classes):
    return np.eye(n_classes)[np.asarray(labels, int)]


def log_weights(F, K, smoothing=0.0):
    """U_ji = log F_ji - ((K - 1) / K) log S_i (D, N), nothing subtracted where S_i = 0."""
    F = np.asarray(F, np.float64) + smoothing
    S = F.sum(0)
    with np.errstate(divide="ignore"):
        return np.log(F) - (1 - 1 / K) * np.where(S > 0, np.log(S), 0.0)


def leave_one_out(H, F, mass, smoothing, y, weights):
    """Log prior and likelihood (M, N) of each row, its own share taken out of its target's counts. F is (N, D)."""
    likelihood = np.empty((len(y), len(F)))
    log_prior = np.log((mass + smoothing) / (mass + smoothing).sum())
    for m, h in enumerate(H):
        left = F.copy()
        left[y[m]] = np.maximum(left[y[m]] - weights[m] * h, 0)
        likelihood[m] = log_weights(left.T, np.inf, smoothing).T @ h
    return np.tile(log_prior, (len(y), 1)), likelihood


def discriminant_slope(likelihood, y, weights, clip=2.0, shrinks=0.9487, rounds=8, floor=2.5, largest_floor=0.3):
    """The geometric mean over ordered pairs of classes of 2 mean / variance of their log-ratio, in loops."""
    logs, importances = [], []
    for i in range(likelihood.shape[1]):
        for j in range(likelihood.shape[1]):
            own = [(likelihood[m, i] - likelihood[m, j], weights[m]) for m in range(len(y)) if y[m] == i]
            if i == j or not own:
                continue
            mass = sum(w for _, w in own)
            values = [(x, w * max(1.0, 1.0 / mass)) for x, w in own] + [(0.0, 1.0)]
            low, high = -np.inf, np.inf
            for _ in range(rounds + 1):
                clipped = [(min(max(x, low), high), w) for x, w in values[:-1]] + values[-1:]
                total = sum(w for _, w in clipped)
                mean = sum(w * x for x, w in clipped) / total
                deviation = np.sqrt(sum(w * (x - mean) ** 2 for x, w in clipped) / total)
                low, high = mean - clip * deviation, mean + clip * deviation
            deviation /= shrinks
            if deviation == 0:
                continue
            least = min(floor / np.sqrt(max(mass, 1.0)), largest_floor)
            distance = (mean / deviation + np.sqrt((mean / deviation) ** 2 + 4 * least**2)) / 2
            logs.append(np.log(2 * distance / deviation))
            importances.append(mass / np.sqrt(1 + distance**2))
    return float(np.exp(np.average(logs, weights=importances)))


def logsumexp(X):
    """log sum exp of each row, -inf for a row of -inf."""
    out = np.full(len(X), -np.inf)
    for m, x in enumerate(np.asarray(X, np.float64)):
        if x.size and x.max() > -np.inf:
            out[m] = x.max() + np.log(np.exp(x - x.max()).sum())
    return out


def log_softmax(X):
    """Uniform for a row of -inf."""
    X, total = np.asarray(X, np.float64), logsumexp(X)
    nothing = total == -np.inf
    out = X - np.where(nothing, 0.0, total)[:, None]
    out[nothing] = -np.log(max(X.shape[1], 1))
    return out


def cross_entropy_backward(X, labels, scale):
    """Loss of each row, and scale (softmax(X) - one_hot(labels))."""
    log_p = log_softmax(X)
    return -log_p[np.arange(len(X)), labels], scale[:, None] * (np.exp(log_p) - one_hot(labels, X.shape[1]))


# ---- sparse products -------------------------------------------------------------------------------------------------


def product(H, B, bias=None):
    """Z = H B + bias."""
    Z = np.asarray(H, np.float64) @ np.asarray(B, np.float64)
    return Z if bias is None else Z + np.asarray(bias, np.float64)


def compress(X):
    """indptr, indices and data of the entries that are not zero, row by row."""
    entries = [[(j, x) for j, x in enumerate(row) if x != 0] for row in X]
    indptr = [0, *itertools.accumulate(len(row) for row in entries)]
    return indptr, [j for row in entries for j, _ in row], [x for row in entries for _, x in row]


def take_rows(indptr, indices, data, rows):
    """indptr, indices and data of some rows, in that order."""
    spans = [slice(indptr[m], indptr[m + 1]) for m in rows]
    new = [0, *itertools.accumulate(s.stop - s.start for s in spans)]
    return new, [j for s in spans for j in indices[s]], [x for s in spans for x in data[s]]


# ---- sub-classes -----------------------------------------------------------------------------------------------------


def unit_means(F, mass, blocks, ceiling, shrinkage, smoothing):
    """Mean row of each unit (D, H), shrunk towards its class, which is shrunk towards all; and log shares (H,)."""
    G = F if ceiling is None else F / ceiling[:, None]
    overall = (G.sum(1) + smoothing) / (mass.sum() + 2 * smoothing)
    if ceiling is None:  # the mean row has the mean norm
        overall = overall / overall.sum() * G.sum() / mass.sum()
    means, share = np.empty(G.shape), np.empty(len(mass))
    for first, last in itertools.pairwise(blocks):
        of_class = (G[:, first:last].sum(1) + shrinkage * overall) / (mass[first:last].sum() + shrinkage)
        for k in range(first, last):
            means[:, k] = (G[:, k] + shrinkage * of_class) / (mass[k] + shrinkage)
            share[k] = mass[k] + shrinkage / (last - first)
    return means, np.log(share / share.sum())


def unit_likelihood(X, means, ceiling):
    """Log-likelihood (M, H): sum_j x_j log mu_j + (1 - x_j) log(1 - mu_j), or sum_j x_j log(mu_j / sum mu)."""
    if ceiling is None:
        return np.array([[x @ np.log(mu / mu.sum()) for mu in means.T] for x in X])
    return np.array([[x @ np.log(mu) + (1 - x) @ np.log(1 - mu) for mu in means.T] for x in X / ceiling])


def em_round(X, y, blocks, F, mass, ceiling, shrinkage, smoothing, scale):
    """F (D, H) and mass (H,) after an E-step within the classes: responsibilities times rows."""
    means, log_share = unit_means(F, mass, blocks, ceiling, shrinkage, smoothing)
    R = np.zeros((len(X), len(mass)))
    logits = scale * unit_likelihood(X, means, ceiling) + log_share
    for m, c in enumerate(y):
        own = slice(blocks[c], blocks[c + 1])
        R[m, own] = np.exp(log_softmax(logits[m : m + 1, own]))[0]
    return X.T @ R, R.sum(0)


def correction(X, y, blocks, means, log_share, ceiling, scale, pace, least, settled):
    """Means after one correction: the counts of each unit plus observed minus expected ones."""
    H = np.exp(log_softmax(scale * unit_likelihood(X, means, ceiling) + log_share))
    difference, taken = np.zeros(H.shape), np.zeros(H.shape[1])
    for m, c in enumerate(y):
        own = np.zeros(H.shape[1], bool)
        own[blocks[c] : blocks[c + 1]] = True
        p = H[m, own].sum()
        if 1 - p > settled:
            difference[m] = np.where(own, H[m] / p, 0) - H[m]
            taken += np.where(own, 0, H[m])
    D = X.T @ difference if ceiling is None else (X / ceiling).T @ difference
    kept = pace * (taken + 1)
    present = np.maximum(kept * means + D, least * kept * means)
    if ceiling is None:
        return present / present.sum(0) * means.sum(0)
    absent = np.maximum(kept * (1 - means) + difference.sum(0) - D, least * kept * (1 - means))
    return present / (present + absent)


# ---- attention -------------------------------------------------------------------------------------------------------


def attend(ids, first, length, head, step, X, W, bias):
    """(Z, A, S) of each window, one after the other, from a copy of its embeddings."""
    X, W = np.asarray(X, np.float64), np.asarray(W, np.float64)
    Z, A, S = np.zeros((len(first), X.shape[1])), np.zeros((len(first), len(W))), np.zeros((len(first), len(W)))
    for m, n in enumerate(length):
        if n == 0:
            continue
        x = X[[ids[first[m] + step * k] for k in range(n)]]
        S[m, :n] = x @ X[ids[head[m]]]
        A[m, :n] = np.exp(log_softmax((S[m, :n] @ W[:n, :n] + (0 if bias is None else bias[:n]))[None])[0])
        Z[m] = A[m, :n] @ x
    return Z, A, S


def attend_backward(ids, first, length, head, step, X, W, dZ, A, S):
    """(dW, dbias, dS, dX) by the chain rule, window by window."""
    X, W, dZ, A, S = (np.asarray(array, np.float64) for array in (X, W, dZ, A, S))
    dW, dbias, dS, dX = np.zeros(W.shape), np.zeros(len(W)), np.zeros(S.shape), np.zeros(X.shape)
    for m, n in enumerate(length):
        if n == 0:
            continue
        c, h = [ids[first[m] + step * k] for k in range(n)], ids[head[m]]
        dl = softmax_backward(A[m : m + 1, :n], (X[c] @ dZ[m])[None])[0]
        dW[:n, :n] += np.outer(S[m, :n], dl)
        dbias[:n] += dl
        dS[m, :n] = W[:n, :n] @ dl
        np.add.at(dX, c, np.outer(A[m, :n], dZ[m]) + np.outer(dS[m, :n], X[h]))
        dX[h] += dS[m, :n] @ X[c]
    return dW, dbias, dS, dX


# ---- self-attentive feed-forward units -------------------------------------------------------------------------------


def unit_logits(ids, documents, parameters, units, span):
    """Logits of every token of a text by the equations of the units, one position after the other, (T, V)."""
    p = {name: np.asarray(value, np.float64) for name, value in parameters.items()}
    X = np.exp(log_softmax(p["embeddings.logits"]))
    H = [{} for _ in range(1 + max(u.layer for u in units))]  # states of each layer, by unit and position
    for layer, states in enumerate(H):
        own = [u for u in units if u.layer == layer]
        for t in range(len(ids)):
            begin = max(d for d in documents if d <= t)
            for u in own:
                if layer == 0:
                    rows = [X[ids[k]] for k in _tokens_seen(u, begin, t, span)]
                else:
                    below = [v for v in units if v.layer == layer - 1]
                    seen = [[H[layer - 1][v.name, k] for v in below] for k in _states_seen(u, begin, t)]
                    rows = [np.concatenate(h) / len(below) for h in seen]
                z = np.zeros(p[f"{u.name}.weights"].shape[0]) if not rows else _aggregate(u, np.stack(rows), p)
                states[u.name, t] = np.exp(log_softmax((z @ p[f"{u.name}.weights"] + p[f"{u.name}.bias"])[None])[0])
    joined = [np.concatenate([H[u.layer][u.name, t] for u in units]) for t in range(len(ids))]
    return np.stack(joined) @ p["output.weights"].T + p["output.bias"]


def _tokens_seen(unit, begin, t, span):
    """Places of tokens, the newest first; in a block the oldest."""
    if unit.context == "radial":
        return range(t - 1, max(begin, t - unit.size) - 1, -1)
    if unit.context == "block":
        return range(begin + max(t - 1 - begin, 0) // unit.size * unit.size, t)
    return range(t - 1, max(begin, t - (t - begin) % 32 - span) - 1, -1)


def _states_seen(unit, begin, t):
    if unit.context == "radial":
        return range(t, max(begin, t - unit.size + 1) - 1, -1)
    return range(begin + (t - begin) // unit.size * unit.size, t + 1)


def _aggregate(unit, x, p):
    """z = a X of one window; the head, with which all are compared, is the newest."""
    if unit.context == "document":
        return x.mean(axis=0)
    n = len(x)
    s = x @ x[0 if unit.context == "radial" else -1]
    W, w = p[f"{unit.name}.attention"][:n, :n], p[f"{unit.name}.attention_bias"][:n]
    return np.exp(log_softmax((s @ W + w)[None])[0]) @ x


def attention_round(ids, documents, positions, units, span, state, prior, unigram, embedding_mass, word_mass):
    """One round of EM of ``saffu.attention_lm.em_attention``: new (X, B, shares, attention), and the loss before it.

    Every share of every class of every token of every unit in every word is written out.
    """
    X, B, shares, attention = state
    X, B = X.astype(np.float64), [b.astype(np.float64) for b in B]
    attention = {name: value.astype(np.float64) for name, value in attention.items()}
    embeddings, words, mass, loss = np.zeros(X.shape), [np.zeros(X.shape) for _ in B], np.zeros(len(units)), 0.0
    observed = {name: np.zeros(value.shape) for name, value in attention.items()}
    expected = {name: np.zeros(value.shape) for name, value in attention.items()}
    reach = 1.0
    for t in positions:
        begin, y, terms = max(d for d in documents if d <= t), ids[t], []
        for i, u in enumerate(units):
            tokens = [ids[k] for k in _tokens_seen(u, begin, t, span)]
            n = len(tokens)
            s, a = None, np.full(n, 1 / n)
            if u.context != "document":
                s = X[tokens] @ X[tokens[0 if u.context == "radial" else -1]]
                W, w = attention[f"{u.name}.attention"][:n, :n], attention[f"{u.name}.attention_bias"][:n]
                a = np.exp(log_softmax((s @ W + w)[None])[0])
                reach = max(reach, 1 + s.sum())
            terms.append((u, tokens, s, a, shares[i] * a[:, None] * X[tokens] * B[i][y]))
        p = sum(term[-1].sum() for term in terms)
        loss -= np.log(p)
        for i, (u, tokens, s, a, joint) in enumerate(terms):
            tau = joint / p
            mass[i] += tau.sum()
            words[i][y] += tau.sum(axis=0)
            for k, c in enumerate(tokens):
                embeddings[c] += tau[k]
            if s is not None:
                n = len(tokens)
                for counts, each in ((observed, tau.sum(axis=1)), (expected, a * tau.sum())):
                    counts[f"{u.name}.attention"][:n, :n] += np.outer(s, each)
                    counts[f"{u.name}.attention_bias"][:n] += each
    loss -= embedding_mass * (np.log(X) @ prior).sum() + word_mass * sum((unigram @ np.log(b)).sum() for b in B)
    for name, value in attention.items():
        seen = expected[name] > 0
        value[seen] += np.log(observed[name][seen] / expected[name][seen]) / reach
    X = embeddings + embedding_mass * prior
    B = [w + word_mass * unigram[:, None] for w in words]
    state = X / X.sum(axis=1, keepdims=True), [b / b.sum(axis=0) for b in B], mass / mass.sum(), attention
    return state, loss / len(positions)


# ---- bit-cipher ------------------------------------------------------------------------------------------------------


def cipher_codes(bits):
    """All codes in their order: |v - e| if it has one bit more than the level before and is new."""
    basis = [tuple(int(i == j) for j in range(bits)) for i in range(bits)]
    found, level = list(basis), list(basis)
    basis.reverse()
    for k in range(2, bits + 1):
        before, level = level[::-1], []
        for e in basis:
            for v in before:
                w = tuple(abs(x - y) for x, y in zip(v, e, strict=True))
                if sum(w) == k and w not in level:
                    level.append(w)
        found += level
    return found


def enriched_embeddings(ids, codes, radii, documents, combine, own, discounts=None):
    """Average code of the neighbours at each radius, by counts or, given discounts(counts), by explicit weights."""
    V = len(codes)
    starts = sorted({0, *(documents or [])})
    document = np.searchsorted(starts, np.arange(len(ids)), "right")
    blocks = [codes.astype(float)] if own else []
    for radius in radii:
        n = np.zeros((V, V), int)
        for t, c in enumerate(ids):
            if 0 <= t + radius < len(ids) and document[t] == document[t + radius]:
                n[c, ids[t + radius]] += 1
        weight = n.astype(float) if discounts is None else _ratios(n, np.bincount(ids, minlength=V), discounts)
        total = weight.sum(axis=1, keepdims=True)
        blocks.append(weight @ codes / np.where(total > 0, total, 1))
    rows = np.concatenate(blocks, axis=1) if combine == "concatenate" else sum(blocks)
    total = rows.sum(axis=1, keepdims=True)
    return rows / np.where(total > 0, total, 1)


def _ratios(n, counts, discounts):
    """log(1 + (n - D(n)) / (m p)) of the pairs that occur; types never seen do not matter."""
    if not n.any():
        return np.zeros(n.shape)
    D = np.concatenate([[0.0], discounts(n[n > 0])])[np.minimum(n, 3)]
    unseen = (counts == 0).any() / (counts.sum() + 1)
    freed = D.sum(axis=1, keepdims=True) * (counts / counts.sum() * (1 - unseen))
    return np.where(n > 0, np.log1p((n - D) / np.where(n > 0, freed, 1)), 0.0)


# ---- backward passes and Adam ------------------------------------------------------------------------------------


def softmax_backward(P, dP):
    """Gradient by the logits: the Jacobian diag(p) - p p^T of each row, times the gradient by p."""
    P, dP = np.asarray(P, np.float64), np.asarray(dP, np.float64)
    return np.array([(np.diag(p) - np.outer(p, p)) @ d for p, d in zip(P, dP, strict=True)]).reshape(P.shape)


def mixture(X, T, labels, scale):
    """Log-probability, scaled posterior of the states and scaled gradient of its negative by X, row by row."""
    log_prob, R, dX = np.empty(len(X)), np.empty(X.shape), np.empty(X.shape)
    for m, x in enumerate(np.asarray(X, np.float64)):
        log_h, t = log_softmax(x[None])[0], np.asarray(T[labels[m]], np.float64)
        log_prob[m] = logsumexp((log_h + t)[None])[0]
        R[m] = scale[m] * np.exp(log_h + t - log_prob[m])
        dX[m] = scale[m] * np.exp(log_h) - R[m]
    return log_prob, R, dX


def adam(gradient, x, first, second, learning_rate, beta1, beta2, epsilon, step):
    """(x, first, second) after algorithm 1 of Kingma and Ba, as it is written there."""
    gradient, x, first, second = (np.asarray(a, np.float64) for a in (gradient, x, first, second))
    first = beta1 * first + (1 - beta1) * gradient
    second = beta2 * second + (1 - beta2) * gradient**2
    unbiased = first / (1 - beta1**step), second / (1 - beta2**step)
    return x - learning_rate * unbiased[0] / (np.sqrt(unbiased[1]) + epsilon), first, second


def ngram_hashes(tokens, longest, bits=64):
    """Hashes of the n-grams of a text whose tokens are bytes: of each token those that end with it, shorter first."""
    full = 2**64 - 1

    def mixed(x):
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & full
        x = (x ^ x >> 27) * 0x94D049BB133111EB & full
        return x ^ x >> 31

    found, before = [], []
    for token in tokens:
        h = 0xCBF29CE484222325
        for byte in token:
            h = (h ^ byte) * 0x100000001B3 & full
        h = mixed(h)
        before = [h, *(mixed(shorter * 0x9E3779B97F4A7C15 + h & full) for shorter in before[: longest - 1])]
        found += before
    return [h & (full ^ full >> bits) for h in found]


# ---- patches of images -----------------------------------------------------------------------------------------------


def patch_inputs(image, patch, place, M, scale, spread, normalize):
    """v of the patch of an image (height, width, channels) that begins at a place (y, x)."""
    (y, x), (height, width) = place, patch
    values = image[y : y + height, x : x + width].ravel() * scale
    mean = values.mean()
    d = np.sqrt(((values - mean) ** 2).mean()) + spread if normalize else spread
    contrast = (values - mean) / d
    contrast = contrast if M is None else M @ contrast
    return np.concatenate([np.maximum(contrast, 0), np.maximum(-contrast, 0), [mean, 1 - mean, 1]])


def patch_places(shape, patch, stride):
    """Where the patches of an image begin, and how many rows and columns of them there are."""
    rows, columns = [range(0, n - size + 1, stride) for n, size in zip(shape[:2], patch, strict=True)]
    return list(itertools.product(rows, columns)), (len(rows), len(columns))


def pool_patches(images, shape, patch, stride, pool, M, W, *inputs):
    """The responsibilities of each unit, summed over the places of each cell."""
    places, (rows, columns) = patch_places(shape, patch, stride)
    pooled = np.zeros((len(images), *pool, W.shape[1]))
    for m, image in enumerate(images):
        for number, place in enumerate(places):
            v = patch_inputs(image.reshape(shape), patch, place, M, *inputs)
            p = np.exp(log_softmax((v @ W)[None]))[0]
            y, x = divmod(number, columns)
            pooled[m, y * pool[0] // rows, x * pool[1] // columns] += p
    return pooled.reshape(len(images), pool[0] * pool[1], W.shape[1])


def patch_moments(images, shape, patch, stride, image_of, place_of, M, W, *inputs):
    """The sum over some patches of v p^T."""
    places, _ = patch_places(shape, patch, stride)
    total = np.zeros(W.shape)
    for m, number in zip(image_of, place_of, strict=True):
        v = patch_inputs(images[m].reshape(shape), patch, places[number], M, *inputs)
        total += np.outer(v, np.exp(log_softmax((v @ W)[None]))[0])
    return total


def regression_gradients(A, W, bias, targets):
    """The cross-entropy of each row of softmax(A W + bias), and the gradients of their sum by (W, bias) and by A."""
    logits = A @ W + bias
    logits -= logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rows = np.arange(len(A))
    error = np.exp(log_p)
    error[rows, targets] -= 1
    return -log_p[rows, targets], np.vstack([A.T @ error, error.sum(axis=0)]), error @ W.T
