"""`hfscale doctor --hub`: what a push would find, before anything is trained for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.commands import assert_one_line, run
from tests.support.hub import READER, TOKEN, LoopbackHub
from tests.support.hub_state import Repo


def doctor(hub: LoopbackHub, folder: Path, *words: Any, token: str | None = TOKEN) -> Any:
    return run("-m", "hfscale", "doctor", *words, env=hub.environment(token, folder / "cache"))


def test_a_repository_that_can_be_written_to(hub: LoopbackHub, tmp_path: Path) -> None:
    asked = doctor(hub, tmp_path, "--hub")
    assert (asked.returncode, asked.stdout) == (0, "token      of alice, may write\n"), asked.stderr
    assert (
        "repository alice/new is free; alice may push to it"
        in doctor(hub, tmp_path, "--hub", "--repo", "alice/new").stdout
    )
    hub.repos["acme/old"] = Repo("acme", private=True, stored={"0": bytes(3 * 2**20)})
    said = doctor(hub, tmp_path, "--hub", "--repo", "acme/old").stdout
    assert "acme/old is there, private; alice may push to it\nspace      3.0 MiB used by it" in said
    assert not [each for each in hub.requests if not each.startswith("GET ")], "it changes nothing"


def test_what_would_fail(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.repos["alice/open"] = Repo("alice", private=False)
    ask = ("--hub", "--repo")
    assert_one_line(doctor(hub, tmp_path, *ask, "alice/x", token=None), "there is no token", "HF_TOKEN")
    assert_one_line(doctor(hub, tmp_path, *ask, "alice/x", token="hf_other"), "the Hub doesn't take the token")
    assert_one_line(doctor(hub, tmp_path, *ask, "rob/x", token=READER), "the token of rob may only read")
    assert_one_line(
        doctor(hub, tmp_path, *ask, "bob/x"), "alice may not write to bob/x", "`hfscale push --pull_request true`"
    )
    assert_one_line(
        doctor(hub, tmp_path, *ask, "alice/open"),
        "alice/open is public: allow that with `hfscale push --private false`",
    )
    assert_one_line(doctor(hub, tmp_path, *ask, "x"), "--repo must be an owner and a name")
    assert_one_line(doctor(hub, tmp_path, "--repo", "alice/x"), "--repo has no effect without --hub")
    assert_one_line(doctor(hub, tmp_path), "give a run folder, or --hub")
    hub.close()
    assert_one_line(doctor(hub, tmp_path, "--hub"), "can't ask the Hub: the Hub can't be reached")
    offline = {**hub.environment(TOKEN, tmp_path), "HF_HUB_OFFLINE": "1"}
    assert_one_line(run("-m", "hfscale", "doctor", "--hub", env=offline), "HF_HUB_OFFLINE is set")


def test_the_repository_of_a_run(hub: LoopbackHub, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("hub: {repo_id: alice/of-the-run}\n")
    assert "alice/of-the-run is free" in doctor(hub, tmp_path, tmp_path, "--hub").stdout
    record = {"repo_id": "alice/pushed", "complete": False}
    (tmp_path / "push.json").write_text(json.dumps(record))
    said = doctor(hub, tmp_path, tmp_path, "--hub").stdout
    assert (
        "alice/pushed is free" in said
        and f"hub        `hfscale push {tmp_path}` finishes the push to alice/pushed" in said
    )
    (tmp_path / "push.json").write_text(json.dumps({**record, "complete": True}))
    assert "hub        pushed to alice/pushed" in doctor(hub, tmp_path, tmp_path).stdout
