"""A card on its way to the Hub: under the name that others load the model by, and with what its owner says of it."""

from __future__ import annotations

from typing import Any

from huggingface_hub import ModelCard

from hfscale.hub.usage import PLACE


def named_card(text: str, repo_id: str, license: str | None = None, language: str | None = None) -> str:
    """The text of a model's card with the repository in place of `PATH_OR_HUB_ID`, and in its metadata.

    Args:
        license, language: as the Hub spells them (`apache-2.0`, `en`); what is None stays as it was.
    """
    card = ModelCard(text)
    data: Any = card.data
    if not (data.to_dict() or license or language):
        return text.replace(PLACE, repo_id)
    if license:
        data.license = license
    if language:
        data.language = language if "," not in language else language.split(",")
    if data.eval_results:
        data.model_name = repo_id.rpartition("/")[2]
    if data.base_model == repo_id:  # an exported model that takes the place of the one before
        data.base_model = data["base_model_relation"] = None
    card.text = card.text.replace(PLACE, repo_id)
    return card.content
