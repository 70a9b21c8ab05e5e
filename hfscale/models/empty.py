"""Models whose weights are on the meta device: shapes and names, no bytes.

Where every process is to hold a share of the weights only (ZeRO stage 3), one of them loads the model, and the others
get their shares from it (`hfscale.training.zero.share_weights`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def empty_model(make: Callable[[], Any]) -> Any:
    """The model that `make` builds, without weights; its buffers are as they should be."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        model = make()
    model.tie_weights()  # on the meta device each of two tied weights was its own
    return model
