"""The bit-cipher: order of codes, ranks, decoding; embeddings by neighbours against a plain twin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import saffu
from helpers import reference
from saffu.explicit.bit_sets import code_sets
from saffu.explicit.discounting import discounts

FIVE_BITS = (
    "10000 01000 00100 00010 00001 "
    "00011 00101 01001 10001 00110 01010 10010 01100 10100 11000 "
    "11001 10101 01101 10011 01011 00111 11010 10110 01110 11100 "
    "11101 01111 10111 11011 11110 "
    "11111"
)


def set_bits(bits, n):
    return np.unpackbits(code_sets(bits, n), axis=1, count=bits)


def cipher_of(bits, vocab_size, seed=0):
    counts = np.random.default_rng(seed).integers(0, 9, vocab_size)
    return saffu.BitCipher(bits).fit(counts=counts)


# ---- the order of codes ----------------------------------------------------------------------------------------------


def test_five_bits():
    cipher = saffu.BitCipher(5).fit(counts=np.arange(31, 0, -1))
    assert ["".join(map(str, row)) for row in (cipher.codes > 0).astype(int)] == FIVE_BITS.split()


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_are_those_of_the_construction(bits):
    np.testing.assert_array_equal(set_bits(bits, 2**bits - 1), reference.cipher_codes(bits))


@given(st.integers(1, 200), st.integers(0, 3000))
def test_codes_are_distinct_and_ordered_by_their_bits(bits, n):
    n = min(n, 2**bits - 1)
    codes = set_bits(bits, n)
    assert codes.shape == (n, bits)
    assert len(np.unique(codes, axis=0)) == n
    popcount = codes.sum(axis=1, dtype=int)
    assert (popcount > 0).all()
    assert (np.diff(popcount) >= 0).all()


@given(st.integers(1, 90), st.integers(1, 2000), st.integers(1, 2000))
def test_fewer_codes_are_the_first_of_more(bits, n, more):
    n, more = sorted(min(size, 2**bits - 1) for size in (n, more))
    np.testing.assert_array_equal(set_bits(bits, more)[:n], set_bits(bits, n))


@given(st.integers(1, 70), st.integers(1, 5000))
def test_successive_codes_are_close(bits, n):
    codes = set_bits(bits, min(n, 2**bits - 1)).astype(int)
    steps = np.abs(np.diff(codes, axis=0)).sum(axis=1)
    within = np.diff(codes.sum(axis=1)) == 0
    assert set(steps[within]) <= {2, 4}
    assert (steps[~within] == 1).all()
    assert (steps[within] == 2).sum() >= 2 * (steps[within] == 4).sum()


def test_large_vocabularies_of_many_bits():
    for bits in (17, 24, 512):
        assert len({row.tobytes() for row in code_sets(bits, 100_000)}) == 100_000


# ---- ranks -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 12), max_size=40), st.integers(13, 16))
def test_ranks_of_a_stream(ids, vocab_size):
    cipher = saffu.BitCipher(6).fit(ids, vocab_size=vocab_size)
    unseen = len(ids)
    expected = sorted(range(vocab_size), key=lambda i: (-ids.count(i), ids.index(i) if i in ids else unseen, i))
    assert cipher.ranking.tolist() == expected


@given(st.lists(st.floats(0, 3) | st.integers(0, 3), max_size=40), st.integers(0, 5))
def test_ranks_of_counts(counts, more):
    cipher = saffu.BitCipher(6).fit(counts=np.array(counts, float), vocab_size=len(counts) + more)
    padded = counts + [0] * more
    assert cipher.ranking.tolist() == sorted(range(len(padded)), key=lambda i: (-padded[i], i))


def test_unsigned_counts_are_ranked_downwards():
    assert saffu.BitCipher(3).fit(counts=np.array([1, 0, 2], np.uint8)).ranking.tolist() == [2, 0, 1]


def test_the_vocabulary_of_a_stream_ends_at_its_largest_id():
    cipher = saffu.BitCipher(3).fit([4, 4, 1])
    assert (cipher.vocab_size, cipher.ranking.tolist()) == (5, [4, 1, 0, 2, 3])
    assert cipher.codes[[4, 1, 0]].tolist() == np.eye(3).tolist()


# ---- encode and decode -----------------------------------------------------------------------------------------------


@given(st.integers(1, 130), st.integers(0, 600), st.integers(0, 2**32 - 1))
def test_codes_have_unit_sum_and_are_decoded(bits, vocab_size, seed):
    cipher = cipher_of(bits, vocab_size, seed)
    assert cipher.n_coded == min(vocab_size, 2**bits - 1)
    coded = np.isin(np.arange(vocab_size), cipher.ranking[: cipher.n_coded])
    rows = cipher.encode(np.arange(vocab_size))
    assert (rows.shape, rows.dtype) == ((vocab_size, bits), np.float32)
    np.testing.assert_array_equal(rows, cipher.codes)
    np.testing.assert_array_equal(rows, cipher.encode(np.arange(vocab_size)))  # now out of the table
    np.testing.assert_allclose(rows.sum(axis=1), coded, rtol=1e-6)
    expected = np.where(coded, np.arange(vocab_size), -1)
    for dtype in (np.float32, np.float64):
        found = cipher.decode(rows.astype(dtype))
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, expected)


def test_the_less_frequent_types_of_a_large_vocabulary_have_no_code():
    cipher = saffu.BitCipher(2).fit(counts=[1, 5, 2, 4, 3])
    assert cipher.codes.tolist() == [[0, 0], [1, 0], [0, 0], [0, 1], [0.5, 0.5]]
    assert cipher.decode(cipher.codes).tolist() == [-1, 1, -1, 3, 4]


@given(st.integers(1, 9), st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_other_vectors_stand_for_the_nearest_code(bits, vocab_size, seed):
    cipher = cipher_of(bits, vocab_size, seed)
    vectors = np.random.default_rng(seed).dirichlet(np.full(bits, 0.3), 20)
    distance = np.square(vectors[:, None] - cipher.codes[cipher.ranking[: cipher.n_coded]]).sum(axis=2)
    chosen = distance[np.arange(20), np.argsort(cipher.ranking)[cipher.decode(vectors)]]
    np.testing.assert_allclose(chosen, distance.min(axis=1), atol=1e-9)


def test_equally_near_codes_go_to_the_more_frequent_type():
    cipher = saffu.BitCipher(4).fit(counts=[1, 2, 4, 3])
    assert cipher.decode([[0, 0.5, 0.5, 0], [0.2, 0, 0, 0], [0, 0, 0, 0.1]]).tolist() == [3, 2, 0]


def test_a_batch_is_decoded_in_parts(monkeypatch):
    cipher = cipher_of(7, 100)
    vectors = np.concatenate([cipher.codes, np.random.default_rng(1).random((50, 7), np.float32)])
    whole = cipher.decode(vectors)
    monkeypatch.setattr("saffu.explicit.bit_sets.CHUNK_VALUES", 150)
    np.testing.assert_array_equal(cipher.decode(vectors), whole)


def test_a_table_of_codes_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        cipher_of(3, 5).codes[0, 0] = 1


def test_a_second_fit_replaces_the_first():
    cipher = saffu.BitCipher(3).fit(counts=[1, 2, 3])
    cipher.decode(cipher.codes)
    cipher.fit(counts=[3, 2])
    assert cipher.codes.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert cipher.decode(cipher.codes).tolist() == [0, 1]


def test_save_and_load(tmp_path):
    cipher = cipher_of(5, 40)
    cipher.save(tmp_path / "codes.saffu")
    loaded = saffu.load(tmp_path / "codes.saffu")
    assert (loaded.bits, loaded.vocab_size, loaded.n_coded) == (5, 40, 31)
    np.testing.assert_array_equal(loaded.ranking, cipher.ranking)
    np.testing.assert_array_equal(loaded.codes, cipher.codes)


@pytest.mark.parametrize("ranking", [np.array([0, 0, 1]), np.array([1, 2, 3]), np.arange(3.0), np.eye(2, dtype=int)])
def test_a_damaged_ranking_is_refused(tmp_path, ranking):
    saffu.utils.checkpoint.write(tmp_path / "codes.saffu", "bit-cipher", {"ranking": ranking}, {"bits": 3})
    with pytest.raises(ValueError, match="damaged bit-cipher"):
        saffu.load(tmp_path / "codes.saffu")


# ---- degenerate and wrong input --------------------------------------------------------------------------------------


def test_one_token_and_none():
    one = saffu.BitCipher(1).fit([0])
    assert one.encode([0]).tolist() == [[1]]
    for empty in (saffu.BitCipher(3), saffu.BitCipher(3).fit([]), saffu.BitCipher(3).fit(counts=[])):
        assert empty.encode([]).shape == (0, 3)
        assert empty.decode(np.zeros((2, 3))).tolist() == [-1, -1]
        assert empty.decode(np.eye(3)).tolist() == [-1, -1, -1]
    assert one.decode(np.zeros((0, 1))).shape == (0,)


@pytest.mark.parametrize("bits", [0, -1])
def test_at_least_one_bit(bits):
    with pytest.raises(ValueError, match="bits must be at least 1"):
        saffu.BitCipher(bits)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "either ids or counts"),
        ({"ids": [0], "counts": [1]}, ValueError, "either ids or counts"),
        ({"ids": [0, -1]}, ValueError, "ids must not be negative, got -1 at position 1"),
        ({"ids": [0.5]}, TypeError, "ids must be integers"),
        ({"ids": [3, 4], "vocab_size": 4}, ValueError, "ids must be below 4, got 4"),
        ({"ids": [2_000_000_000]}, ValueError, "ids reach 2000000000; .* or give vocab_size"),
        ({"ids": [2**40]}, ValueError, "ids must be below"),
        ({"counts": [1, 2], "vocab_size": 1}, ValueError, "counts must be at most vocab_size = 1, got 2"),
        ({"counts": [1, -2]}, ValueError, "counts must be finite and not negative, got -2 at position 1"),
        ({"counts": [1, np.nan]}, ValueError, "got nan at position 1"),
        ({"counts": [np.inf, 1]}, ValueError, "got inf at position 0"),
        ({"counts": ["a"]}, TypeError, "counts must be a vector of numbers"),
        ({"counts": [[1, 2]]}, TypeError, "counts must be a vector of numbers"),
        ({"ids": [0], "vocab_size": -1}, ValueError, "vocab_size must be at least 0"),
    ],
)
def test_what_fit_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        saffu.BitCipher(4).fit(**arguments)


def test_what_encode_and_decode_refuse():
    cipher = cipher_of(4, 6)
    with pytest.raises(ValueError, match="ids must be below 6, got 6"):
        cipher.encode([6])
    with pytest.raises(ValueError, match="codes must have 4 columns, got 3"):
        cipher.decode(np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"codes must be finite and not negative, got -1\.0 in row 1, column 2"):
        cipher.decode([[1, 0, 0, 0], [0, 0, -1.0, 0]])
    with pytest.raises(TypeError, match="codes must be numbers"):
        cipher.decode([["1", "0", "0", "0"]])


# ---- embeddings ------------------------------------------------------------------------------------------------------


@st.composite
def streams(draw):
    vocab_size = draw(st.integers(1, 8))
    ids = draw(st.lists(st.integers(0, vocab_size - 1), max_size=40))
    documents = sorted(draw(st.sets(st.integers(0, max(len(ids) - 1, 0)), max_size=3))) if ids else None
    cipher = saffu.BitCipher(draw(st.integers(1, 5))).fit(ids, vocab_size=vocab_size)
    return ids, cipher, documents


WEIGHTS = ("counts", "ratios")
CHOICES = st.sampled_from(["concatenate", "sum"]), st.sampled_from(WEIGHTS), st.booleans()


@given(streams(), st.lists(st.sampled_from([-4, -2, -1, 1, 2, 3]), min_size=1, unique=True), *CHOICES)
def test_embeddings_are_those_of_the_plain_twin(stream, radii, combine, weights, own):
    ids, cipher, documents = stream
    found = saffu.enriched_embeddings(
        ids, cipher, radii=radii, documents=documents, combine=combine, weights=weights, own=own
    )
    taken = discounts if weights == "ratios" else None
    expected = reference.enriched_embeddings(ids, cipher.codes, radii, documents, combine, own, taken)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)
    sums = found.sum(axis=1)
    np.testing.assert_allclose(sums, (sums > 0).astype(float), rtol=1e-5)


def test_left_and_right_are_different_blocks():
    cipher = saffu.BitCipher(3).fit(counts=[3, 2, 1])
    found = saffu.enriched_embeddings([0, 1, 2], cipher, radii=[1, -1], own=False)
    right_of_1, left_of_1 = np.split(found[1], 2)
    assert right_of_1.tolist() == [0, 0, 0.5]
    assert left_of_1.tolist() == [0.5, 0, 0]
    assert found[0].tolist() == [0, 1, 0, 0, 0, 0]  # nothing to its left


def test_a_type_that_never_occurs_has_its_own_code_only():
    cipher = saffu.BitCipher(2).fit([0, 1, 0])
    cipher.fit([0, 1, 0], vocab_size=4)
    found = saffu.enriched_embeddings([0, 1, 0], cipher, radii=[1])
    assert found[2].tolist() == [0.5, 0.5, 0, 0]
    assert not found[3].any()  # codes have run out
    assert not saffu.enriched_embeddings([0, 1, 0], cipher, radii=[1], own=False)[2:].any()


def test_ratios_are_about_what_is_special():
    # Type 0 follows everything; after 1 comes 0 mostly, and 3 as nowhere else.
    rng = np.random.default_rng(0)
    ids = rng.choice(4, 3000, p=[0.7, 0.12, 0.12, 0.06])
    ids[1:][(ids[:-1] != 1) & (ids[1:] == 3)] = 0
    cipher = saffu.BitCipher(4).fit(ids)
    by_counts, by_ratios = (saffu.enriched_embeddings(ids, cipher, radii=[1], weights=w, own=False)[1] for w in WEIGHTS)
    special, common = cipher.codes[3] > 0, cipher.codes[0] > 0
    assert by_counts[special] < by_counts[common]
    assert by_ratios[special] > by_ratios[common]


def test_embeddings_do_not_depend_on_threads():
    rng = np.random.default_rng(3)
    ids = rng.zipf(1.3, 5000) % 300
    cipher = saffu.BitCipher(16).fit(ids, vocab_size=300)
    for weights in WEIGHTS:
        one, three = (saffu.enriched_embeddings(ids, cipher, weights=weights, n_threads=n) for n in (1, 3))
        np.testing.assert_array_equal(one, three)


def test_embeddings_of_nothing():
    assert saffu.enriched_embeddings([], saffu.BitCipher(3)).shape == (0, 15)
    cipher = saffu.BitCipher(3).fit(counts=[1, 2])
    assert saffu.enriched_embeddings([], cipher, radii=[1]).tolist() == [[0, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]]
    assert saffu.enriched_embeddings([1], cipher, radii=[10**6], combine="sum").tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"radii": []}, ValueError, "radii must be distinct"),
        ({"radii": [1, 0]}, ValueError, "radii must be distinct"),
        ({"radii": [1, 1]}, ValueError, "radii must be distinct"),
        ({"radii": [1.5]}, TypeError, "radii must be an integer"),
        ({"combine": "mean"}, ValueError, "combine must be one of"),
        ({"weights": "none"}, ValueError, "weights must be one of"),
        ({"ids": [7]}, ValueError, "ids must be below 6, got 7"),
        ({"documents": [5]}, ValueError, "documents must be ascending"),
        ({"cipher": np.eye(3)}, TypeError, "cipher must be a BitCipher, got ndarray"),
    ],
)
def test_what_embeddings_refuse(change, error, message):
    arguments = {"ids": [0, 1, 2], "cipher": cipher_of(4, 6), "radii": [1]} | change
    with pytest.raises(error, match=message):
        saffu.enriched_embeddings(**arguments)
