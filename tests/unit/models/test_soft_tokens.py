"""A trained prompt in the token stream: what PEFT computes of the saved folder, in any company."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from hfscale.batch import FIRST_SOFT_TOKEN
from hfscale.errors import ModelError
from hfscale.models import LanguageModel, load_causal_model, save_language_model
from hfscale.models.soft_tokens import read_soft_tokens
from hfscale.schemas import CausalModelSettings, LoraSettings
from hfscale.training.state import adapter_names
from tests.support.chat import byte_tokenizer, tiny_gpt

peft = pytest.importorskip("peft", reason="needs the extra `peft`")
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
NUMBER = 5
SOFT = torch.arange(NUMBER) + FIRST_SOFT_TOKEN
DOCUMENTS = [torch.arange(5, 16), torch.tensor([40, 7, 7, 90, 12, 30]), torch.arange(60, 51, -1)]


def base(kind: str, tied: bool) -> Any:
    tokenizer = byte_tokenizer()
    if kind == "gpt2":
        config = tiny_gpt(tokenizer).config
        config.tie_word_embeddings = tied
        return GPT2LMHeadModel(config)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"num_key_value_heads": 2, "max_position_embeddings": 64, "tie_word_embeddings": tied, "pad_token_id": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape, **more))


@pytest.fixture(scope="module", params=["gpt2-tied", "gpt2-apart", "llama-tied", "llama-apart"])
def prompted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LanguageModel]:
    """A base in a folder, whose logits depend on what stands before, and the same under a prompt."""
    kind, _, how = request.param.partition("-")
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    model = base(kind, how == "tied")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    settings, lora = CausalModelSettings(name=str(folder)), LoraSettings(method="prompt", tokens=NUMBER)
    return folder, load_causal_model(settings, byte_tokenizer(), 64, 0, lora)


def loss_of(model: Any, documents: list[torch.Tensor]) -> torch.Tensor:
    """Sum of the losses of all tokens but soft ones, of documents that share one sequence."""
    whole = [torch.cat([SOFT, document]) for document in documents]
    labels = [torch.cat([torch.full((NUMBER - 1,), -100), document, torch.tensor([-100])]) for document in documents]
    pieces = [torch.full_like(ids, number + 1) for number, ids in enumerate(whole)]
    places = [torch.arange(len(ids)) for ids in whole]
    rows = {"input_ids": whole, "labels": labels, "piece_ids": pieces, "position_ids": places}
    return model(**{name: torch.cat(parts).unsqueeze(0) for name, parts in rows.items()})


def test_the_prompt_alone_learns_and_begins_as_words(prompted: tuple[Path, LanguageModel]) -> None:
    """Packed documents give it the gradient that they give it one by one."""
    folder, (model, _) = prompted
    table: Any = model.get_input_embeddings().weight
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    (prompt,) = trained.values()
    assert adapter_names(model) == {"prompt_embeddings": next(iter(trained))}
    assert all(any(torch.equal(row, word) for word in table) for row in prompt)
    packed = loss_of(model, DOCUMENTS)
    (gradient,) = torch.autograd.grad(packed, prompt)
    alone = torch.stack([loss_of(model, [document]) for document in DOCUMENTS]).sum()
    torch.testing.assert_close(packed, alone, atol=0, rtol=1e-5)
    torch.testing.assert_close(gradient, torch.autograd.grad(alone, prompt)[0], atol=1e-5, rtol=1e-4)

    optimizer = torch.optim.SGD(trained.values(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(model, DOCUMENTS).backward()
        optimizer.step()
    assert loss_of(model, DOCUMENTS) < packed
    before = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    after = model.get_base_model().state_dict()  # type: ignore[operator]
    assert before.keys() == after.keys() and all(torch.equal(after[name], weight) for name, weight in before.items())


def test_peft_computes_the_same(prompted: tuple[Path, LanguageModel], tmp_path: Path) -> None:
    folder, language_model = prompted
    model: Any = language_model.model.eval()
    with torch.no_grad():
        model.prompt_encoder["default"].embedding.weight.add_(0.3)
    save_language_model(language_model, tmp_path / "prompt")
    assert load_file(tmp_path / "prompt" / "adapter_model.safetensors").keys() == {"prompt_embeddings"}
    with_peft = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "prompt")
    for document in DOCUMENTS:
        ids = document.unsqueeze(0)
        with torch.no_grad():
            logits = with_peft.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            soft = model.get_base_model()(input_ids=torch.cat([SOFT, document]).unsqueeze(0)).logits
            expected = torch.nn.functional.cross_entropy(logits[0, NUMBER - 1 : -1], document, reduction="sum")
            torch.testing.assert_close(soft, logits, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(loss_of(model, [document]), expected, atol=0, rtol=1e-5)
        given = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 12, "do_sample": False, "pad_token_id": 1}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Position ids are not supported")  # PEFT's own words
            expected = with_peft.generate(ids, **given)
        assert torch.equal(model.generate(ids, **given), expected)


def test_what_reads_more_than_an_embedding_is_refused() -> None:
    model: Any = base("gpt2", tied=True)
    config = peft.PromptTuningConfig(num_virtual_tokens=NUMBER, task_type="CAUSAL_LM")
    seen: list[Any] = []
    model.transformer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.lm_head.register_forward_hook(lambda _, args, output: output + (0 if seen[-1] is None else 1))
    with pytest.raises(ModelError, match="a gpt2 model takes more from its tokens than an embedding"):
        read_soft_tokens(peft.get_peft_model(model, config))


def test_a_model_without_an_output_layer_is_refused(tmp_path: Path) -> None:
    """It would be drawn at random, and nobody could load it again."""
    base("llama", tied=False).model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="lacks weights, which a prompt can't stand in for"):
        load_causal_model(
            CausalModelSettings(name=str(tmp_path)), byte_tokenizer(), 64, 0, LoraSettings(method="prompt")
        )
