"""Pushed through Xet, and through git-LFS in one and in many parts, to a stand-in for the Hub that speaks them.

It is no part of this project, but lies beside it where it was developed: these tests are skipped where it doesn't.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import ROOT, run
from tests.support.hub import TOKEN
from tests.support.pushing import SHORT

SERVER = ROOT.parent / "shared" / "tools" / "hub_server.py"
NEEDED = ("aiohttp", "lz4")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SERVER.is_file(), reason="no ../shared/tools/hub_server.py beside the repository"),
    *(
        pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"the stand-in needs {name}")
        for name in NEEDED
    ),
]
LOADER = ROOT / "tests" / "support" / "load_models.py"
PROTOCOLS: dict[str, dict[str, Any]] = {
    "xet": {},
    "lfs": {"xet": False},
    "multipart": {"xet": False, "part_size": 500_000},
}


def stand_in() -> Any:
    spec = importlib.util.spec_from_file_location("hub_server", SERVER)
    assert spec and spec.loader
    module = sys.modules["hub_server"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pushed_and_loaded(run_folder: Path, tmp_path: Path, protocol: str) -> None:
    module = stand_in()
    with module.HubServer(tmp_path / "hub", {TOKEN: module.User("alice")}, **PROTOCOLS[protocol]) as hub:
        environ = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
        environ |= {"HF_HUB_DISABLE_XET": "0" if protocol == "xet" else "1"}
        cache = {"HF_HOME": str(tmp_path / "cache")}
        hub.fail_next("POST", r"/commit/", 503)
        done = run("-c", SHORT, "push", run_folder, "--repo", "alice/reviews", env={**environ, **cache})
        assert done.returncode == 0 and "pushed     alice/reviews" in done.stdout, done.stderr
        sent = [(each["method"], each["path"]) for each in hub.log]
        again = run("-c", SHORT, "push", run_folder, env={**environ, **cache})
        assert again.returncode == 0, again.stderr
        later = [(each["method"], each["path"]) for each in hub.log][len(sent) :]
        assert not [path for method, path in later if method == "PUT" or "/xorbs/" in path or "/commit/" in path]
        given = ("AutoModelForSequenceClassification", "alice/reviews", None)
        loaded = run(LOADER, json.dumps({"model": given}), env={**environ, "HF_HOME": str(tmp_path / "empty")})
    assert any("/xorbs/" in path for _, path in sent) == (protocol == "xet")
    assert sum(method == "PUT" for method, _ in sent) == {"xet": 0, "lfs": 2}.get(protocol, 6)
    local = run(LOADER, json.dumps({"model": (given[0], str(run_folder / "model"), None)}))
    assert loaded.returncode == local.returncode == 0, loaded.stderr + local.stderr
    assert loaded.stdout == local.stdout
