"""Generated tables in the cache of `datasets`: memory-mapped, made once per content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from hfscale import console
from hfscale.errors import HfscaleError

if TYPE_CHECKING:
    from datasets import Dataset


def cached_table(
    generate: Callable[..., Iterator[dict[str, Any]]],
    features: Any,
    arguments: dict[str, Any],
    key: str,
    rows_at_once: int = 1000,
) -> Dataset:
    """The rows of `generate(**arguments)`, or those on disk where `key` was seen; `rows_at_once` are held in memory.

    Raises:
        HfscaleError, OSError: whatever `generate` raises of these, unwrapped.
    """
    import datasets
    from datasets.exceptions import DatasetGenerationError

    if not console.is_terminal():
        datasets.disable_progress_bars()
    fingerprint = hashlib.sha256(key.encode()).hexdigest()[:32]
    try:
        table = datasets.Dataset.from_generator(
            generate,
            features=features,
            gen_kwargs=arguments,
            fingerprint=fingerprint,
            writer_batch_size=rows_at_once,
        )
    except DatasetGenerationError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, (HfscaleError, OSError)):
            cause = cause.__cause__
        raise (cause or error) from None
    except ValueError as error:
        if "corresponds to no data" not in str(error):
            raise
        return datasets.Dataset.from_dict({name: [] for name in features}, features=features)  # no rows at all
    assert isinstance(table, datasets.Dataset)
    return table
