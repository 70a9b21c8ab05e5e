"""A run's model on a Hub of our own: pushed, loaded in a fresh process; whatever fails, nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.support.commands import assert_one_line, run
from tests.support.hub import TOKEN, LoopbackHub
from tests.support.hub_state import Repo
from tests.support.pushing import contents, model_of, push, pushed
from tests.support.tiny import reviews

TEXTS = [row["text"] for row in reviews(8, seed=3)]
LOAD = """
import json, sys, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
where, texts = sys.argv[1], json.loads(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(where)
model = AutoModelForSequenceClassification.from_pretrained(where).eval()
with torch.no_grad():
    logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
print(json.dumps(logits.view(torch.int32).tolist()))
"""


def test_what_goes_up_and_what_stays(hub: LoopbackHub, run_folder: Path) -> None:
    before = contents(run_folder)
    said = pushed(hub, run_folder, "--repo", "alice/reviews")
    assert "pushed     alice/reviews: 9 files" in said and hub.repos["alice/reviews"].private
    files = hub.files("alice/reviews")
    card = files.pop("README.md").decode()
    assert "alice/reviews" in card and "PATH_OR_HUB_ID" not in card  # the rest goes up as it is
    assert {name: files[name] for name in model_of(run_folder)} == model_of(run_folder)
    assert set(files) - set(model_of(run_folder)) == {
        "config.yaml",
        "result.json",
        "metrics.jsonl",
        "learning_curve.png",
    }
    settings = yaml.safe_load(files["config.yaml"])
    assert settings["data"]["train"] == "rows.csv" and settings["model"]["name"] == "bert"
    assert settings["train"]["output_dir"] == "run" and settings["train"]["max_steps"] == 3
    assert json.loads(files["result.json"]) == json.loads(before["result.json"])
    assert not [name for name, content in files.items() if str(run_folder.parents[1]).encode() in content]
    after = contents(run_folder)
    assert json.loads(after.pop("push.json"))["complete"] and after == before


def test_a_second_push_sends_what_has_changed(hub: LoopbackHub, run_folder: Path) -> None:
    pushed(hub, run_folder, "--repo", "alice/reviews")
    stored, commits = hub.bytes_stored, hub.repos["alice/reviews"].commits
    assert "hub        alice/reviews holds all 9 files already, nothing was sent; " in pushed(hub, run_folder)
    assert (hub.bytes_stored, hub.repos["alice/reviews"].commits) == (stored, commits)
    card = run_folder / "model" / "README.md"
    card.write_text(card.read_text() + "\nMore.\n")
    said = pushed(hub, run_folder, "--license", "apache-2.0")
    sizes = {name: len(content) / 2**20 for name, content in hub.files("alice/reviews").items()}
    assert f"1 of 9 files new or changed, {sizes['README.md']:.2f} of {sum(sizes.values()):.2f} MiB; " in said
    assert (hub.bytes_stored, hub.repos["alice/reviews"].commits) == (stored, commits + 1)
    text = hub.files("alice/reviews")["README.md"].decode()
    assert text.endswith("\nMore.\n") and yaml.safe_load(text.split("---")[1])["license"] == "apache-2.0"


@pytest.mark.slow
def test_loaded_in_a_fresh_process_it_is_the_same_model(hub: LoopbackHub, run_folder: Path, tmp_path: Path) -> None:
    pushed(hub, run_folder, "--repo", "alice/reviews")
    environ = hub.environment(TOKEN, tmp_path / "empty")
    here = run("-c", LOAD, run_folder / "model", json.dumps(TEXTS))
    there = run("-c", LOAD, "alice/reviews", json.dumps(TEXTS), env=environ)
    assert there.returncode == 0, there.stderr
    assert json.loads(there.stdout) == json.loads(here.stdout)
    assert run("-c", LOAD, "alice/reviews", "[]", env=hub.environment(None, tmp_path / "none")).returncode != 0


def test_to_a_branch_and_as_a_pull_request(hub: LoopbackHub, run_folder: Path) -> None:
    pushed(hub, run_folder, "--repo", "acme/reviews", "--branch", "dev")
    assert hub.files("acme/reviews") == {} and "model.safetensors" in hub.files("acme/reviews", "dev")
    hub.repos["bob/reviews"] = Repo("bob", private=False)
    assert "a pull request to bob/reviews" in pushed(
        hub, run_folder, "--repo", "bob/reviews", "--pull_request", "true"
    )
    (run_folder / "model" / "README.md").write_text("# Another\n")
    pushed(hub, run_folder)  # goes on in the same one
    assert hub.files("bob/reviews") == {} and len(hub.repos["bob/reviews"].pulls) == 1
    assert hub.files("bob/reviews", "refs/pr/1")["README.md"] == b"# Another\n"


def test_a_card_that_somebody_has_changed_on_the_hub_stays(hub: LoopbackHub, run_folder: Path) -> None:
    there = hub.repos["alice/reviews"] = Repo("alice", private=True)
    there.branches["main"]["README.md"] = b"---\nlicense: mit\n---\n"
    there.titles["main"] = {"README.md": "initial commit"}
    pushed(hub, run_folder, "--repo", "alice/reviews")
    files = hub.files("alice/reviews")
    assert b"# " in files["README.md"]
    files["README.md"], there.titles["main"]["README.md"] = b"# By hand\n", "Update README.md"
    with (run_folder / "metrics.jsonl").open("a") as file:
        file.write("{}\n")
    done = push(hub, run_folder, "--license", "mit")
    assert done.returncode == 0 and "1 of 8 files new or changed" in done.stdout, done.stderr
    assert "the card of alice/reviews stays as it is there: 'Update README.md' changed it last" in done.stderr
    assert hub.files("alice/reviews")["README.md"] == b"# By hand\n"
    pushed(hub, run_folder, "--overwrite_card", "true")
    assert b"# By hand" not in hub.files("alice/reviews")["README.md"]


FAULTS = {
    "a burst of 500 at the storage": ("PUT", "/", 3, {"status": 500}),
    "a burst of 503 at the commit": ("POST", "/commit/", 2, {"status": 503}),
    "a burst of 503 at the start": ("POST", "/api/repos/create", 2, {"status": 503}),
    "a connection cut in the middle of the weights": ("PUT", "/", 1, {"cut_after": 500_000}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_passing_faults_are_outlasted(hub: LoopbackHub, run_folder: Path, fault: str) -> None:
    method, path, times, what = FAULTS[fault]
    hub.fail(method, path, times, **what)
    pushed(hub, run_folder, "--repo", "alice/reviews")
    assert {name: hub.files("alice/reviews")[name] for name in model_of(run_folder)} == model_of(run_folder)
    assert hub.faults[0].times == 0 and hub.repos["alice/reviews"].commits == 1


def test_a_full_quota_in_the_words_of_the_hub(hub: LoopbackHub, run_folder: Path) -> None:
    hub.quota = 100_000
    failed = push(hub, run_folder, "--repo", "alice/reviews")
    assert_one_line(failed, "there is no space left on the Hub (Private repository storage limit reached, please")
    assert not hub.bytes_stored
    hub.quota = None
    pushed(hub, run_folder)
    assert {name: hub.files("alice/reviews")[name] for name in model_of(run_folder)} == model_of(run_folder)


LASTING = {
    "a 403": ("POST", "/commit/", {"status": 403}, "the token may not do that (injected)"),
    "an expired token": ("POST", "/commit/", {"status": 401}, "the Hub doesn't take the token (injected)"),
    "a server that stays broken": ("POST", "/commit/", {"status": 503}, "the Hub answers 503 (injected)"),
    "no space": ("POST", "/objects/batch", {"status": 413}, "there is no space left on the Hub (injected)"),
}


@pytest.mark.parametrize("fault", LASTING)
def test_what_failed_is_finished_by_the_same_command(hub: LoopbackHub, run_folder: Path, fault: str) -> None:
    method, path, what, words = LASTING[fault]
    before = contents(run_folder)
    hub.fail(method, path, 99, **what)
    failed = push(hub, run_folder, "--repo", "alice/reviews")
    assert_one_line(failed, "not pushed to alice/reviews: ", words)
    assert not json.loads((run_folder / "push.json").read_text())["complete"]
    stored = hub.bytes_stored
    hub.faults.clear()
    pushed(hub, run_folder)
    sent_again = hub.bytes_stored - stored
    weights = len(before["model/model.safetensors"]) + len(before["learning_curve.png"])
    assert stored + sent_again == weights and sent_again in ((0,) if path == "/commit/" else (weights,))
    after = contents(run_folder)
    assert json.loads(after.pop("push.json"))["complete"] and after == before


def test_weights_of_another_model_are_not_left_beside(hub: LoopbackHub, run_folder: Path) -> None:
    """An adapter's would be loaded with a merged model, on top of what they are in already."""
    pushed(hub, run_folder, "--repo", "alice/reviews")
    there = hub.repos["alice/reviews"].branches["main"]
    there |= {"adapter_config.json": b"{}", "adapter_model.safetensors": b"old", "notes.md": b"kept"}
    (run_folder / "model" / "config.json").write_text(json.dumps({"changed": True}))
    there["onnx/model.onnx"] = b"of the same model, somebody's own"
    done = push(hub, run_folder)
    assert done.returncode == 0
    assert "adapter_config.json, adapter_model.safetensors of another model go from alice/reviews" in done.stderr
    names = set(hub.files("alice/reviews"))
    assert "onnx/model.onnx" in names and not {"adapter_config.json", "adapter_model.safetensors"} & names
    assert {"notes.md", "model.safetensors"} <= names
