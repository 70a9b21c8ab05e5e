"""Encoder-decoders are refused by name where they can't be pruned or written as ONNX, before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import BartConfig, BartForConditionalGeneration, MarianConfig, MarianMTModel, T5Config
from transformers import T5ForConditionalGeneration as T5Model

from hfscale.cli import main

SHAPE = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
SHAPE |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": 40}
MODELS = {
    "MarianMTModel": lambda: MarianMTModel(MarianConfig(**SHAPE, pad_token_id=0, decoder_start_token_id=0)),
    "BartForConditionalGeneration": lambda: BartForConditionalGeneration(BartConfig(**SHAPE)),
    "T5ForConditionalGeneration": lambda: T5Model(T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, vocab_size=40)),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("adapter", [False, True])
def test_they_are_refused_in_one_line(
    name: str, adapter: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    MODELS[name]().save_pretrained(run / "model")
    (run / "config.yaml").write_text(json.dumps({"data": {"train": "pairs.csv"}}))
    if adapter:
        (run / "model" / "model.safetensors").rename(run / "model" / "adapter_model.safetensors")
        (run / "model" / "adapter_config.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    wanted: list[list[object]] = [["export", run, "--format", "onnx"], ["prune", run, "--sparsity", 0.5]]
    wanted.append(["prune", run, "--sparsity", 0.5, "--method", "movement"])
    for words in wanted:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words)])
        printed = capsys.readouterr().err
        why = "what can be pruned are " if words[0] == "prune" else "--format onnx writes models of one stack alone"
        assert ended.value.code == 2 and printed.count("\n") == 1, printed
        assert printed.startswith(f"error: {run}/model holds an encoder-decoder ({name}); {why}")
    assert sorted(tmp_path.rglob("*")) == before
