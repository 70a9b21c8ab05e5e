"""What `hfscale push` keeps at home, and a process that was killed while it pushed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.commands import ROOT, assert_one_line
from tests.support.hub import READER, TOKEN, LoopbackHub
from tests.support.hub_state import Repo
from tests.support.pushing import SHORT, contents, model_of, push, pushed

HOME = "/home/" + "alice/models"
PLANTED = {
    "a token in the card": ("model/README.md", "\nLog in with " + "hf_" + "Zx9Q" * 8 + "\n", "a Hugging Face token"),
    "a home path in the card": ("model/README.md", f"\nTrained on {HOME}/rows.txt\n", "a path of this machine"),
    "a token in a log": ("metrics.jsonl", '{"note": "' + "ghp_" + "a1B2" * 9 + '"}\n', "a GitHub token"),
    "an access key beside the model": ("notes.txt", "key:\n" + "AKIA" + "ABCDEFGH01234567\n", "an AWS access key"),
    "the token that is in use": ("notes.txt", f"\n{TOKEN}\n", "the value of $HF_TOKEN"),
    "a table in the run folder": ("rows.csv", "text,label\nfine,good\n", "data or a pickle"),
    "a table in the model folder": ("model/rows.csv", "text,label\nfine,good\n", "no file of a model"),
    "a pickle in the model folder": ("model/optimizer.pt", "pickled-weights", "no file of a model"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_must_not_be_published_is_named(hub: LoopbackHub, run_folder: Path, planted: str) -> None:
    name, text, words = PLANTED[planted]
    path = run_folder / name
    before = path.read_text() if path.exists() else ""
    path.write_text(before + text)
    last = len((before + text).splitlines())
    line = 1 if path.suffix in (".csv", ".pt") else last
    refused = push(hub, run_folder, "--repo", "alice/reviews")
    assert_one_line(refused, f"not pushed to alice/reviews: {path}, line {line}: {words}")
    assert text.strip().split()[-1] not in refused.stderr, "the secret itself"
    assert not hub.count("POST", ".*") and not (run_folder / "push.json").exists()


def test_places_in_settings_and_results_are_no_reason(hub: LoopbackHub, run_folder: Path) -> None:
    result = json.loads((run_folder / "result.json").read_text())
    (run_folder / "result.json").write_text(json.dumps({**result, "resumed_from": f"{HOME}/other"}))
    pushed(hub, run_folder, "--repo", "alice/reviews")
    files = hub.files("alice/reviews")
    assert json.loads(files["result.json"])["resumed_from"] == "other"
    assert not [name for name, content in files.items() if b"/home/" in content]


def test_what_is_no_complete_model(hub: LoopbackHub, run_folder: Path, tmp_path: Path) -> None:
    assert_one_line(push(hub, tmp_path / "gone", "--repo", "alice/reviews"), "no such folder")
    assert_one_line(push(hub, run_folder), "was never pushed: give --repo")
    assert_one_line(push(hub, run_folder, "--repo", "reviews"), "--repo must be an owner and a name")
    result = json.loads((run_folder / "result.json").read_text())
    (run_folder / "result.json").write_text(json.dumps({**result, "complete": False}))
    assert_one_line(push(hub, run_folder, "--repo", "alice/reviews"), "has not finished")
    (run_folder / "result.json").write_text(json.dumps(result))
    (run_folder / "model" / "model.safetensors").unlink()
    assert_one_line(push(hub, run_folder, "--repo", "alice/reviews"), "no weights in safetensors")
    assert not hub.requests


def test_nothing_private_gets_into_a_public_repository(hub: LoopbackHub, run_folder: Path) -> None:
    hub.repos["alice/open"] = Repo("alice", private=False)
    assert_one_line(push(hub, run_folder, "--repo", "alice/open"), "alice/open is public", "--private false")
    assert hub.files("alice/open") == {}
    pushed(hub, run_folder, "--repo", "alice/open", "--private", "false")
    assert "model.safetensors" in hub.files("alice/open")


def test_no_rights_and_no_token(hub: LoopbackHub, run_folder: Path) -> None:
    assert_one_line(push(hub, run_folder, "--repo", "alice/reviews", token=None), "there is no token", "hf auth login")
    assert_one_line(push(hub, run_folder, "--repo", "alice/reviews", token=READER), "the token may not do that")
    assert_one_line(push(hub, run_folder, "--repo", "bob/reviews"), "the token may not do that")
    assert_one_line(push(hub, run_folder, "--repo", "alice/reviews", token="hf_other"), "doesn't take the token")


ENDS = {"killed": -signal.SIGKILL, "told to stop": 128 + signal.SIGTERM, "gone": 2}


@pytest.mark.parametrize("end", [*list(ENDS)[:2], pytest.param("gone", marks=pytest.mark.slow)])  # 23 s of the client
def test_ended_in_mid_push(hub: LoopbackHub, run_folder: Path, end: str) -> None:
    """A signal ends it at once, and what it has started, though the Hub keeps its client waiting for a minute."""
    before, model = contents(run_folder), model_of(run_folder)
    weights = model["model.safetensors"]
    held = threading.Event()
    oid = hashlib.sha256(weights).hexdigest()
    hub.fail("PUT", oid, cut_after=len(weights) // 2, hold=held)
    environ = {**os.environ, **hub.environment(TOKEN, run_folder.parent / "cache")}
    words = [sys.executable, "-c", SHORT, "push", str(run_folder), "--repo", "alice/reviews"]
    with subprocess.Popen(words, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True) as pushing:
        assert pushing.stderr
        while hub.bytes_stored < len(weights) // 2 + len(before["learning_curve.png"]):
            time.sleep(0.01)
            assert pushing.poll() is None
        if end == "gone":
            hub.close()
        else:
            pushing.send_signal(signal.SIGKILL if end == "killed" else signal.SIGTERM)
        pushing.wait(60 if end == "gone" else 30)
        assert pushing.returncode == ENDS[end]
        said = pushing.stderr.read()  # its end comes with that of the last process that writes there
        assert said == {"killed": "", "told to stop": "terminated\n"}.get(end) or "the Hub can't be reached" in said
    held.set()
    assert model_of(run_folder) == model and not json.loads((run_folder / "push.json").read_text())["complete"]
    if end != "gone":
        stored = hub.bytes_stored
        pushed(hub, run_folder)
        assert hub.bytes_stored - stored == len(weights)
        assert {name: hub.files("alice/reviews")[name] for name in model} == model
    else:
        with LoopbackHub() as back:
            pushed(back, run_folder)
            assert {name: back.files("alice/reviews")[name] for name in model} == model
