"""Where a model is: a `builtin:` name, a folder or the Hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hfscale.errors import ModelError
from hfscale.models.builtin import find_builtin
from hfscale.schemas import ModelSettings


def locate_model(settings: ModelSettings) -> tuple[str, dict[str, Any]]:
    """What `from_pretrained` takes: a folder or Hub id, and its options."""
    options: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code}
    if settings.name.startswith("builtin:"):
        if settings.revision:
            raise ModelError(f"--model.revision has no effect on {settings.name}; leave it out")
        return str(find_builtin(settings.name.removeprefix("builtin:"))), options
    path = Path(settings.name).expanduser()
    if path.is_dir():
        if settings.revision:
            raise ModelError("--model.revision has no effect on a local folder; leave it out")
        model = path / "model" if (path / "model" / "config.json").is_file() else path  # a run folder
        if (model / "adapter_config.json").is_file():
            raise ModelError(
                f"{settings.name} holds an adapter, which is no model of its own; give the model it was trained on, "
                "or what `hfscale export --merge` makes of the two"
            )
        if not (model / "config.json").is_file():
            raise ModelError(f"folder {settings.name} holds no model (no config.json)")
        return str(model), options
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", settings.name):
        raise ModelError(f"no such model folder: {settings.name}")
    return settings.name, {**options, "revision": settings.revision}
