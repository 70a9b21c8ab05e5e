"""The arithmetic of strategies, the choice between them, and what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hfscale.cli import main
from hfscale.errors import ModelError, SettingsError
from hfscale.launch.plan.architecture import num_layers, num_parameters
from hfscale.launch.plan.gpus import GPUS
from hfscale.launch.plan.sources import _Vocabulary, model_workload, recipe_workload
from hfscale.launch.plan.strategies import Strategy, all_strategies
from hfscale.launch.plan.time_and_cost import default_nodes
from hfscale.launch.plan.timeline import PARTS
from hfscale.models import load_seq2seq_model, load_text_classifier
from hfscale.models.quantization import num_bytes
from hfscale.schemas import LoraSettings, ModelSettings, Seq2SeqModelSettings, TextPairSettings
from tests.support.chat import write_tiny_gpt
from tests.support.commands import ROOT
from tests.support.tiny import reviews, write_csv
from tests.unit.launch.plan.test_memory import workload


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "config.json"
    path.write_text(json.dumps(workload("llama", layers=1).config.to_dict() | {"architectures": ["LlamaForCausalLM"]}))
    return path


def plan(capsys: Any, *words: Any) -> dict[str, Any]:
    main(["plan", *map(str, words), "--json"])
    return json.loads(capsys.readouterr().out)


def test_sixteen_bytes_per_weight_over_the_gpus() -> None:
    """Rajbhandari et al. 2020, figure 1: 7.5 B weights on 64 GPUs take 1.9 GB under ZeRO-3. Stages 1 and 2 take more
    here than there (31.4 and 16.6), where weights and gradients are in 16 bits."""
    training, number = workload("llama"), 7_500_000_000
    sizes = {}
    for stage in (1, 2, 3):
        way = Strategy(name=f"zero{stage}", zero_stage=stage)  # type: ignore[arg-type]
        extra = way.extra(training, number, number, 64)[0]
        weights, gradients, *_ = way.factors(64) * 4 * number
        sizes[stage] = (weights + gradients + extra[: PARTS.index("activations")].sum()) / 1e9
    assert sizes == pytest.approx({1: 60 + 12 * 7.5 / 64, 2: 30 + 16 * 7.5 / 64, 3: 1.9}, abs=0.05)


def test_json_has_the_same_keys_always(config: Path, capsys: Any) -> None:
    found = plan(capsys, "--model", config, "--gpus", 2, "--gpu", "rtx4090", "--tokens", 1e6, "--price", 1)
    assert set(found) == {"model", "workload", "cluster", "strategies", "recommended", "why"}
    assert [row["name"] for row in found["strategies"]] == [way.title for way in all_strategies()]
    keys = {frozenset(row) for row in found["strategies"]}
    assert len(keys) == 1
    best = next(row for row in found["strategies"] if row["name"] == found["recommended"])
    assert best["fits"] and best["total_bytes"] == pytest.approx(sum(best["memory_bytes"].values()), abs=5)
    assert best["cost"] == pytest.approx(best["run_hours"] * 2)


def test_yaml_loads_in_accelerate(config: Path, tmp_path: Path) -> None:
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

    from hfscale.launch.plan.accelerate_config import accelerate_yaml
    from hfscale.launch.plan.plan import Plan, Row
    from hfscale.launch.plan.time_and_cost import Cluster

    cluster = Cluster(gpu=GPUS["h100"], num_gpus=8, num_nodes=1)
    for way in all_strategies():
        row = Row(way, True, dict.fromkeys(PARTS, 1.0), 0, 1, 1, 4, None, None)
        path = tmp_path / f"{way.name}.yaml"
        path.write_text(accelerate_yaml(Plan(workload("llama"), cluster, 1, 1.0, [row], row, ""), row))
        loaded: Any = load_config_from_file(str(path))
        assert isinstance(loaded, ClusterConfig)
        assert loaded.num_processes == 8 and loaded.mixed_precision == "bf16"
        assert loaded.distributed_type == ("DEEPSPEED" if way.zero_stage else "MULTI_GPU")
        if way.zero_stage:
            assert loaded.deepspeed_config["zero_stage"] == way.zero_stage


def test_recipe_with_its_settings(tiny_model: Path, tmp_path: Path, capsys: Any) -> None:
    recipe = ["recipes/finetune_bert.py", "--model.name", tiny_model, "--train.max_steps", 7]
    output, picture = tmp_path / "plan.yaml", tmp_path / "plan.png"
    found = plan(capsys, *recipe, "--gpus", 2, "--output", output, "--picture", picture)
    assert found["workload"] | {"num_steps": 7, "sequence_length": 64, "global_batch_size": 32} == found["workload"]
    assert output.is_file() and picture.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--model", "CONFIG", "--gpu", "rtx409"], ["--gpu rtx409", "rtx4090"]),
        (["--model", "CONFIG", "--gpus", "3", "--global_batch_size", "32"], ["32", "3 GPUs", "33 can"]),
        (["--model", "CONFIG", "--seqence_length", "9"], ["--seqence_length", "--sequence_length"]),
        (["--model", "CONFIG", "--gpu", "t4", "--precision", "bf16"], ["T4", "fp32"]),
        (["--model", "/nowhere/config.json"], ["/nowhere/config.json"]),
        ([], ["--model"]),
        (["recipes/none.py"], ["recipes/none.py"]),
        (["recipes/pretrain_gpt.py", "--optim.learning_rat", "1"], ["optim.learning_rat", "optim.lr"]),
        (["recipes/pretrain_gpt.py", "--sequence_length", "9"], ["--data.max_length"]),
        (["recipes/train_cnn.py"], ["fits anywhere"]),
        (["--model", "CONFIG", "--tokens", "nan"], ["--tokens must be a number"]),
        (["--model", "CONFIG", "--tokens", "inf"], ["--tokens must be a number"]),
        (["--model", "CONFIG", "--price", "nan"], ["--price must be a number"]),
        (["--model", "CONFIG", "--lora_rank", "9999999"], ["--lora_rank 9999999", "width"]),
        (["--model", "CONFIG", "--gpus", "9", "--nodes", "2"], ["9 GPUs can't be shared evenly by 2 nodes"]),
        (["--model", "ODD"], ["xlnet", "can't be measured"]),
        (["BROKEN"], ["can't be read: RuntimeError: no such thing"]),
    ],
)
def test_mistakes_end_in_one_line(
    words: list[str], parts: list[str], config: Path, capsys: Any, tmp_path: Path
) -> None:
    files = {"CONFIG": config, "ODD": tmp_path / "config.json", "BROKEN": tmp_path / "broken.py"}
    files["ODD"].write_text('{"model_type": "xlnet", "d_model": 32, "n_head": 2, "n_layer": 1, "d_inner": 32}')
    files["BROKEN"].write_text("raise RuntimeError('no such thing')\n")
    with pytest.raises(SystemExit) as stopped:
        main(["plan", *(str(files.get(word, word)) for word in words)])
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


def test_8_bits_of_state_are_not_shared_out(config: Path, capsys: Any) -> None:
    eight = plan(capsys, "--model", config, "--sequence_length", 32, "--optimizer", "adamw8bit")
    rows = {row["name"]: row for row in eight["strategies"]}
    assert {rows[name]["why_not"] for name in ("zero1", "zero3")} == {"adamw8bit can't be shared out"}
    state = rows["ddp"]["memory_bytes"]["optimizer"]
    assert rows["ddp"]["fits"] and state == pytest.approx(2 * eight["model"]["num_parameters"], rel=0.1)


def test_what_fits_nowhere_says_what_is_needed(config: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GPUS, "t4", GPUS["t4"]._replace(memory_gib=0.001))
    with pytest.raises(SystemExit) as stopped:
        main(["plan", "--model", str(config), "--gpu", "t4"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "fits nowhere" in error and "needs GPUs of" in error


def test_the_table_says_what_to_run(
    config: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only the CPU's memory is enough, how much of it, too."""
    way = next(way for way in all_strategies() if way.offload_weights and way.checkpointing)
    monkeypatch.setattr("hfscale.launch.plan.plan.all_strategies", lambda: [way])
    main(["plan", "--model", str(config), "--sequence_length", "32", "--output", str(tmp_path / "launch.yaml")])
    found = capsys.readouterr()
    lines = {line.split()[0]: line for line in found.out.splitlines()}
    assert "GiB of CPU memory in each machine" in lines["take"] and "largest: sequences per pass" in lines["columns"]
    flags = lines["with"].split(maxsplit=1)[1]
    assert flags == "--train.micro_batch_size 32 --train.activation_checkpointing true"
    assert f"RECIPE {flags}" in (tmp_path / "launch.yaml").read_text() and "wrote" in found.err


def test_nodes_share_the_gpus_evenly() -> None:
    assert [default_nodes(number) for number in (1, 7, 8, 9, 16, 12)] == [1, 1, 1, 3, 2, 2]


def test_an_adapter_of_the_settings_is_the_one_planned(tiny_model: Path, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("peft", reason="needs the extra `peft`")
    rows = write_csv(tmp_path / "rows.csv", reviews(20))
    words = ["recipes/finetune_bert.py", "--model.name", tiny_model, "--data.train", rows, "--lora.r", 4]
    found = {}
    for name, more in (("lora", []), ("qlora", ["--quant.bits", 4])):
        capsys.readouterr()
        planned = plan(capsys, *words, *more)
        assert {row["name"].split()[0] for row in planned["strategies"]} == {name}
        assert planned["recommended"] == name and "as the settings say" in planned["why"]
        found[name] = planned["strategies"][0]["memory_bytes"]["weights"]
    assert found["qlora"] < found["lora"]
    # Recipes hold frozen weights in float32, whatever they compute with.
    classifier = load_text_classifier(
        ModelSettings(name=str(tiny_model)), "single_label_classification", ("0", "1"), 0, LoraSettings(r=4)
    )
    held = sum(map(num_bytes, classifier.model.parameters()))
    assert found["lora"] == pytest.approx(held, rel=0.02)
    with pytest.raises(SystemExit):
        main(["plan", *map(str, words), "--lora_rank", "8"])
    assert "--lora_rank has no effect beside the recipe's own --lora" in capsys.readouterr().err


def test_a_pair_of_answers_is_a_sequence_of_both(tmp_path: Path) -> None:
    words = [
        "--model.name",
        str(write_tiny_gpt(tmp_path / "gpt")),
        "--data.train",
        "x.jsonl",
        "--data.max_length",
        "48",
    ]
    pairs = recipe_workload(ROOT / "recipes" / "align_gpt.py", words, "fp32", None)
    assert pairs.sequence_length == 2 * 48 and pairs.lora is not None
    answers = recipe_workload(ROOT / "recipes" / "finetune_gpt.py", words, "fp32", None)
    assert answers.sequence_length == 48 and answers.lora is None


SEQ2SEQ = ROOT / "recipes" / "finetune_seq2seq.py"


@pytest.mark.parametrize("kind", ["marian", "t5"])
def test_a_new_encoder_decoder_is_the_one_that_the_recipe_makes(kind: str, tmp_path: Path) -> None:
    shape = ["--model.type", kind, "--model.hidden_size", "32", "--model.num_layers", "1"]
    words = [*shape, "--tokenizer.vocab_size", "300", "--data.train", "x.csv", "--data.max_length", "12"]
    planned = recipe_workload(SEQ2SEQ, [*words, "--data.max_target_length", "16"], "fp32", 7)
    assert (planned.sequence_length, planned.target_length, planned.label_smoothing) == (12, 16, 0.1)
    tokenizer = _Vocabulary(300)
    settings = Seq2SeqModelSettings(type=kind, hidden_size=32, num_layers=1)  # type: ignore[arg-type]
    data = TextPairSettings(train="x.csv", max_length=12, max_target_length=16)
    model = load_seq2seq_model(settings, tokenizer, data, 0).model  # type: ignore[arg-type]
    assert num_parameters(planned) == sum(each.numel() for each in model.parameters())


def test_an_encoder_decoder_by_its_config(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(workload("t5", layers=1).config.to_dict()))
    found = plan(capsys, "--model", path, "--sequence_length", 32, "--tokens", 1e6)
    assert found["model"]["objective"] == "seq2seq"
    assert found["workload"]["target_length"] == 32 and found["workload"]["num_steps"] == round(1e6 / (32 * 64))
    assert found["recommended"] == "ddp"


def test_encoder_decoders_that_are_not_known_are_refused_by_name(tmp_path: Path) -> None:
    config = workload("t5", layers=1).config.to_dict()
    for model_type, more, said in (
        ("t5", {}, "--objective causal does not fit"),
        ("switch_transformers", {"num_experts": 4}, "no experts in encoder-decoders"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, **more, "model_type": model_type}))
        with pytest.raises((SettingsError, ModelError), match=said):
            num_layers(model_workload(str(tmp_path), "causal" if not more else None, 8, global_batch_size=1).config)
    words = ["--model.name", str(tmp_path), "--data.train", "x.csv"]
    (tmp_path / "config.json").write_text(json.dumps(workload("bert").config.to_dict()))
    with pytest.raises(ModelError, match="is no encoder-decoder but a bert"):
        recipe_workload(SEQ2SEQ, words, "fp32", None)
    (tmp_path / "config.json").write_text(json.dumps(workload("marian").config.to_dict()))
    with pytest.raises(ModelError, match=r"--data.max_length 128 is more than the 64 positions"):
        recipe_workload(SEQ2SEQ, words, "fp32", None)
