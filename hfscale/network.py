"""Asking the Hub for things."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator

from hfscale import console


@contextlib.contextmanager
def asking_hub(name: str) -> Generator[None]:
    """Say what is asked for, and keep the client's warnings about each of its retries out of the way.

    Without a network the client tries for about 25 seconds; HF_HUB_OFFLINE=1 saves the wait.
    """
    console.say(f"hub        looking for {name}")
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
