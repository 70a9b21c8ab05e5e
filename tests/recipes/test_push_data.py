"""`hfscale push --dataset`, to a Hub of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import run
from tests.support.hub import TOKEN, LoopbackHub
from tests.support.hub_state import Pull, Repo
from tests.support.pushing import SHORT
from tests.support.tiny import reviews, write_csv

SLOW = f"import hfscale.hub.upload as upload; upload._SLOW_BYTES = 500; {SHORT}"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "train.csv", reviews(30))


def push_data(hub: LoopbackHub, rows: Path, *words: Any) -> str:
    environ = hub.environment(TOKEN, rows.parent / "cache")
    done = run("-c", SLOW, "push", "--dataset", rows, "--repo", "acme/mails", *words, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_card_that_somebody_has_changed_on_the_hub_stays(hub: LoopbackHub, rows: Path) -> None:
    said = push_data(hub, rows, "--license", "Apache2.0")
    assert "the license Apache2.0 is none that the Hub is known to list; did you mean apache-2.0? `other`" in said
    assert "warning" not in push_data(hub, rows, "--license", "cc-by-4.0")
    there = hub.repos["datasets/acme/mails"]
    there.branches["main"]["README.md"], there.titles["main"]["README.md"] = b"# By hand\n", "Update README.md"
    assert "the card of acme/mails stays" in push_data(hub, rows)
    assert hub.files("datasets/acme/mails")["README.md"] == b"# By hand\n"


def test_a_pull_request_is_gone_on_with_as_long_as_it_is_open(hub: LoopbackHub, rows: Path) -> None:
    there = hub.repos["datasets/acme/mails"] = Repo("acme", private=False)
    there.pulls += [Pull("Push with hfscale", "bob"), Pull("Mend a typo", "alice")]
    assert "data       0 MiB are read to count rows and to look for" in push_data(hub, rows, "--pull_request", "true")
    write_csv(rows, reviews(40))
    push_data(hub, rows, "--pull_request", "true")
    assert len(there.pulls) == 3 and b"| 40 |" in hub.files("datasets/acme/mails", "refs/pr/3")["README.md"]
    there.pulls[2].status = "merged"
    push_data(hub, rows, "--pull_request", "true")
    assert len(there.pulls) == 4 and hub.files("datasets/acme/mails") == {}
