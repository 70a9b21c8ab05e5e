"""However a run ends, the same command goes on exactly where it was: same order, same metrics, same bits."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hfscale.cli import main
from tests.support.commands import ROOT, records, result
from tests.support.language import sentences, write_lines
from tests.support.pictures import bars, write_folder
from tests.support.tiny import reviews, write_csv, write_tiny_bert
from tests.support.warm import WarmRun

CLOCK = ("samples_per_second", "tokens_per_second", "matmul_peak_fraction")
STEPS = 17


def bert(folder: Path) -> list[Any]:
    """50 examples in batches of 8: 7 steps an epoch, the last with 2 examples."""
    rows = write_csv(folder / "rows.csv", reviews(50))
    words = ["finetune_bert.py", "--model.name", write_tiny_bert(folder / "bert"), "--data.train", rows]
    return [*words, "--data.validation", rows, "--optim.lr", "5e-3", "--baselines", "false", "--train.eval_steps", 6]


def gpt(folder: Path) -> list[Any]:
    lines = write_lines(folder / "lines.txt", sentences(60))
    words = ["pretrain_gpt.py", "--data.train", lines, "--data.documents", "line", "--data.max_length", 32]
    words += ["--model.hidden_size", 16, "--model.num_layers", 1, "--model.num_heads", 2, "--model.dropout", 0.1]
    return [*words, "--tokenizer.vocab_size", 300, "--samples.max_new_tokens", 4, "--train.eval_steps", 6]


def cnn(folder: Path) -> list[Any]:
    images = write_folder(folder / "images", *bars(60))
    words = ["train_cnn.py", "--data.train", images, "--augment.shift", 0.1, "--model.dropout", 0.2]
    return [*words, "--baselines", "false", "--train.eval_steps", 6]


RECIPES = {"finetune_bert": bert, "pretrain_gpt": gpt, "train_cnn": cnn}


class Training:
    """One command, run under several circumstances."""

    def __init__(self, folder: Path, words: list[Any]) -> None:
        recipe, *flags = words
        self.folder = folder
        self.words = [ROOT / "recipes" / recipe, *flags, "--train.max_steps", STEPS, "--train.log_steps", 1]
        self.words += ["--train.global_batch_size", 8, "--train.micro_batch_size", 2]

    def begin(self, name: str, *more: Any, **hooks: Any) -> WarmRun:
        trace = self.folder / f"{name}.trace"
        words = (*self.words, "--train.output_dir", self.folder / name, *more)
        return WarmRun(
            words, self.folder / f"{name}-{len(list(self.folder.iterdir()))}", {"trace": str(trace), **hooks}
        )

    def run(self, name: str, *more: Any, **hooks: Any) -> Any:
        return self.begin(name, *more, **hooks).wait()

    def steps_of_last(self, name: str) -> list[str]:
        """Lines of the trace that the last run of this name added."""
        lines = (self.folder / f"{name}.trace").read_text().splitlines()
        return lines[STEPS:]

    def order(self, name: str) -> dict[int, Any]:
        """What each step learned from; a step that was made twice counts as made last."""
        lines = (self.folder / f"{name}.trace").read_text().splitlines()
        steps: dict[int, Any] = {}
        known = self.reference_order
        for line in lines:
            rows = json.loads(line)
            steps[known.index(rows)] = rows
        return steps

    @property
    def reference_order(self) -> list[Any]:
        return [json.loads(line) for line in (self.folder / "reference.trace").read_text().splitlines()]

    def assert_equal(self, name: str, other: str = "reference") -> None:
        """The same weights, and the same metrics but for what the clock says."""
        weights, others = (load_file(self.folder / run / "model" / "model.safetensors") for run in (name, other))
        assert weights.keys() == others.keys()
        for key, weight in weights.items():
            assert torch.equal(weight, others[key]), key
        assert without_clock(self.folder / name) == without_clock(self.folder / other)
        assert result(self.folder / name)["metrics"] == result(self.folder / other)["metrics"]
        assert result(self.folder / name)["best_step"] == result(self.folder / other)["best_step"]


def without_clock(run: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key not in CLOCK} for record in records(run)]


@pytest.fixture(scope="module", params=list(RECIPES))
def training(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Training:
    folder = tmp_path_factory.mktemp(request.param)
    made = Training(folder, RECIPES[request.param](folder))
    finished = made.run("reference")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert len(made.reference_order) == STEPS
    return made


def test_killed_twice_is_as_if_never_stopped(training: Training) -> None:
    """With accumulation, dropout, and both kills behind a checkpoint, in another epoch each."""
    killed = [training.run("killed", "--train.save_steps", 3, signal_in_training=("SIGKILL", n)) for n in (21, 30)]
    assert [end.returncode for end in killed] == [-9, -9]
    assert "resumed    from step-000003; 17 steps in all" in killed[1].stdout
    finished = training.run("killed", "--train.save_steps", 3)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "resumed    from step-000009; 17 steps in all" in finished.stdout
    training.assert_equal("killed")
    assert result(training.folder / "killed")["resumed_from"] == "step-000009"
    assert list(training.order("killed").values()) == training.reference_order
    rates = result(training.folder / "killed")
    assert rates["samples_per_second"] * rates["train_seconds"] == pytest.approx(
        result(training.folder / "reference")["samples_per_second"]
        * result(training.folder / "reference")["train_seconds"]
    )


def test_told_to_stop_between_micro_batches(training: Training) -> None:
    """The step that was begun is made again from its beginning, with the same random numbers."""
    stopped = training.run("told", signal_in_training=("SIGTERM", 4 * 8 + 2))
    assert stopped.returncode == 75, stopped.stdout + stopped.stderr
    assert "stopped by SIGTERM after step 8 of 17; saved in" in stopped.stderr
    assert "goes on from there" in stopped.stderr.splitlines()[-1]
    finished = training.run("told")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    training.assert_equal("told")


def test_told_to_stop_in_an_evaluation(training: Training) -> None:
    """The step stands, its evaluation is made by the process that goes on."""
    if "pretrain_gpt" in str(training.words[0]):
        hook = {"signal_in_language_evaluation": ("SIGUSR1", 0)}
    else:
        hook = {"signal_in_evaluation": ("SIGUSR1", 0)}
    stopped = training.run("evaluating", **hook)
    assert stopped.returncode == 75, stopped.stdout + stopped.stderr
    assert "stopped by SIGUSR1 after step 6 of 17; saved in" in stopped.stderr
    assert records(training.folder / "evaluating")[-1]["step"] == 5
    assert training.run("evaluating").returncode == 0
    training.assert_equal("evaluating")


def test_written_in_the_background(training: Training) -> None:
    """What is written while training goes on is what the weights were then."""
    flags = ("--train.save_steps", 2, "--train.save_in_background", "true")
    killed = training.run("background", *flags, signal_in_training=("SIGKILL", 4 * 9 + 1), slow_disk=0.05)
    assert killed.returncode == -9
    finished = training.run("background", *flags, slow_disk=0.05)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "resumed    from step-00000" in finished.stdout
    training.assert_equal("background")


@pytest.fixture(scope="module")
def bert_training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    folder = tmp_path_factory.mktemp("bert")
    made = Training(folder, bert(folder))
    assert made.run("reference").returncode == 0
    return made


def stopped_run(training: Training, name: str, *more: Any) -> Path:
    """Checkpoints after steps 3 and 6, and the end at step 7."""
    killed = training.run(name, "--train.save_steps", 3, *more, signal_in_training=("SIGKILL", 4 * 7 + 1))
    assert killed.returncode == -9, killed.stdout + killed.stderr
    return training.folder / name


def test_a_damaged_checkpoint_is_passed_over(bert_training: Training, capsys: pytest.CaptureFixture[str]) -> None:
    run = stopped_run(bert_training, "damaged")
    path = run / "checkpoints" / "step-000006" / "optimizer.safetensors"
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        main(["doctor", str(run)])
    assert ended.value.code == 1
    told = capsys.readouterr().out
    assert "step-000006  not valid: it is damaged: optimizer.safetensors has another sha256" in told
    assert "step-000003  valid: step 3 of 17" in told
    assert "next       the same command goes on from step-000003" in told and ": interrupted" in told
    finished = bert_training.run("damaged", "--train.save_steps", 3)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "step-000006 is damaged" in finished.stderr and "resumed    from step-000003" in finished.stdout
    bert_training.assert_equal("damaged")
    with pytest.raises(SystemExit) as ended:
        main(["doctor", str(run)])
    assert ended.value.code == 0
    assert "nothing left to do" in capsys.readouterr().out


def test_a_complete_run_is_not_touched(bert_training: Training) -> None:
    run = bert_training.folder / "reference"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    again = bert_training.run("reference", "--train.log_steps", 2)
    assert again.returncode == 0
    assert again.stdout.splitlines()[-1].startswith(f"done       {run} holds this run already, accuracy ")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_other_settings(bert_training: Training) -> None:
    run = stopped_run(bert_training, "other")
    refused = bert_training.run("other", "--optim.lr", "1e-3")
    assert refused.returncode == 2 and "optim.lr was 0.005, is 0.001" in refused.stderr
    rows = bert_training.folder / "rows.csv"
    content = rows.read_text()
    rows.write_text(content.replace("positive", "negative", 1))
    refused = bert_training.run("other")
    rows.write_text(content)
    assert refused.returncode == 2
    assert f"the training examples are not those that step-000006 of {run} has learned from" in refused.stderr
    finished = bert_training.run("other", "--train.micro_batch_size", 8, "--train.log_steps", 5)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "changed    train.micro_batch_size: 2 before, 8 now" in finished.stdout


def test_another_run_branches_off(bert_training: Training) -> None:
    run = stopped_run(bert_training, "trunk")
    same = bert_training.run("branch", "--train.resume", run / "checkpoints" / "step-000003")
    assert same.returncode == 0, same.stdout + same.stderr
    bert_training.assert_equal("branch")
    allowed = ("--train.allow_changes", "[optim.lr, train.max_steps]", "--optim.lr", "1e-3", "--train.max_steps", 20)
    other = bert_training.run("faster", "--train.resume", run, *allowed)
    assert other.returncode == 0, other.stdout + other.stderr
    assert "changed    optim.lr: 0.005 before, 0.001 now" in other.stdout
    (changed,) = result(bert_training.folder / "faster")["changed_settings"]
    assert changed == {"after_step": 6, "settings": {"optim.lr": [0.005, 0.001], "train.max_steps": [17, 20]}}
    card = (bert_training.folder / "faster" / "model" / "README.md").read_text()
    assert "optim.lr was 0.005 until step 6, then 0.001" in card
    assert result(bert_training.folder / "branch")["changed_settings"] == []
    assert [record["step"] for record in records(bert_training.folder / "faster")] == list(range(1, 21))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_told_to_stop_before_training(bert_training: Training, name: str) -> None:
    stopped = bert_training.run("early", signal_before_training=name)
    assert stopped.returncode == 75, stopped.stdout + stopped.stderr
    assert stopped.stderr == f"stopped by {name}; the same command starts it again\n"
    assert not (bert_training.folder / "early").exists()


def test_told_to_stop_after_the_last_step(bert_training: Training) -> None:
    """Training is over and saved; what comes after it is made by the process that goes on."""
    stopped = bert_training.run("late", signal_in_evaluation=("SIGTERM", 3))
    assert stopped.returncode == 75, stopped.stdout + stopped.stderr
    assert not (bert_training.folder / "late" / "result.json").exists()
    finished = bert_training.run("late")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "resumed    from step-000017; 17 steps in all" in finished.stdout
    assert not bert_training.steps_of_last("late")
    bert_training.assert_equal("late")


def test_metrics_that_lost_lines(bert_training: Training) -> None:
    """After a power failure the file may be shorter than it was when the checkpoint was written."""
    metrics = stopped_run(bert_training, "short") / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:500])
    finished = bert_training.run("short")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "has lost some lines before the checkpoint" in finished.stderr
    assert [record["step"] for record in records(metrics.parent)][-11:] == list(range(7, 18))


def test_two_runs_in_one_folder(bert_training: Training) -> None:
    first = bert_training.begin("shared", slow_steps=0.1)
    while not (bert_training.folder / "shared" / "metrics.jsonl").exists():
        time.sleep(0.05)
    second = bert_training.run("shared")
    assert second.returncode == 2
    assert second.stderr.startswith(f"error: {bert_training.folder / 'shared'} is in use by process {first.pid} on ")
    assert first.wait().returncode == 0
    bert_training.assert_equal("shared")


def test_a_run_that_hangs_ends(bert_training: Training) -> None:
    hung = bert_training.run("hung", "--train.stall_seconds", 8, hang_in_training=30)
    assert hung.returncode == 1
    assert "no forward pass was finished in 8 s" in hung.stderr and "in hang" in hung.stderr
    assert bert_training.run("hung").returncode == 0
    bert_training.assert_equal("hung")
