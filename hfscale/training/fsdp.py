"""What FSDP2 does otherwise: weights, gradients and moments are `DTensor`s, of which every process has a share.

See Zhao et al. 2023 (arXiv:2304.11277) and torch's `fully_shard`. The step is the plain one: gradients are averaged as
by DDP.

Checkpoints and model files hold whole tensors by name, as they do under ZeRO.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hfscale.training.state import Scalars, buffers_of, load_optimizer_state, optimizer_state, parameters_of

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor, nn


def configure(accelerator: Accelerator, model: nn.Module) -> None:
    """Tell accelerate, before `prepare`, what is gathered together, unless the launcher's settings do.

    A model may want its embeddings undivided, too, which accelerate shares out by themselves already. It can't send
    saved buffers (as those of batch norms) to other processes; they have loaded them anyway.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is None:
        return
    if plugin.transformer_cls_names_to_wrap is None:
        found = {type(module).__name__ for module in model.modules()}
        wanted = found & set(getattr(model, "_no_split_modules", None) or ())
        plugin.transformer_cls_names_to_wrap = sorted(name for name in wanted if not name.endswith("Embeddings"))
    if buffers_of(model):
        plugin.cpu_ram_efficient_loading = False


def is_share(tensor: Any) -> bool:
    """Whether this process has only a part of the tensor."""
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def whole(tensor: Any) -> Tensor:
    """All of its elements, on every process; called by all."""
    return tensor.full_tensor() if is_share(tensor) else tensor


def shared_out(tensor: Tensor, like: Any) -> Any:
    """This process's share of the first one's `tensor`, laid out as that of `like`; called by all."""
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)


def gathered_state(accelerator: Accelerator, model: nn.Module, optimizer: Any) -> tuple[Any, Any, Scalars]:
    """(weights by name, moments as `KEY:WEIGHT`, other state), whole, on the first process; called by all."""
    moments, scalars = optimizer_state(model, optimizer)
    return _whole_ones(accelerator, parameters_of(model)), _whole_ones(accelerator, moments), scalars


def _whole_ones(accelerator: Accelerator, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the first process; empty on the others."""
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = whole(tensor)
        if accelerator.is_main_process:
            kept[name] = full.cpu().clone()
    return kept


def load_moments(model: nn.Module, optimizer: Any, moments: Mapping[str, Tensor], scalars: Scalars) -> None:
    """Give every process its share of the optimizer's state."""
    weights = dict(model.named_parameters())
    shares = {}
    for full, tensor in moments.items():
        weight = weights[full.split(":", 1)[1]]
        has_shares = is_share(weight) and tensor.shape == weight.shape
        shares[full] = shared_out(tensor, weight) if has_shares else tensor
    load_optimizer_state(model, optimizer, shares, scalars)
