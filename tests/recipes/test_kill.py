"""Killed at random moments, also while it saves, again and again: nothing saved is lost, nothing torn is used."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hfscale.training.checkpoint_files import checkpoint_folders, read_checkpoint
from tests.support.commands import ROOT, records
from tests.support.tiny import reviews, write_csv, write_tiny_bert
from tests.support.warm import WarmRun

SAVED = re.compile(r"saved      checkpoint of step (\d+)")
RESUMED = re.compile(r"resumed    from (?:step-(\d+)|the beginning)")


def words_for(folder: Path, steps: int) -> list[Any]:
    rows, model = write_csv(folder / "rows.csv", reviews(50)), write_tiny_bert(folder / "bert")
    words = [ROOT / "recipes" / "finetune_bert.py", "--model.name", model, "--data.train", rows]
    words += ["--data.validation", rows, "--baselines", "false", "--train.global_batch_size", 8, "--optim.lr", "1e-3"]
    words += ["--train.micro_batch_size", 4, "--train.max_steps", steps, "--train.save_steps", 4]
    return [*words, "--train.log_steps", 1, "--train.eval_steps", 10]


def kill_in_a_moment(running: WarmRun, log: Path, run: Path | None, moment: float) -> bool:
    """Kill it so many seconds after its first step, or after it began to save in `run`; False if it ends before."""
    while "step " not in log.with_suffix(".out").read_text() or (run and not list(run.glob("checkpoints/.*.tmp"))):
        if running.ended():
            return False
        time.sleep(0.005)
    time.sleep(moment)
    if running.ended():
        return False
    os.kill(running.pid, signal.SIGKILL)
    return True


MANY = pytest.param(50, 500, False, marks=[pytest.mark.slow, pytest.mark.timeout(900)])
BEHIND = pytest.param(15, 200, True, marks=[pytest.mark.slow, pytest.mark.timeout(600)])


@pytest.mark.parametrize("kills, steps, background", [(5, 60, False), BEHIND, MANY])
def test_killed_again_and_again(tmp_path: Path, kills: int, steps: int, background: bool) -> None:
    words, draw = words_for(tmp_path, steps), random.Random(kills)
    words += ["--train.save_in_background", str(background).lower()]
    reference = WarmRun((*words, "--train.output_dir", tmp_path / "whole"), tmp_path / "whole_log", {}).wait()
    assert reference.returncode == 0, reference.stdout + reference.stderr
    run, done, in_a_save = tmp_path / "killed", 0, 0
    saved = 0
    while done < kills:
        log = tmp_path / f"log{done}"
        log.with_suffix(".out").touch()
        running = WarmRun((*words, "--train.output_dir", run), log, {"slow_disk": 0.02, "slow_steps": 0.02})
        moment = (run, draw.uniform(0, 0.1)) if done % 2 else (None, draw.uniform(0, 1.0))
        was_killed = kill_in_a_moment(running, log, *moment)
        finished = running.wait()
        assert was_killed, f"ended by itself after {done} kills: {finished.stdout[-500:]}{finished.stderr}"
        done += 1
        went_on = RESUMED.search(finished.stdout)
        assert int(went_on[1] or 0 if went_on else 0) >= saved, "progress was lost"
        saved = max([saved, *(int(step) for step in SAVED.findall(finished.stdout))])
        for folder in checkpoint_folders(run):
            read_checkpoint(folder)  # whatever has a name is whole
        in_a_save += any(run.glob("checkpoints/.*.tmp"))
    assert in_a_save >= kills // 5, "too few kills hit a save: the test would say little"
    finished = WarmRun((*words, "--train.output_dir", run), tmp_path / "last", {}).wait()
    assert finished.returncode == 0, finished.stdout + finished.stderr
    weights, whole = (load_file(folder / "model" / "model.safetensors") for folder in (run, tmp_path / "whole"))
    assert all(torch.equal(weight, whole[name]) for name, weight in weights.items())
    assert losses(run) == losses(tmp_path / "whole")
    assert not list(run.rglob(".*")), "what the killed ones left is gone"


def losses(run: Path) -> str:
    return json.dumps([(record["step"], record["loss"], record.get("eval_loss")) for record in records(run)])
