"""A model as an ONNX file, by torch's own exporter."""

from __future__ import annotations

import contextlib
import inspect
import logging
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hfscale.compression.kinds import SavedModel
from hfscale.errors import ModelError
from hfscale.models.rnn import RnnConfig, RnnEncoder

ONNX_FILE = "model.onnx"
_TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_ONNX_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
"""Where torch has the gates that ONNX wants: input, output, forget, cell; update, reset, hidden."""


def write_onnx(saved: SavedModel, model: Any, tokenizer: Any, folder: Path) -> None:
    """Write `model`, read from `saved`, as `model.onnx`; the sizes of its batch and its sequences stay open.

    Its inputs are those that the tokenizer makes and the model reads, or `pixel_values`; its outputs `logits`, or
    `start_logits` and `end_logits`. Weights of 2 GB and more stand in a file beside it.

    Raises:
        ModelError: for a model that the exporter can't follow.
    """
    batch, sequence = torch.export.Dim("batch"), torch.export.Dim("sequence")
    if saved.kind == "image":
        config = saved.config
        given: tuple[Tensor, ...] = (torch.rand(2, config.num_channels, *config.height_and_width),)
        names, axes = ["pixel_values"], {0: batch}
    else:
        names, axes = _text_inputs(model, tokenizer), {0: batch, 1: sequence}
        # No tensor twice: the exporter would take two inputs for one.
        given = tuple(torch.full((2, 8), int(name != "token_type_ids")) for name in names)
    outputs = ["start_logits", "end_logits"] if saved.kind == "question_answering" else ["logits"]
    graph = (_Recurrent if saved.config.model_type == RnnConfig.model_type else _Graph)(model, names, outputs).eval()
    with quietly():
        try:
            program = torch.onnx.export(
                graph,
                given,
                dynamo=True,
                verbose=False,
                input_names=names,
                output_names=outputs,
                dynamic_shapes=((axes,) * len(names),),
            )
        except (RuntimeError, ValueError, TypeError) as error:  # the exporter's own are RuntimeErrors
            cause = error.__cause__ or error
            reason = " ".join(str(cause).split())[:200]
            raise ModelError(f"torch.onnx.export can't write {saved.folder} as ONNX: {reason}") from None
        assert program is not None
        _without_notes(program.model)
        program.save(folder / ONNX_FILE)


def onnx_bytes(folder: Path) -> int:
    """Bytes of the file, and of the weights where they stand beside it."""
    return sum(path.stat().st_size for path in folder.glob(f"{ONNX_FILE}*"))


@contextlib.contextmanager
def quietly() -> Generator[None]:
    """Without the exporter's warnings and log lines: they speak of its own code, and what is wrong is measured."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _without_notes(model: Any) -> None:
    """The exporter notes at each operator which line of which file of this machine it comes from."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    ClearMetadataAndDocStringPass()(model)


def _text_inputs(model: Any, tokenizer: Any) -> list[str]:
    made = tokenizer.model_input_names if tokenizer is not None else _TEXT_INPUTS[:2]
    read = _TEXT_INPUTS[:2] if isinstance(model.config, RnnConfig) else inspect.signature(model.forward).parameters
    return [name for name in _TEXT_INPUTS if name in read and (name in made or name in _TEXT_INPUTS[:2])]


class _Graph(nn.Module):
    """The model with tensors in and tensors out, and without a cache of keys and values."""

    def __init__(self, model: Any, inputs: list[str], outputs: list[str]) -> None:
        super().__init__()
        self.model, self.inputs, self.outputs = model, inputs, outputs
        self.options = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        output = self.model(**dict(zip(self.inputs, given, strict=True)), **self.options)
        return tuple(output[name] for name in self.outputs)


class _Recurrent(_Graph):
    """An RNN by ONNX's own operators, which are told the lengths: torch's packed sequences can't be exported, and its
    exporter would write out a recurrence word by word, for one length."""

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        ids, mask = given
        encoder: RnnEncoder = self.model.rnn
        width = mask.shape[1]
        place = torch.arange(width, device=mask.device)
        front = (mask * width - place).argsort(dim=1, descending=True)  # real tokens first; no two are equal
        lengths = mask.sum(dim=1).clamp(min=1)
        states = _states(encoder.recurrent, encoder.embedding(ids.gather(1, front)), lengths)
        mean = states.sum(dim=1) / lengths[:, None]  # states of padding are 0
        maximum = states.masked_fill((place >= lengths[:, None])[..., None], -torch.inf).amax(dim=1)
        return (self.model.classifier(torch.cat([mean, maximum], dim=-1)),)


def _states(recurrent: nn.LSTM | nn.GRU, embedded: Tensor, lengths: Tensor) -> Tensor:
    """(batch, positions, features) -> (batch, positions, directions x hidden), 0 behind each text's end.

    https://onnx.ai/onnx/operators/onnx__LSTM.html and onnx__GRU.html say how the weights are laid out.
    """
    operator, hidden = type(recurrent).__name__, recurrent.hidden_size
    directions = ("", "_reverse") if recurrent.bidirectional else ("",)
    attributes: Any = {"hidden_size": hidden, "direction": "bidirectional" if recurrent.bidirectional else "forward"}
    if operator == "GRU":
        attributes["linear_before_reset"] = 1
    states = embedded.transpose(0, 1)
    for layer in range(recurrent.num_layers):

        def weights(kind: str, layer: int = layer) -> Tensor:
            each = (getattr(recurrent, f"{kind}_l{layer}{direction}").split(hidden) for direction in directions)
            return torch.stack([torch.cat([gates[gate] for gate in _ONNX_GATES[operator]]) for gates in each])

        both = torch.cat([weights("bias_ih"), weights("bias_hh")], dim=1)
        positions, batch = states.shape[:2]
        found = torch.onnx.ops.symbolic(
            operator,
            [states, weights("weight_ih"), weights("weight_hh"), both, lengths.int()],
            attributes,
            dtype=states.dtype,
            shape=(positions, len(directions), batch, hidden),
            version=14,
        )
        states = found.transpose(1, 2).reshape(positions, batch, len(directions) * hidden)
    return states.transpose(0, 1)
