"""Where a model is published."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hfscale.schemas.checks import require


@dataclass(frozen=True, kw_only=True)
class HubSettings:
    """Push the model to the Hugging Face Hub when the run is complete; `hfscale push RUN` finishes what fails."""

    repo_id: str
    """Repository, as in `me/my-model`; made where there is none."""
    private: bool = True
    """Make it so that only you, or your organization, can see it."""
    revision: str | None = None
    """Branch to push to, made where there is none; by default `main`."""
    pull_request: bool = False
    """Open a pull request instead, which somebody can look at first; the repository has to exist."""
    license: str | None = None
    """Identifier of the license that the model card names, as in `apache-2.0`."""
    language: str | None = None
    """Language of the texts that the model card names, as in `en`, or several, as in `en,de`."""
    every_checkpoint: bool = False
    """Also push each best model so far, in the background of the training."""

    def __post_init__(self) -> None:
        require(
            not (self.every_checkpoint and self.pull_request),
            "--hub.every_checkpoint pushes many times, and a pull request is for a finished model; leave one out",
        )
        require(
            self.revision is None or not self.pull_request,
            "--hub.revision has no effect with --hub.pull_request true, which has a branch of its own; leave one out",
        )
        for language in self.language.split(",") if self.language else ():
            require(
                re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]+)*", language) is not None,
                f"--hub.language {language} is no code of a language, as en is; several are given as en,de",
            )
        parts = self.repo_id.split("/")
        require(
            len(parts) == 2 and all(parts),
            f"--hub.repo_id must be an owner and a name, as in me/my-model, got {self.repo_id}",
        )
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id

        try:
            validate_repo_id(self.repo_id)
        except HFValidationError as error:
            raise ValueError(f"--hub.repo_id {self.repo_id}: {' '.join(str(error).split())}") from None
