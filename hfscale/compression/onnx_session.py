"""An ONNX file that answers as the model it was made from does, so that both can be asked the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hfscale.batch import NO_LABEL
from hfscale.compression.onnx_graph import ONNX_FILE


class OnnxModel:
    """`model.onnx` of a folder, run by ONNX Runtime on the CPU.

    Called like a model of transformers, with tensors by name; what the file doesn't take is left out. Given
    `piece_ids` it returns the sum of the losses, as `hfscale.models.prepare_language_model` makes models do.
    """

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        options: Any = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors
        self._session: Any = onnxruntime.InferenceSession(
            str(folder / ONNX_FILE), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [each.name for each in self._session.get_inputs()]
        self._outputs = [each.name for each in self._session.get_outputs()]

    def eval(self) -> OnnxModel:
        """Nothing to do."""
        return self

    def to(self, device: Any) -> OnnxModel:
        """It stays on the CPU; what it is given comes from any device, and goes back there."""
        return self

    def forward(self, **inputs: Any) -> Any:
        """transformers' output, with `logits`, or `start_logits` and `end_logits`."""
        from transformers.utils.generic import ModelOutput

        first: Tensor = inputs[self._inputs[0]]
        defaults = {"attention_mask": torch.ones_like(first), "token_type_ids": torch.zeros_like(first)}
        given = {name: value.cpu().contiguous().numpy() for name, value in (defaults | inputs).items()}
        found = (
            torch.from_numpy(each).to(first.device)
            for each in self._session.run(self._outputs, {name: given[name] for name in self._inputs})
        )
        return ModelOutput(zip(self._outputs, found, strict=True))

    def __call__(self, **inputs: Any) -> Any:
        return self._loss_sum(**inputs) if "piece_ids" in inputs else self.forward(**inputs)

    def _loss_sum(self, *, input_ids: Tensor, labels: Tensor, piece_ids: Tensor, **_: Any) -> Tensor:
        """Each document of a packed sequence by itself: the file has no input for masks that would part them."""
        total = torch.zeros((), device=input_ids.device)
        for ids, wanted, pieces in zip(input_ids, labels, piece_ids, strict=True):
            for number in range(1, int(pieces.max()) + 1):
                here = pieces == number
                document = ids[here][None]
                logits = self.forward(input_ids=document).logits[0]
                total += F.cross_entropy(logits.float(), wanted[here], ignore_index=NO_LABEL, reduction="sum")
        return total
