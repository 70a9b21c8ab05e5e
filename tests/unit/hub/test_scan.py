"""What is taken for a secret or a place, and what is not; what becomes of places in settings."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from hfscale.errors import HubError
from hfscale.hub import scan
from hfscale.hub.contents import Published, data_files, without_places
from hfscale.hub.scan import refuse_private, refuse_secrets
from hfscale.schemas import HubSettings
from tests.support.hub import TOKEN

SECRETS = [
    "hf_" + "aB1" * 12,
    "token=" + "hf_" + "aB1" * 7,
    "api_org_" + "aB1" * 12,
    "ASIA" + "ABCDEFGH01234567",
    "ghp_" + "aB1" * 12,
    "github_pat_" + "a1" * 15,
    "glpat-" + "a1" * 10,
    "AIza" + "a1B2c" * 7,
    "xoxb-" + "1234567890",
    "npm_" + "aB1" * 12,
    "pypi-AgEI" + "a1" * 12,
    "eyJ" + "a1" * 8 + ".eyJ" + "a1" * 8 + "." + "a1" * 8,
    "sk-proj-" + "a1" * 16,
    "-----BEGIN OPENSSH PRIVATE" + " KEY-----",
    "https://me:" + "word@example.org/x",
]
PLACES = [
    "/home/" + "me/data",
    '"/Users/' + 'me/rows.csv"',
    "in /root/" + "models",
    "(/mnt/" + "disk/a)",
    "~/" + "models",
    "file:///" + "etc/x",
    "C:\\Users\\" + "me",
]
HARMLESS = [
    "https://huggingface.co/home/of/models",
    "runs/home/model",
    "sentence-transformers/all-MiniLM-L6-v2",
    "hf_hub_download(repo_id)",
    "and/or, 1/2, a ~ b, /home",
    "sk-learn is scikit-learn-intelex-and-more",
    "</home/x>",
    "https://example.org:8080/a@b",
    "pipeline('text-classification', 'me/my-model')",
]


def looked_at(folder: Path, line: str, name: str = "README.md") -> None:
    path = folder / name
    path.write_text(f"# A model\n\n{line}\n")
    refuse_private(folder, [Published(name, path)])


@pytest.mark.parametrize("line", [*SECRETS, *PLACES])
def test_refused_by_file_and_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(HubError, match=r"README\.md, line 3: ") as refused:
        looked_at(tmp_path, line)
    assert line not in str(refused.value)


@pytest.mark.parametrize("line", HARMLESS)
def test_harmless(tmp_path: Path, line: str) -> None:
    looked_at(tmp_path, line)


def test_a_vocabulary_may_look_like_places_but_holds_no_secret(tmp_path: Path) -> None:
    looked_at(tmp_path, PLACES[0], "tokenizer.json")
    with pytest.raises(HubError, match=r"tokenizer\.json, line 3: a Hugging Face token"):
        looked_at(tmp_path, SECRETS[0], "tokenizer.json")


def test_what_this_process_knows_to_be_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    with pytest.raises(HubError, match=r"line 3: the value of \$WANDB_API_KEY"):
        looked_at(tmp_path, "run with 0123456789abcdef")


def test_all_findings_are_counted(tmp_path: Path) -> None:
    with pytest.raises(HubError, match=r"line 3: .* nothing was pushed \(1 more\)"):
        looked_at(tmp_path, f"{SECRETS[0]}\n{PLACES[0]}")


def test_places_become_names() -> None:
    settings = {
        "data": {"train": "/home/" + "me/rows.csv", "test": ["~/" + "a.csv", "b/c.csv"]},
        "steps": 3,
        "none": None,
    }
    assert without_places(settings) == {
        "data": {"train": "rows.csv", "test": ["a.csv", "b/c.csv"]},
        "steps": 3,
        "none": None,
    }
    assert without_places("C:\\Users\\" + "me\\rows.csv") == "rows.csv"
    assert without_places("/") == "/" and without_places("builtin:tickets") == "builtin:tickets"


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "LICENSE", "notes.txt", "more.csv.gz"])
def test_no_secret_goes_up_with_data(tmp_path: Path, name: str) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,b\nc,d\n")
    text = f"a,b\nsee {TOKEN},d\n".encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    files = [Published(path.name, path) for path in sorted(tmp_path.iterdir())]
    with pytest.raises(HubError, match=f"{name}, line 2: a Hugging Face token"):
        refuse_secrets(files)
    card = Published("README.md", tmp_path / "train.csv", f"values: {TOKEN}".encode())
    with pytest.raises(HubError, match="a Hugging Face token"):
        refuse_secrets([card])


@pytest.mark.parametrize("block", [16, 2**22])
@pytest.mark.parametrize("secret", SECRETS)
def test_each_secret_is_found_in_data_by_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str, block: int
) -> None:
    monkeypatch.setattr(scan, "_BLOCK", block)
    path = tmp_path / "rows.csv"
    path.write_text("\n".join([*HARMLESS, "é" * 30, f"see {secret}, please", "more"]))
    with pytest.raises(HubError, match=rf"rows\.csv, line {len(HARMLESS) + 2}: ") as refused:
        refuse_secrets([Published(path.name, path)])
    assert secret not in str(refused.value)
    path.write_text("\n".join(HARMLESS))
    refuse_secrets([Published(path.name, path)])


def test_what_is_no_data_does_not_go_up_with_it(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,b\nc,d\n")
    hub = HubSettings(repo_id="alice/mails", license="mit")
    (tmp_path / "LICENSE").write_text("Do as you like.")
    (tmp_path / "README.md").write_text("# Mine\n")
    found = {file.name: file for file in data_files(tmp_path, hub)}
    assert set(found) == {"train.csv", "LICENSE", "README.md"}
    assert found["README.md"].content == b"---\nlicense: mit\n---\n# Mine\n"
    (tmp_path / "id_rsa.pem").write_text("key")
    with pytest.raises(HubError, match=r"id_rsa\.pem is neither data nor a text about it"):
        data_files(tmp_path, hub)


def test_the_places_of_this_process_are_known_wherever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/pscratch/sd/a/alice")
    path = tmp_path / "config.json"
    path.write_text('{"_name_or_path": "/pscratch/sd/a/alice/bert"}')
    with pytest.raises(HubError, match=r"config\.json, line 1: the path of your home folder"):
        refuse_private(tmp_path, [Published("config.json", path)])
