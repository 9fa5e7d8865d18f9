"""saffu.lm_eval in the real harness: its registry, its requests, and an evaluation of tasks made here."""

import importlib
import sys
import warnings

import numpy as np
import pytest

import saffu
from helpers import subwords
from saffu.text import SubwordTokenizer, Vocabulary, tokenize

TEXT = "the cat sits on the mat .\nthe dogs sit on the mat .\n" * 40


@pytest.fixture(scope="module", autouse=True)
def harness():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("lm_eval")


@pytest.fixture(scope="module")
def saffu_lm_eval(harness):
    import saffu.lm_eval

    return saffu.lm_eval


def trained(tokenizer="words"):
    vocabulary = Vocabulary.build([tokenize(TEXT, tokenizer=tokenizer)], tokenizer=tokenizer)
    model = saffu.ExplicitLM(order=4, windows=(20,), induction=0)
    model.fit(vocabulary.encode_text(TEXT)[0], vocab_size=len(vocabulary))
    model.vocabulary = vocabulary
    return model


@pytest.fixture(scope="module")
def model():
    return trained()


@pytest.fixture(scope="module")
def ours(saffu_lm_eval, model):
    return saffu_lm_eval.HarnessModel(model)


def requests(kind, *arguments):
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, one, i) for i, one in enumerate(arguments)]


def test_the_registry_knows_it(saffu_lm_eval, model, tmp_path):
    from lm_eval.api.registry import get_model

    assert get_model("saffu") is saffu_lm_eval.HarnessModel
    assert get_model("dummy").__name__ == "DummyLM"
    model.save(tmp_path / "model")
    made = get_model("saffu").create_from_arg_string(
        f"path={tmp_path / 'model'},n_threads=1,mmap=True", {"batch_size": 1, "max_batch_size": None, "device": None}
    )
    assert made.model.n_threads == 1
    assert made.tokenizer_name == "saffu words"
    [(log_prob, _)] = made.loglikelihood(requests("loglikelihood", ("the", " cat")))
    the, cat = model.vocabulary.encode(["the", "cat"])
    assert log_prob == pytest.approx(np.log(model.distribution([the])[cat]), abs=1e-5)


@pytest.mark.parametrize("batch", [1, 1 << 16])
def test_log_probabilities_of_continuations(saffu_lm_eval, ours, model, monkeypatch, batch):
    monkeypatch.setattr(saffu_lm_eval, "BATCH_TOKENS", batch)
    monkeypatch.setattr(saffu_lm_eval, "BATCH_BYTES", batch)
    asked = [
        ("the cat", " sits on"),
        ("the cat", " sit on"),
        ("", "the cat"),
        ("the cat sits .\n\nthe dogs", " sit"),
        ("the cat ", "sits"),
        ("the ca", "t sits"),
        ("the zebra", " flies"),
        ("", ""),
        ("the cat", ""),
    ]
    found = ours.loglikelihood(requests("loglikelihood", *asked))
    firsts = [2, 2, 0, 7, 2, 1, 2, 0, 2]
    for (context, continuation), first, (log_prob, is_greedy) in zip(asked, firsts, found, strict=True):
        ids = model.vocabulary.encode_text(context + continuation)[0]
        p = np.array([model.distribution(ids[:i])[ids[i]] for i in range(first, ids.size)])
        assert log_prob == pytest.approx(np.log(p).sum(), abs=1e-5)
        assert is_greedy == all(model.top(ids[:i], 1)[0][0] == ids[i] for i in range(first, ids.size))
    assert [is_greedy for _, is_greedy in found[:2]] == [True, False]
    assert found[0][0] > found[1][0]


def test_rolling_log_probabilities(ours, model):
    texts = ["the cat sits on the mat .\n", "", "the dogs\n\nthe zebra", "the " * 3000]
    found = ours.loglikelihood_rolling(requests("loglikelihood_rolling", *[(text,) for text in texts]))
    for text, log_prob in zip(texts, found, strict=True):
        ids = model.vocabulary.encode_text(text)[0]
        assert log_prob == pytest.approx(model.log_prob(ids).sum() if ids.size else 0)


def test_text_is_generated_until_it_ends(ours, model):
    asked = [
        ("the cat", {"until": ["."], "max_gen_toks": 30}),
        ("the cat", {"until": "\n", "max_tokens": 30, "do_sample": False, "temperature": 0.7}),
        ("the cat", {"until": [], "max_gen_toks": 3}),
        ("the dogs", {"until": [" mat", "the mat"], "max_new_tokens": 40, "temperature": 0.0}),
        ("the", {"until": ["\n"], "max_gen_toks": 5, "do_sample": True, "temperature": 1.0, "top_k": 1}),
    ]
    found = ours.generate_until(requests("generate_until", *asked))
    assert found[:4] == [" sits on the mat", " sits on the mat.", " sits on the", " sit on "]
    greedy = list(model.generate(model.vocabulary.encode(["the"]), 5, temperature=0, exclude=[0]))
    assert found[4] == " " + model.vocabulary.detokenize(greedy).split("\n")[0]
    sampled = [("the", {"until": [], "max_gen_toks": 40, "do_sample": True})]
    first, second = (ours.generate_until(requests("generate_until", *sampled)) for _ in range(2))
    assert first == second
    with pytest.raises(ValueError, match=r"generation knows the settings until, .*, but not 'top_p'"):
        ours.generate_until(requests("generate_until", ("the", {"top_p": 0.9})))


def test_pieces_of_words(saffu_lm_eval):
    pytest.importorskip("tokenizers")
    model = trained(SubwordTokenizer.train_bpe([subwords.TEXT, TEXT], vocab_size=330))
    ours = saffu_lm_eval.HarnessModel(model)
    ids = model.vocabulary.encode_text("the café")[0]
    [whole] = ours.loglikelihood_rolling(requests("loglikelihood_rolling", ("the café",)))
    [(rest, _)] = ours.loglikelihood(requests("loglikelihood", ("the", " café")))
    n_before = model.vocabulary.encode_text("the")[0].size
    assert 0 < n_before < ids.size
    assert rest == pytest.approx(whole - model.log_prob(ids[:n_before]).sum())
    [text] = ours.generate_until(requests("generate_until", ("the cat", {"until": ["\n"], "max_gen_toks": 60})))
    assert text == " sits on the mat ."


def test_answers_can_be_kept(ours):
    kept = []
    ours.set_cache_hook(type("Hook", (), {"add_partial": lambda self, *what: kept.append(what)})())
    [answer] = ours.loglikelihood(requests("loglikelihood", ("the", " cat")))
    [rolling] = ours.loglikelihood_rolling(requests("loglikelihood_rolling", ("the",)))
    [text] = ours.generate_until(requests("generate_until", ("the", {"max_gen_toks": 1})))
    assert kept == [
        ("loglikelihood", ("the", " cat"), answer),
        ("loglikelihood_rolling", ("the",), rolling),
        ("generate_until", ("the", {"max_gen_toks": 1}), text),
    ]


# ---- an evaluation ---------------------------------------------------------------------------------------------------


def documents():
    import datasets

    rows = [
        {"start": "the cat", "choices": ["sits on the mat", "sit on the mat"], "label": 0, "text": "the cat sits ."},
        {"start": "the dogs", "choices": ["sits on the mat", "sit on the mat"], "label": 1, "text": "the dogs sit ."},
        {"start": "the dogs", "choices": ["sit on the mat", "sits on the mat"], "label": 1, "text": "on the mat ."},
    ]
    return {"test": datasets.Dataset.from_list(rows)}


SHARED = {"custom_dataset": lambda **_: documents(), "test_split": "test", "num_fewshot": 0}
TASKS = {
    "agreement": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{start}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    },
    "text": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "word_perplexity", "aggregation": "weighted_perplexity"}],
    },
    "ends": {
        "output_type": "generate_until",
        "doc_to_text": "{{start}}",
        "doc_to_target": "{{choices[label]}}",
        "generation_kwargs": {"until": [" ."], "max_gen_toks": 9, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    },
}


@pytest.mark.filterwarnings("ignore")
def test_the_harness_evaluates_tasks(harness, saffu_lm_eval, model, tmp_path, monkeypatch):
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    model.save(tmp_path / "model")
    tasks = [{"task": name, **SHARED, **settings} for name, settings in TASKS.items()]
    found = harness.simple_evaluate(
        model="saffu",
        model_args={"path": str(tmp_path / "model")},
        tasks=tasks,
        bootstrap_iters=0,
        task_manager=harness.tasks.TaskManager(include_defaults=False),  # its thousands of tasks take long to read
    )["results"]
    assert found["agreement"]["acc,none"] == pytest.approx(2 / 3)
    texts = [row["text"] for row in documents()["test"]]
    log_prob = sum(model.log_prob(model.vocabulary.encode_text(text)[0]).sum() for text in texts)
    words = sum(len(text.split()) for text in texts)
    assert found["text"]["word_perplexity,none"] == pytest.approx(np.exp(-log_prob / words))
    assert found["ends"]["exact_match,none"] == 0  # what is generated begins with a space


# ---- mistakes --------------------------------------------------------------------------------------------------------


def test_mistakes_are_named(saffu_lm_eval, model, tmp_path):
    saffu.SoftmaxLayer().fit(np.eye(3), [0, 1, 2]).save(tmp_path / "layer")
    with pytest.raises(ValueError, match="path must be of a language model, got one of SoftmaxLayer"):
        saffu_lm_eval.HarnessModel(tmp_path / "layer")
    with pytest.raises(FileNotFoundError):
        saffu_lm_eval.HarnessModel(tmp_path / "nowhere")
    bare = saffu.ExplicitLM(order=2, windows=(), induction=0).fit([0, 1])
    with pytest.raises(ValueError, match="the model must have a vocabulary"):
        saffu_lm_eval.HarnessModel(bare)


def test_a_missing_library_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "saffu.lm_eval", raising=False)
    with pytest.raises(ImportError, match=r"^lm-eval is not installed; pip install 'saffu\[eval\]' installs it$"):
        importlib.import_module("saffu.lm_eval")
