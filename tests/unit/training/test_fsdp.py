"""What accelerate is told of a model before it shares it out."""

from types import SimpleNamespace
from typing import Any

import torch
import transformers

from hfscale.training import fsdp


def configured(model: Any, **given: Any) -> Any:
    plugin = SimpleNamespace(**{"transformer_cls_names_to_wrap": None, "cpu_ram_efficient_loading": True, **given})
    accelerator: Any = SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin))
    fsdp.configure(accelerator, model)
    return plugin


def bert() -> Any:
    shape = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    return transformers.BertForSequenceClassification(transformers.BertConfig(**shape, intermediate_size=16))


def test_embeddings_are_not_shared_out_twice() -> None:
    assert "BertEmbeddings" in bert()._no_split_modules
    plugin = configured(bert())
    assert plugin.transformer_cls_names_to_wrap == ["BertLayer"] and plugin.cpu_ram_efficient_loading


def test_what_the_launcher_says_stays() -> None:
    assert configured(bert(), transformer_cls_names_to_wrap=["BertModel"]).transformer_cls_names_to_wrap == [
        "BertModel"
    ]


def test_saved_buffers_are_not_sent() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    assert not configured(model).cpu_ram_efficient_loading


def test_nothing_is_said_without_fsdp() -> None:
    accelerator: Any = SimpleNamespace(state=SimpleNamespace())
    fsdp.configure(accelerator, bert())
