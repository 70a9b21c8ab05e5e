"""Settings that can't go together are refused, with the flag and the way out."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hfscale.schemas import (
    METRICS,
    CausalModelSettings,
    CorpusSettings,
    DataSettings,
    MaskedModelSettings,
    MaskSettings,
    OptimSettings,
    SampleSettings,
    TokenizerSettings,
    TrainSettings,
    check_metric,
    check_samples,
    check_task,
    check_tokenizer,
    with_length,
)


@pytest.mark.parametrize(
    "block, given, named",
    [
        (OptimSettings, {"momentum": 0.9}, "--optim.momentum has no effect with --optim.name adamw"),
        (OptimSettings, {"momentum": 0.0}, "--optim.momentum has no effect with --optim.name adamw"),
        (OptimSettings, {"nesterov": True}, "--optim.nesterov has no effect"),
        (OptimSettings, {"name": "sgd", "betas": (0.9, 0.99)}, "--optim.betas has no effect with --optim.name sgd"),
        (OptimSettings, {"name": "sgd", "eps": 1e-8}, "--optim.eps has no effect"),
        (OptimSettings, {"name": "sgd", "nesterov": True, "momentum": 0.0}, "--optim.nesterov needs"),
        (OptimSettings, {"lr": 0.0}, "--optim.lr"),
        (OptimSettings, {"lr": float("nan")}, "--optim.lr"),
        (OptimSettings, {"weight_decay": -0.1}, "--optim.weight_decay"),
        (OptimSettings, {"warmup_steps": 1.5}, "--optim.warmup_steps"),
        (OptimSettings, {"warmup_steps": -1}, "--optim.warmup_steps"),
        (OptimSettings, {"max_grad_norm": 0.0}, "--optim.max_grad_norm"),
        (
            DataSettings,
            {"validation": "v.csv", "validation_fraction": 0.2},
            "--data.validation_fraction has no effect",
        ),
        (DataSettings, {"validation": "v.csv", "split_seed": 1}, "--data.split_seed has no effect"),
        (DataSettings, {"label": ["a", "b"], "label_separator": ","}, "--data.label_separator has no effect"),
        (DataSettings, {"validation_fraction": 1.0}, "--data.validation_fraction"),
        (DataSettings, {"validation_fraction": -0.1}, "--data.validation_fraction"),
        (DataSettings, {"text": ["a", "b", "c"]}, "--data.text"),
        (DataSettings, {"text": []}, "--data.text"),
        (DataSettings, {"max_length": 3}, "--data.max_length"),
        (DataSettings, {"delimiter": "||"}, "--data.delimiter"),
        (DataSettings, {"delimiter": ""}, "--data.delimiter"),
        (TrainSettings, {"epochs": 1, "max_steps": 1}, "choose one"),
        (TrainSettings, {"epochs": 0}, "--train.epochs"),
        (TrainSettings, {"max_steps": 0}, "--train.max_steps"),
        (TrainSettings, {"micro_batch_size": 0}, "--train.micro_batch_size"),
        (TrainSettings, {"global_batch_size": 0}, "--train.global_batch_size"),
        (TrainSettings, {"eval_batch_size": 0}, "--train.eval_batch_size"),
        (TrainSettings, {"log_steps": 0}, "--train.log_steps"),
    ],
)
def test_a_block_refuses(block: type, given: dict[str, Any], named: str) -> None:
    needed = {DataSettings: {"train": "t.csv"}, TrainSettings: {"output_dir": "x"}}.get(block, {})
    with pytest.raises(ValueError) as caught:
        block(**needed, **given)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "task, data, train, named",
    [
        ("single_label_classification", {"label_separator": ","}, {}, "--data.label_separator has no effect"),
        ("regression", {"label_separator": ","}, {}, "--data.label_separator has no effect"),
        ("single_label_classification", {"label": ["a", "b"]}, {}, "--data.label with several columns"),
        ("regression", {}, {"best_metric": "accuracy"}, "pearson, spearman, mse, loss"),
        ("multi_label_classification", {}, {"best_metric": "f1"}, "f1_micro"),
    ],
)
def test_a_task_refuses(task: Any, data: dict[str, Any], train: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_task(task, DataSettings(train="t.csv", **data), TrainSettings(output_dir="x", **train))
    assert named in str(caught.value)


def test_what_goes_together_is_taken() -> None:
    train = TrainSettings(output_dir="x", best_metric="f1_macro")
    check_task("multi_label_classification", DataSettings(train="t", label_separator=","), train)
    check_task("multi_label_classification", DataSettings(train="t", label=["a", "b"]), train)
    OptimSettings(name="sgd", momentum=0.5, nesterov=True, warmup_steps=100)
    DataSettings(train="t", validation_fraction=0)


def test_the_metrics_that_settings_know_are_those_that_are_measured() -> None:
    from hfscale.evaluation.metrics import compute_metrics

    rows: dict[Any, Any] = {
        "single_label_classification": [0, 1, 1],
        "multi_label_classification": [[0, 1], [1, 1]],
        "regression": [0.5, 1.0],
        "token_classification": [["B-X", "O"]],
    }
    for task, names in METRICS.items():
        right, given = ([["a"]], ["a"]) if task == "question_answering" else (rows[task], rows[task])
        assert (*compute_metrics(task, given, right, 2), "loss") == names


def test_the_home_folder_is_meant_by_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert TrainSettings(output_dir="~/run").output_dir == "/home/someone/run"


@pytest.mark.parametrize(
    "block, values",
    [
        (OptimSettings, {"betas": (2.0, -1.0)}),
        (OptimSettings, {"eps": -1.0}),
        (OptimSettings, {"lr": math.inf}),
        (OptimSettings, {"name": "sgd", "momentum": -0.5}),
        (TrainSettings, {"output_dir": "x", "seed": -1}),
        (TrainSettings, {"output_dir": "x", "epochs": math.inf}),
    ],
)
def test_values_that_no_run_can_use(block: Any, values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"--.*{list(values)[-1]}"):
        block(**values)


@pytest.mark.parametrize(
    "block, given, named",
    [
        (CorpusSettings, {"max_length": 7}, "--data.max_length must be at least 8"),
        (CorpusSettings, {"max_documents": 1}, "--data.max_documents must be at least 2"),
        (CorpusSettings, {"validation": "v.txt", "split_seed": 1}, "--data.split_seed has no effect"),
        (TokenizerSettings, {"name": "x", "kind": "bpe"}, "--tokenizer.kind has no effect when --tokenizer.name"),
        (TokenizerSettings, {"name": "x", "vocab_size": 300}, "--tokenizer.vocab_size has no effect"),
        (TokenizerSettings, {"name": "x", "lowercase": False}, "--tokenizer.lowercase has no effect"),
        (TokenizerSettings, {"kind": "bpe", "lowercase": True}, "--tokenizer.lowercase has no effect"),
        (TokenizerSettings, {"kind": "bpe", "vocab_size": 257}, "--tokenizer.vocab_size must be at least 258"),
        (TokenizerSettings, {"vocab_size": 63}, "--tokenizer.vocab_size must be at least 64"),
        (MaskedModelSettings, {"name": "x", "type": "bert"}, "--model.type has no effect"),
        (MaskedModelSettings, {"hidden_size": 0}, "--model.hidden_size must be at least 1"),
        (MaskedModelSettings, {"dropout": 1.0}, "--model.dropout must be in [0, 1)"),
        (MaskedModelSettings, {"dropout": -0.1}, "--model.dropout must be in [0, 1)"),
        (CausalModelSettings, {"name": "x", "type": "gpt2"}, "--model.type has no effect"),
        (CausalModelSettings, {"num_kv_heads": 2}, "--model.num_kv_heads has no effect without --model.type"),
        (CausalModelSettings, {"name": "x", "num_kv_heads": 2}, "--model.num_kv_heads has no effect"),
        (CausalModelSettings, {"type": "llama", "num_kv_heads": 0}, "--model.num_kv_heads must be at least 1"),
        (CausalModelSettings, {"revision": "main"}, "--model.revision has no effect without --model.name"),
        (MaskedModelSettings, {"trust_remote_code": True}, "--model.trust_remote_code has no effect without"),
        (MaskSettings, {"fraction": 0.0}, "--mask.fraction"),
        (MaskSettings, {"fraction": 1.0}, "--mask.fraction"),
        (SampleSettings, {"max_new_tokens": -1}, "--samples.max_new_tokens"),
        (SampleSettings, {"temperature": -0.1}, "--samples.temperature"),
        (SampleSettings, {"max_new_tokens": 0, "prompts": ["The"]}, "--samples.prompts and --samples.temperature"),
    ],
)
def test_a_block_of_pretraining_refuses(block: type, given: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError) as caught:
        block(**({"train": "t.txt"} if block is CorpusSettings else {}), **given)
    assert named in str(caught.value)


@pytest.mark.parametrize("name", ["hidden_size", "num_layers", "num_heads", "intermediate_size", "dropout"])
def test_the_shape_of_a_model_that_has_one(name: str) -> None:
    value: Any = 0.0 if name == "dropout" else 4
    with pytest.raises(ValueError, match=f"--model.{name} has no effect when --model.name is given"):
        MaskedModelSettings(name="x", **{name: value})


def test_settings_of_a_tokenizer_beside_a_model() -> None:
    model = CausalModelSettings(name="x")
    for tokenizer in (
        TokenizerSettings(vocab_size=300),
        TokenizerSettings(kind="bpe"),
        TokenizerSettings(lowercase=True),
    ):
        with pytest.raises(ValueError, match=r"has no effect when --model.name is given: the model brings its own"):
            check_tokenizer(model, tokenizer)
        check_tokenizer(CausalModelSettings(), tokenizer)
    check_tokenizer(model, TokenizerSettings(name="y"))


def test_samples_without_an_evaluation() -> None:
    held_out, none = CorpusSettings(train="t.txt"), CorpusSettings(train="t.txt", validation_fraction=0.0)
    check_samples(held_out, SampleSettings(prompts=["The"]))
    check_samples(none, SampleSettings())
    with pytest.raises(ValueError, match=r"--samples has no effect when --data.validation_fraction is 0"):
        check_samples(none, SampleSettings(prompts=["The"]))


def test_a_recipes_own_length_holds_where_none_is_given() -> None:
    assert with_length(TrainSettings(output_dir="x"), max_steps=100).max_steps == 100
    given = TrainSettings(output_dir="x", epochs=2)
    assert with_length(given, max_steps=100) is given


def test_metrics_of_a_language_model() -> None:
    for name in (None, "bits_per_byte", "perplexity", "loss"):
        check_metric(TrainSettings(output_dir="x", best_metric=name))
    with pytest.raises(ValueError, match=r"--train.best_metric accuracy is not measured here; there are bits"):
        check_metric(TrainSettings(output_dir="x", best_metric="accuracy"))
