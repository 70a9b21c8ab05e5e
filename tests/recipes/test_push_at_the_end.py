"""Recipes with `--hub.repo_id`: asked before training, pushed after it, and never failed by a push."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import ROOT, assert_one_line, result
from tests.support.hub import READER, TOKEN, LoopbackHub
from tests.support.hub_state import Repo
from tests.support.pushing import contents, model_of, pushed
from tests.support.tiny import reviews, write_csv, write_tiny_bert
from tests.support.warm import WarmRun


@pytest.fixture
def words(tmp_path: Path) -> list[Any]:
    rows, model = write_csv(tmp_path / "rows.csv", reviews(40)), write_tiny_bert(tmp_path / "bert")
    given = [ROOT / "recipes" / "finetune_bert.py", "--model.name", model, "--data.train", rows]
    given += ["--train.max_steps", 3, "--train.save_steps", 1, "--train.log_steps", 1, "--baselines", "false"]
    return [*given, "--train.output_dir", tmp_path / "run", "--hub.repo_id", "alice/reviews"]


def started(hub: LoopbackHub, words: list[Any], token: str | None = TOKEN, **hooks: Any) -> WarmRun:
    folder = Path(words[words.index("--train.output_dir") + 1]).parent
    return WarmRun(tuple(words), folder / "log", {"hub": hub.environment(token, folder / "cache"), **hooks})


def test_pushed_when_all_else_is_done(hub: LoopbackHub, words: list[Any], tmp_path: Path) -> None:
    done = started(hub, [*words, "--hub.license", "mit"]).wait()
    assert done.returncode == 0 and "warning" not in done.stderr, done.stdout + done.stderr
    assert "hub        alice/reviews is free, and alice may push to it" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("pushed     alice/reviews: 9 files")
    assert hub.files("alice/reviews")["model.safetensors"] == model_of(tmp_path / "run")["model.safetensors"]
    assert b"license: mit" in hub.files("alice/reviews")["README.md"]
    again = started(hub, words).wait()  # what is done is done, and says how to push what has changed since
    assert again.returncode == 0 and f"`hfscale push {tmp_path}/run --repo alice/reviews`" in again.stdout


REFUSED = {
    "no token": ({"token": None}, "alice/reviews", "there is no token to push with; run `hf auth login`"),
    "a wrong token": ({"token": "hf_other"}, "alice/reviews", "the Hub doesn't take the token"),
    "a token that may only read": ({"token": READER}, "rob/reviews", "the token of rob may only read"),
    "another's name": ({}, "bob/reviews", "alice may not write to bob/reviews; choose alice/reviews"),
    "an organization without rights": ({}, "club/reviews", "alice may not write to club/reviews"),
    "a public repository": ({}, "alice/open", "alice/open is public: allow that with --hub.private false"),
    "a bad name": ({}, "alice/my--model", "--hub.repo_id alice/my--model: Cannot have -- or .."),
    "no owner": ({}, "reviews", "--hub.repo_id must be an owner and a name, as in me/my-model, got reviews"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_said_before_training(hub: LoopbackHub, words: list[Any], tmp_path: Path, reason: str) -> None:
    given, repo, line = REFUSED[reason]
    hub.repos["alice/open"] = Repo("alice", private=False)
    refused = started(hub, [*words[:-1], repo], **given).wait()
    assert_one_line(refused, line)
    assert not (tmp_path / "run").exists()


def test_no_network_is_said_before_training_and_no_reason_to_stop_there(
    hub: LoopbackHub, words: list[Any], tmp_path: Path
) -> None:
    stopped = started(hub, words, signal_in_training=("SIGTERM", 2)).wait()
    assert stopped.returncode == 75, stopped.stderr
    hub.close()
    elsewhere = [*words, "--train.output_dir", tmp_path / "other"]
    assert_one_line(started(hub, elsewhere).wait(), "can't push to alice/reviews: the Hub can't be reached")
    assert not (tmp_path / "other").exists()
    gone_on = started(hub, words).wait()  # a run that has begun goes on
    assert gone_on.returncode == 0 and result(tmp_path / "run")["complete"], gone_on.stderr
    assert gone_on.stderr.count("warning: ") == 2 and "; the run goes on, and can be pushed" in gone_on.stderr
    with LoopbackHub() as back:
        pushed(back, tmp_path / "run")
        assert back.files("alice/reviews")["model.safetensors"] == model_of(tmp_path / "run")["model.safetensors"]


LASTING = {
    "a token that expired": (401, "the Hub doesn't take the token (injected)"),
    "rights that were taken": (403, "the token may not do that (injected)"),
    "no space": (413, "there is no space left on the Hub (injected); make room there"),
    "a Hub that stays broken": (500, "the Hub answers 500 (injected)"),
}


@pytest.mark.parametrize("reason", LASTING)
def test_a_push_that_fails_fails_no_run(hub: LoopbackHub, words: list[Any], tmp_path: Path, reason: str) -> None:
    status, line = LASTING[reason]
    hub.fail("POST", "/commit/main", 99, status=status)
    done = started(hub, words).wait()
    run = tmp_path / "run"
    assert done.returncode == 0 and result(run)["complete"], done.stdout + done.stderr
    lines = [each for each in done.stderr.splitlines() if each.startswith("warning: ")]
    assert len(lines) == 1 and f"not pushed to alice/reviews: {line}" in lines[0]
    assert f"`hfscale push {run}` uploads what is missing" in lines[0]
    hub.faults.clear()
    before, stored = model_of(run), hub.bytes_stored
    pushed(hub, run)
    assert hub.bytes_stored == stored and model_of(run) == before
    assert {name: hub.files("alice/reviews")[name] for name in before} == before


@pytest.mark.parametrize(("method", "path"), [("POST", "/commit/main"), ("PUT", "/")], ids=["commit", "large file"])
def test_told_to_stop_while_it_pushes(
    hub: LoopbackHub, words: list[Any], tmp_path: Path, method: str, path: str
) -> None:
    """At once, though the Hub keeps it waiting for a minute."""
    held = hub.fail(method, path, status=500, hold=threading.Event())
    pushing = started(hub, words)
    while held.times:
        time.sleep(0.05)
        assert not pushing.ended()
    os.kill(pushing.pid, signal.SIGTERM)
    done = pushing.wait(timeout=30)
    assert done.returncode == 0 and result(tmp_path / "run")["complete"]
    assert "not pushed to alice/reviews: it was told to stop" in done.stderr
    before = contents(tmp_path / "run" / "model")
    pushed(hub, tmp_path / "run")
    assert contents(tmp_path / "run" / "model") == before


@pytest.mark.slow
def test_each_best_model_in_the_background(hub: LoopbackHub, words: list[Any], tmp_path: Path) -> None:
    """A Hub that takes its time, then refuses, then works: training doesn't wait, and the end has the last model."""
    hub.fail("PUT", "/", 1, hold=threading.Event())
    hub.fail("POST", "/commit/main", 1, status=403)
    rows = words[words.index("--data.train") + 1]
    more = [
        "--train.max_steps",
        9,
        "--train.eval_steps",
        1,
        "--data.validation",
        rows,
        "--hub.every_checkpoint",
        "true",
    ]
    still = ["--optim.name", "sgd", "--optim.lr", 1e-30]  # the first model stays the best, and its folder where it is
    given = [*words, *more, *still]
    training = started(hub, given, slow_steps=0.5)
    while not (tmp_path / "run" / "result.json").exists():
        time.sleep(0.05)
        assert not training.ended()
    assert hub.bytes_stored and "alice/reviews" in hub.repos and not hub.repos["alice/reviews"].commits
    hub.faults[0].hold.set()  # type: ignore[union-attr]
    done = training.wait()
    assert done.returncode == 0, done.stderr
    assert "the best model so far was not pushed: the token may not do that (injected)" in done.stderr
    assert hub.files("alice/reviews")["model.safetensors"] == model_of(tmp_path / "run")["model.safetensors"]

    hub.faults.clear()
    elsewhere = [*given, "--train.output_dir", tmp_path / "other", "--hub.repo_id", "alice/others"]
    done = started(hub, elsewhere, slow_steps=0.5).wait()
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
    best = done.stdout.count("pushed     alice/others: the best model so far")
    assert best and 1 <= hub.repos["alice/others"].commits <= best + 1
    never = [
        *words,
        "--hub.every_checkpoint",
        "true",
        "--data.validation_fraction",
        0,
        "--train.output_dir",
        tmp_path / "n",
    ]
    assert "--hub.every_checkpoint had no effect" in started(hub, never).wait().stderr
