"""What a DeepSpeed configuration may say beside hfscale's own settings."""

from types import SimpleNamespace
from typing import Any

import pytest

from hfscale.errors import LaunchError
from hfscale.launch.deepspeed import refuse_training_settings, take_over


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
        ({"amp": {"enabled": True}}, "--train.precision bf16"),
        ({"data_types": {"grad_accum_dtype": "bf16"}}, "--train.precision bf16"),
        ({"prescale_gradients": True}, "number of targets"),
        ({"curriculum_learning": {"enabled": True}}, "--train.seed"),
    ],
)
def test_what_hfscale_decides_is_refused(config: dict[str, Any], setting: str) -> None:
    with pytest.raises(LaunchError, match=next(iter(config))) as caught:
        refuse_training_settings(config)
    assert setting in str(caught.value)


def test_what_accelerate_leaves_open_is_taken() -> None:
    config = {"gradient_clipping": "auto", "gradient_accumulation_steps": 1, "fp16": {"enabled": False}}
    config |= {"prescale_gradients": False}
    refuse_training_settings({**config, "train_batch_size": "auto", "zero_optimization": {"stage": 3}})


def test_stage_0_is_refused() -> None:
    plugin = SimpleNamespace(zero_stage=0, deepspeed_config={})
    accelerator: Any = SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=plugin), mixed_precision="no")
    with pytest.raises(LaunchError, match=r"zero_stage is 0, which shares nothing out; .*ddp\.yaml"):
        take_over(accelerator)
