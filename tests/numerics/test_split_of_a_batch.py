"""The same global batches give the same training, however they are split over processes and micro-batches."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.commands import DDP, FINETUNE_BERT, launch, records, result, run
from tests.support.tiny import reviews, write_csv, write_tiny_bert

STEPS = 20
# 50 examples in batches of 8: the seventh step of an epoch has 2 examples, fewer than its 4 micro-batches.
NUM_EXAMPLES, GLOBAL_BATCH = 50, 8


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("splits")
    model = write_tiny_bert(folder / "bert", dropout=0.0)
    rows = write_csv(folder / "rows.csv", reviews(NUM_EXAMPLES))
    settings = ["--model.name", model, "--data.train", rows, "--data.validation", rows, "--optim.lr", "5e-3"]
    settings += ["--train.max_steps", STEPS, "--train.global_batch_size", GLOBAL_BATCH, "--train.log_steps", "1"]
    settings += ["--train.eval_steps", STEPS, "--baselines", "false"]
    done = {}
    for name, launcher, micro in (("1x1", None, 8), ("1x4", None, 2), ("2x2", DDP, 2)):
        words = [FINETUNE_BERT, *settings, "--train.output_dir", folder / name, "--train.micro_batch_size", micro]
        finished = launch(launcher, *words) if launcher else run(*words)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        done[name] = folder / name
    return done


@pytest.mark.parametrize("split", ["1x4", "2x2"])
def test_losses_gradients_and_weights_are_equal(runs: dict[str, Path], split: str) -> None:
    whole, other = records(runs["1x1"]), records(runs[split])
    assert len(whole) == len(other) == STEPS
    for a, b in zip(whole, other, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)
        assert a["lr"] == b["lr"]
    assert whole[0]["loss"] > whole[-1]["loss"], "nothing was learned: the comparison would say little"
    weights, other_weights = (load_file(runs[name] / "model" / "model.safetensors") for name in ("1x1", split))
    for name, weight in weights.items():
        torch.testing.assert_close(weight, other_weights[name], atol=1e-5, rtol=0, msg=name)


def test_metrics_count_each_held_out_example_once(runs: dict[str, Path]) -> None:
    assert result(runs["2x2"])["num_processes"] == 2
    metrics = {name: result(folder)["metrics"] for name, folder in runs.items()}
    assert metrics["2x2"] == pytest.approx(metrics["1x1"], abs=1e-5)
    assert metrics["1x4"] == pytest.approx(metrics["1x1"], abs=1e-5)


def test_every_run_trains_on_the_same_number_of_tokens(runs: dict[str, Path]) -> None:
    totals = {
        name: round(result(folder)["tokens_per_second"] * result(folder)["train_seconds"])
        for name, folder in runs.items()
    }
    assert len(set(totals.values())) == 1
