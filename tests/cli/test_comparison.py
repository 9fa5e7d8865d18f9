"""``saffu eval A B FILE``: two language models on one text."""

import json

import numpy as np
import pytest

import saffu
from helpers.made_up import documents_with_habits
from saffu.cli import main as cli
from saffu.text import Vocabulary
from saffu.text.bootstrap import nats_interval, paired_test
from saffu.utils.streams import TokenStream

V = 30
IDS, STARTS = documents_with_habits(3000, 0, V, (0.4, 0.3))
NEW, NEW_STARTS = documents_with_habits(1500, 1, V, (0.4, 0.3))[0], np.arange(0, 1500, 30)
WORDS = [f"w{i}" for i in range(V - 2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for name, order in (("good", 3), ("bad", 2)):
        model = saffu.ExplicitLM(order=order, radius=1, windows=(), induction=0)
        model.fit(IDS[: 3000 if name == "good" else 300], documents=None, vocab_size=V)
        model.save(folder / f"{name}-ids")
        model.vocabulary = Vocabulary(WORDS)
        model.save(folder / name)
    model.vocabulary = Vocabulary([f"v{word}" for word in WORDS])
    model.save(folder / "other-words")
    saffu.Transformer(9, hidden=4, layers=1).save(folder / "other-size")
    saffu.BitCipher(3).fit(IDS).save(folder / "cipher")
    np.savez(folder / "ids.npz", ids=NEW, documents=NEW_STARTS)
    documents = np.split(NEW, NEW_STARTS[1:])
    (folder / "text").write_text("\n\n".join(" ".join(Vocabulary(WORDS).decode(d)) for d in documents))
    return folder


def run(capsys, folder, *arguments):
    paths = [str(folder / argument) if not argument.startswith("-") else argument for argument in arguments]
    code = cli.main(["eval", *paths])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_figures_are_those_of_the_library(folder, capsys):
    code, output, errors = run(capsys, folder, "good-ids", "bad-ids", "ids.npz", "--json")
    assert (code, errors) == (0, "")
    figures = json.loads(output)
    assert list(figures) == ["first", "second", "difference"]
    stream = TokenStream.of(NEW, NEW_STARTS)
    scores = []
    for side, name in (("first", "good-ids"), ("second", "bad-ids")):
        alone = json.loads(run(capsys, folder, name, "ids.npz", "--json")[1])
        assert {k: v for k, v in figures[side].items() if "second" not in k} == {
            k: v for k, v in alone.items() if "second" not in k
        }
        scores.append(saffu.load(folder / name).log_prob(NEW, documents=NEW_STARTS))
        low, high = nats_interval(scores[-1], stream)
        assert alone["perplexity_low"] == pytest.approx(np.exp(low))
        assert alone["perplexity_high"] == pytest.approx(np.exp(high))
        assert alone["perplexity_low"] < alone["perplexity"] < alone["perplexity_high"]
    found, expected = figures["difference"], paired_test(*scores, stream)
    assert found["nats_per_token"] == pytest.approx(expected.difference)
    assert found["nats_per_token_low"] == pytest.approx(expected.interval.low)
    assert found["nats_per_token_high"] == pytest.approx(expected.interval.high)
    assert found["p_value"] == pytest.approx(expected.p_value)
    assert found["units"] == expected.n_units
    ratio = figures["second"]["perplexity"] / figures["first"]["perplexity"]
    assert found["perplexity_ratio"] == pytest.approx(ratio)
    assert found["nats_per_token_low"] > 0
    assert found["p_value"] < 0.01


def test_a_table_for_people(folder, capsys):
    code, output, errors = run(capsys, folder, "good", "bad", "text")
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert lines[0].split() == ["first", "second"]
    assert lines[1].split()[0] == "perplexity"
    assert len(lines[1].split()) == 3
    assert any(line.startswith("bits per byte") for line in lines)
    assert "second minus first" in lines
    assert lines[-2].startswith("p value")


def test_a_model_beside_itself_does_not_differ(folder, capsys):
    found = json.loads(run(capsys, folder, "good", "good", "text", "--json")[1])
    assert found["difference"]["nats_per_token"] == 0
    assert found["difference"]["p_value"] == 1


def test_bytes_are_those_of_utf_8(folder, tmp_path, capsys):
    (tmp_path / "text").write_text("œuf w1 w2\n\nw3 ünter w5\n", encoding="utf-8")
    code = cli.main(["eval", str(folder / "good"), str(tmp_path / "text"), "--json"])
    assert code == 0
    found = json.loads(capsys.readouterr().out)
    n_characters, n_bytes = 22, 24  # the blank line is none
    assert found["bits_per_char"] * n_characters == pytest.approx(found["bits_per_byte"] * n_bytes)
    assert found["bits_per_char"] * n_characters == pytest.approx(found["nats_per_token"] * found["tokens"] / np.log(2))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("good", "other-words", "text"), "must have equal vocabularies to be compared"),
        (("good-ids", "other-size", "ids.npz"), "must have equal vocabularies to be compared"),
        (("good", "cipher", "text"), "holds BitCipher, which is not a language model"),
        (("cipher", "good", "text"), "holds BitCipher, which is not a language model"),
        (("good-ids", "good-ids", "text"), "holds a language model without a vocabulary"),
        (("good", "good"), "is not UTF-8"),
        (("good", "good", "good"), "is not UTF-8"),
        (("good", "text", "good"), "is not UTF-8"),
        (("good", "bad", "missing"), "No such file"),
    ],
)
def test_mistakes_are_one_line(folder, capsys, files, message):
    code, output, errors = run(capsys, folder, *files)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert message in errors
