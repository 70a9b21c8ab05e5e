"""Asking the Hub for things, and saying in plain words why one can't be had."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator
from typing import Any

from hfscale import console
from hfscale.errors import ModelError


@contextlib.contextmanager
def asking_hub(name: str) -> Generator[None]:
    """Say what is asked for, in the quiet.

    Without a network the client tries for about 25 seconds; HF_HUB_OFFLINE=1 saves the wait.
    """
    console.say(f"hub        looking for {name}")
    with quiet_client():
        yield


@contextlib.contextmanager
def quiet_client() -> Generator[None]:
    """Keep the client's warnings about each of its retries out of the way."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class plain_words:
    """Turn what transformers raises for a model or tokenizer that can't be had into one line; keep its reports quiet.

    Args:
        what: `model NAME`, for the message.
        way_out: what to give instead.
        trust_flag: what lets code run that comes with the model, if anything does.
    """

    def __init__(self, what: str, way_out: str, trust_flag: str | None = None) -> None:
        self._what, self._way_out, self._trust_flag = what, way_out, trust_flag

    def __enter__(self) -> None:
        from transformers.utils import logging

        self._verbosity = logging.get_verbosity()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        from safetensors import SafetensorError
        from transformers.utils import logging

        logging.set_verbosity(self._verbosity)
        if kind is not None and issubclass(kind, (OSError, ValueError, KeyError, ImportError, SafetensorError)):
            text = str(error)
            reason = text.strip().splitlines()[0] if text.strip() else kind.__name__
            if issubclass(kind, SafetensorError):
                reason = f"its weights are broken ({reason})"
            elif "safetensors" in text:
                reason = "it has no safetensors weights, and pickled ones are not loaded"
            elif self._trust_flag and "trust_remote_code" in text:
                reason = f"it needs Python code that comes with it; if you trust its author, pass {self._trust_flag}"
                raise ModelError(f"can't load {self._what}: {reason}") from None
            elif "connect" in text or "offline" in text.lower():
                reason = "the Hub can't be reached and there is no cached copy"
            raise ModelError(f"can't load {self._what}: {reason}; {self._way_out}") from None
