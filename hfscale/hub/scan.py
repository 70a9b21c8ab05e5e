"""Looking through what goes up, and through what lies beside it, for secrets, places on this machine, and data.

Only files that hfscale itself keeps at home are passed over: checkpoints, Slurm's logs, the hardware. Whatever else
somebody has put into a run folder is looked through though it doesn't go up: the folder is what gets handed on.
"""

from __future__ import annotations

import gzip
import io
import os
import re
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import NamedTuple

from hfscale.data.readers import naming_read_errors
from hfscale.errors import HubError
from hfscale.hub.contents import RECORD, Published

_SECRETS = {
    "a Hugging Face token": r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}",
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\bgh[oprsu]_[A-Za-z0-9]{36,}|\bgithub_pat_\w{22,}",
    "a GitLab token": r"\bglpat-[\w-]{20,}",
    "a PyPI token": r"\bpypi-AgEI[\w-]{20,}",
    "an npm token": r"\bnpm_[A-Za-z0-9]{36}",
    "a Google API key": r"\bAIza[\w-]{35}",
    "a Slack token": r"\bxox[abeoprs]-[\w-]{10,}",
    "an API key": r"\bsk-(?:proj-|ant-|svcacct-)?(?=[\w-]{0,200}\d)[\w-]{20,}",
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "a JSON web token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "a password in an address": r"\b[a-z][a-z0-9+.-]*://[^\s/:@'\"]+:[^\s/@'\"]+@",
}
_BEGIN = {
    **dict.fromkeys((b"hf_", b"api_org_", b"gho_", b"ghp_", b"ghr_", b"ghs_", b"ghu_"), rb"[A-Za-z0-9]{16}"),
    **dict.fromkeys((b"AKIA", b"ASIA"), rb"[0-9A-Z]{16}"),
    **dict.fromkeys((b"github_pat_", b"glpat-", b"npm_", b"AIza"), rb"[\w-]{20}"),
    **dict.fromkeys((b"pypi-AgEI", b"-----BEGIN "), b""),
    b"xox": rb"[abeoprs]-[\w-]{10}",
    b"sk-": rb"(?=[\w-]{0,200}\d)[\w-]{20}",
    b"eyJ": rb"[\w-]{10,}\.eyJ",
    b"://": rb"[^\s/:@'\"]+:[^\s/@'\"]+@",
}
"""How each of `_SECRETS` begins, and goes on: where none does, which is quickly known, there is no secret."""
_QUICK = {word: re.compile(re.escape(word) + more) for word, more in _BEGIN.items()}
_BLOCK = 2**22
"""Bytes that are looked through at once."""
_ROOTS = (
    *("home", "Users", "root", "mnt", "media", "scratch", "tmp", "private", "var", "opt", "srv", "usr", "data"),
    *("work", "workspace", "gpfs", "lustre", "nfs", "beegfs", "content", "kaggle", "dbfs", "Volumes"),
)
_PLACES = {
    "a path of this machine": rf"(?<![\w.:/~<>-])/(?:{'|'.join(_ROOTS)})/[^\s'\"<>]+",
    "a path of a home folder": r"(?<![\w/])~/[\w.-]+|file:///|\b[A-Za-z]:\\+(?:Users|Documents)\b",
}
_DATA = (
    *(".csv", ".tsv", ".xls", ".xlsx", ".parquet", ".arrow", ".feather", ".jsonl", ".ndjson", ".sqlite", ".db"),
    *(
        ".npy",
        ".npz",
        ".h5",
        ".hdf5",
        ".pkl",
        ".pickle",
        ".pt",
        ".pth",
        ".bin",
        ".ckpt",
        ".zip",
        ".tar",
        ".gz",
        ".tgz",
    ),
)
_AT_HOME = ("environment.json", RECORD, ".lock")
_VOCABULARY = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt")
"""Pieces of the training text's words: what looks like a place in there is none."""
_SECRET_NAMES = re.compile(r"(?:TOKEN|API_KEY|SECRET|SECRET_KEY|ACCESS_KEY|PASSWORD)$")


class Finding(NamedTuple):
    """Something that must not be published."""

    path: Path
    line: int
    what: str


def refuse_private(run: Path, files: Iterable[Published]) -> None:
    """Raises `HubError` naming file and line of what must not be published, but not the secret itself."""
    files = list(files)
    beside = _beside(run, {file.path for file in files})
    found = [finding for file in files for finding in _look(file.path, file.name, _bytes_of(file))]
    found += [finding for path in beside for finding in _look_at_stray(path)]
    if found:
        path, line, what = found[0]
        more = f" ({len(found) - 1} more)" if len(found) > 1 else ""
        raise HubError(f"{path}, line {line}: {what}, and so nothing was pushed{more}; take it out, then push again")


def refuse_secrets(files: Iterable[Published]) -> None:
    """As `refuse_private`, of data, in which places and other rows may stand, but no secret; binary files are passed
    over."""
    known = _secrets_of_this_process()
    words = [os.fsencode(secret) for secret in known.values()]
    for file in files:
        number = 1
        with naming_read_errors(file.path):
            for block in _blocks_of(file):
                quick = any(word in block and pattern.search(block) for word, pattern in _QUICK.items())
                if quick or any(word in block for word in words):
                    _refuse_secrets_of(block, file.path, number, known)
                number += block.count(b"\n")


def _blocks_of(file: Published) -> Generator[bytes]:
    """Whole lines; none of a binary file."""
    opened = gzip.open if file.path.suffix == ".gz" else open
    with io.BytesIO(file.content) if file.content is not None else opened(file.path, "rb") as content:
        while block := content.read(_BLOCK) + content.readline():
            if content.tell() == len(block) and b"\0" in block[:4096]:
                return
            yield block


def _refuse_secrets_of(block: bytes, path: Path, first: int, known: dict[str, str]) -> None:
    for number, line in enumerate(block.decode("utf-8", errors="surrogateescape").split("\n"), start=first):
        met = [what for what, secret in known.items() if secret in line]
        met += [what for what, pattern in _SECRETS.items() if re.search(pattern, line)]
        if met:
            raise HubError(f"{path}, line {number}: {met[0]}, and so nothing was pushed; take it out")


def _bytes_of(file: Published) -> bytes | None:
    """The text of a file; None for weights and pictures."""
    if file.path.suffix in (".safetensors", ".onnx", ".data", ".png", ".model"):
        return None
    return file.path.read_bytes() if file.content is None else file.content


def _beside(run: Path, published: set[Path]) -> list[Path]:
    """Files that lie in the run folder itself, and that hfscale didn't put there."""
    there = [path for path in sorted(run.iterdir()) if path.is_file()]
    return [path for path in there if path not in published and path.name not in _AT_HOME]


def _look_at_stray(path: Path) -> list[Finding]:
    if path.suffix.lower() in _DATA:
        return [Finding(path, 1, "data or a pickle, which no model needs")]
    if path.stat().st_size > 2**26:
        return []
    content = path.read_bytes()
    return [] if b"\0" in content[:4096] else list(_look(path, path.name, content))


def _look(path: Path, name: str, content: bytes | None) -> Generator[Finding]:
    if content is None:
        return
    is_vocabulary = Path(name).name in _VOCABULARY
    patterns = {**_SECRETS, **({} if is_vocabulary else _PLACES)}
    known = {**_secrets_of_this_process(), **({} if is_vocabulary else _places_of_this_process())}
    for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
        met = [what for what, secret in known.items() if secret in line]
        met += [what for what, pattern in patterns.items() if re.search(pattern, line)]
        if met:
            yield Finding(path, number, met[0])


def _secrets_of_this_process() -> dict[str, str]:
    """What this process knows to be secret, whatever it looks like."""
    from huggingface_hub import get_token

    named = {f"the value of ${name}": value for name, value in os.environ.items() if _SECRET_NAMES.search(name)}
    return {what: value for what, value in {**named, "your token": get_token() or ""}.items() if len(value) >= 8}


def _places_of_this_process() -> dict[str, str]:
    """Where we are, on whatever disk a cluster keeps homes and work."""
    places = {"the path of your home folder": str(Path.home()), "the path of the working folder": str(Path.cwd())}
    return {what: place for what, place in places.items() if place.count("/") + place.count("\\") > 1}
