"""BitCipherTransformer: against BitCipher, and in scikit-learn's pipelines."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import saffu
from saffu import BitCipher, BitCipherTransformer
from saffu.utils.settings import NotFittedError

COLOURS = np.array([["red"], ["red"], ["blue"], ["green"], ["red"], ["blue"]])
tables = hnp.arrays(
    st.sampled_from([np.int64, np.float32]),
    st.tuples(st.integers(1, 20), st.integers(1, 3)),
    elements=st.integers(-4, 4),
)


@given(tables, st.one_of(st.none(), st.integers(1, 5)), st.booleans())
def test_codes_are_those_of_the_cipher_and_come_back(X, bits, shared):
    transformer = BitCipherTransformer(bits, shared=shared)
    codes = transformer.fit_transform(X)
    assert codes.dtype == np.float32
    begin = 0
    for place in range(X.shape[1]):
        categories, counts = np.unique(X if shared else X[:, place], return_counts=True)
        width = len(categories).bit_length() if bits is None else bits
        cipher = BitCipher(width).fit(counts=counts)
        expected = cipher.encode(np.searchsorted(categories, X[:, place]))
        np.testing.assert_array_equal(codes[:, begin : begin + width], expected)
        begin += width
    assert begin == codes.shape[1] == len(transformer.get_feature_names_out())
    found = transformer.inverse_transform(codes)
    known = np.array([value is not None for value in found.ravel()]).reshape(found.shape)
    np.testing.assert_array_equal(found[known].astype(X.dtype), X[known])
    assert known.all() or bits is not None  # without bits given, every category has a code


def test_codes_do_not_depend_on_the_order_of_rows():
    X = np.random.default_rng(0).integers(0, 9, (200, 2))
    one, other = (BitCipherTransformer().fit(X[order]) for order in (np.arange(200), np.arange(200)[::-1]))
    np.testing.assert_array_equal(one.transform(X), other.transform(X))


def test_frequent_categories_have_few_bits():
    transformer = BitCipherTransformer().fit(COLOURS)
    assert [int((row > 0).sum()) for row in transformer.transform([["red"], ["blue"], ["green"]])] == [1, 1, 2]
    assert transformer.categories_[0].tolist() == ["blue", "green", "red"]


def test_unknown_categories():
    transformer = BitCipherTransformer().fit(COLOURS)
    assert transformer.transform([["pink"]]).tolist() == [[0, 0]]
    assert transformer.inverse_transform([[0, 0]]).tolist() == [[None]]
    transformer.set_params(handle_unknown="error").fit(COLOURS)
    with pytest.raises(ValueError, match="X must hold categories that fit has seen, got 'pink' in column 0"):
        transformer.transform([["red"], ["pink"]])
    numbers = BitCipherTransformer().fit([[1.0], [3.0]])
    assert numbers.transform([[2.0], [9.0], [-1.0]]).any() == np.False_


def test_columns_may_be_of_different_kinds():
    X = np.array([["red", 1], ["blue", 2], ["red", 2]], dtype=object)
    transformer = BitCipherTransformer().fit(X)
    assert transformer.inverse_transform(transformer.transform(X)).tolist() == X.tolist()
    with pytest.raises(TypeError, match="X must have categories of one type in column 0"):
        BitCipherTransformer(shared=True).fit(X)


@pytest.mark.parametrize(
    ("settings", "X", "error", "message"),
    [
        ({"bits": 0}, COLOURS, ValueError, "bits must be at least 1, got 0"),
        ({"bits": "4"}, COLOURS, TypeError, "bits must be an integer"),
        ({"handle_unknown": "ignore"}, COLOURS, ValueError, "handle_unknown must be"),
        ({}, ["red"], ValueError, "X must be a matrix with a row for each example, got shape"),
        ({}, [["red"], [None]], ValueError, "X must be categories, got None in column 0"),
        ({}, [[1.0, np.nan]], ValueError, "X must be categories, got NaN in column 1"),
        ({}, [[np.inf]], ValueError, "X must be categories, got infinity in column 0"),
        ({}, [[1j]], ValueError, "X must not be complex"),
        ({}, np.empty((0, 2)), ValueError, "X must have rows and columns, got 0 sample"),
        ({}, np.empty((2, 0)), ValueError, "X must have rows and columns, got 0 feature"),
    ],
)
def test_mistakes_are_named(settings, X, error, message):
    with pytest.raises(error, match=message):
        BitCipherTransformer(**settings).fit(X)


def test_what_is_not_fitted_says_so():
    for ask in (
        lambda t: t.transform(COLOURS),
        lambda t: t.get_feature_names_out(),
        lambda t: t.inverse_transform([[0]]),
        lambda t: t.n_features_in_,
    ):
        with pytest.raises((NotFittedError, ValueError), match="has seen no data: call fit first"):
            ask(BitCipherTransformer())
    assert not hasattr(BitCipherTransformer().fit(COLOURS), "feature_names_in_")


def test_pickles():
    transformer = BitCipherTransformer(3).fit(COLOURS)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(transformer)).transform(COLOURS), transformer.transform(COLOURS)
    )


def test_tables_of_pandas_and_polars():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    data = {"colour": ["red", "blue", "red"], "size": [1, 2, 2]}
    table = pandas.DataFrame(data, index=[7, 8, 9])
    transformer = BitCipherTransformer().fit(table)
    plain = transformer.transform(table)
    names = ["colour_bit0", "colour_bit1", "size_bit0", "size_bit1"]
    assert transformer.get_feature_names_out().tolist() == names
    assert transformer.feature_names_in_.tolist() == ["colour", "size"]
    with pytest.raises(ValueError, match="input_features is not equal to feature_names_in_"):
        transformer.get_feature_names_out(["size", "colour"])
    with pytest.raises(ValueError, match="feature names should match"):
        transformer.transform(table[["size", "colour"]])
    found = transformer.set_output(transform="pandas").transform(table)
    assert found.columns.tolist() == names
    assert found.index.tolist() == [7, 8, 9]
    np.testing.assert_array_equal(found.to_numpy(), plain)
    np.testing.assert_array_equal(transformer.transform(polars.DataFrame(data)).to_numpy(), plain)
    found = transformer.set_output(transform="polars").transform(table)
    assert isinstance(found, polars.DataFrame)
    assert found.columns == names
    np.testing.assert_array_equal(found.to_numpy(), plain)
    with pytest.raises(ValueError, match="transform must be"):
        transformer.set_output(transform="list")


def test_in_a_pipeline_beside_numbers():
    pytest.importorskip("sklearn")
    pandas = pytest.importorskip("pandas")
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline

    rng = np.random.default_rng(1)
    table = pandas.DataFrame({"town": rng.choice(list("abcdefg"), 300), "area": rng.random(300)})
    y = np.where(table.town.isin(["a", "b"]), "south", "north")
    columns = make_column_transformer((BitCipherTransformer(), ["town"]), remainder="passthrough")
    columns.set_output(transform="pandas")
    assert columns.fit_transform(table).columns[0] == "bitciphertransformer__town_bit0"
    assert make_pipeline(columns, saffu.ExplicitNetwork(hidden=(20,))).fit(table, y).score(table, y) > 0.9
