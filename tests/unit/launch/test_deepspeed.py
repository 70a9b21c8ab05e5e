"""What a DeepSpeed configuration may say beside hfscale's own settings."""

from typing import Any

import pytest

from hfscale.errors import LaunchError
from hfscale.launch.deepspeed import refuse_training_settings


@pytest.mark.parametrize(
    ("config", "setting"),
    [
        ({"optimizer": {"type": "AdamW"}}, "--optim.name"),
        ({"scheduler": {"type": "WarmupLR"}}, "--optim.schedule"),
        ({"gradient_clipping": 1.0}, "--optim.max_grad_norm"),
        ({"gradient_accumulation_steps": 4}, "--train.micro_batch_size"),
        ({"train_batch_size": 64}, "--train.global_batch_size"),
        ({"fp16": {"enabled": True}}, "--train.precision bf16"),
        ({"activation_checkpointing": {"partition_activations": True}}, "--train.activation_checkpointing"),
    ],
)
def test_what_hfscale_decides_is_refused(config: dict[str, Any], setting: str) -> None:
    with pytest.raises(LaunchError, match=next(iter(config))) as caught:
        refuse_training_settings(config)
    assert setting in str(caught.value)


def test_what_accelerate_leaves_open_is_taken() -> None:
    config = {"gradient_clipping": "auto", "gradient_accumulation_steps": 1, "fp16": {"enabled": False}}
    refuse_training_settings({**config, "train_batch_size": "auto", "zero_optimization": {"stage": 3}})
