"""The lines of a card that use the model: they run as they stand, with the model's name in place of `PLACE`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hfscale.data.sources import is_local, last_part
from hfscale.models import origin_of
from hfscale.models.heads import head_of
from hfscale.runs import pipeline_options

PLACE = "PATH_OR_HUB_ID"
"""Stands for the model until it is known where it will be."""
SENTENCEPIECE = " sentencepiece"
"""What tokenizers of some encoder-decoders need, as Marian's."""
PIPELINES = {
    "token_classification": "token-classification",
    "question_answering": "question-answering",
    "causal": "text-generation",
    "masked": "fill-mask",
}
"""By task or kind of language model; text-classification for all others."""


def pipeline_of(kind: str) -> str:
    """What the Hub calls the task."""
    return PIPELINES.get(kind, "text-classification")


def plain_usage(kind: str, options: str = "", pair: bool = False) -> str:
    """Lines that use a plain model folder of this task, or language model (`causal`, `masked`).

    Args:
        options: further arguments of what loads it, each behind a comma.
        pair: whether it reads two texts.
    """
    if kind == "question_answering":
        load = f'"{PLACE}"{options}'
        return (
            "```python\nimport torch\nfrom transformers import AutoModelForQuestionAnswering, AutoTokenizer\n\n"
            f'tokenizer = AutoTokenizer.from_pretrained("{PLACE}")\n'
            f"model = AutoModelForQuestionAnswering.from_pretrained({load}).eval()\n{_predict(kind, False)}```\n"
        )
    task = pipeline_of(kind)
    options = f"{pipeline_options(task)}{', top_k=None' if kind == 'multi_label_classification' else ''}{options}"
    given = {
        "causal": '"The"',
        "masked": 'f"The {model.tokenizer.mask_token} is here."',
    }.get(kind, '{"text": "your text", "text_pair": "your other text"}' if pair else '"your text"')
    return (
        "```python\nfrom transformers import pipeline\n\n"
        f'model = pipeline("{task}", "{PLACE}"{options})\nprint(model({given}))\n```\n'
    )


def image_usage() -> str:
    """Lines that use an image classifier with its own code."""
    return (
        "```python\nfrom transformers import pipeline\n\n"
        f'model = pipeline("image-classification", "{PLACE}", trust_remote_code=True)\n'
        'print(model("image.png"))\n```\n'
    )


def adapter_usage(config: Any, kind: str, *options: str, pair: bool = False) -> str:
    """How PEFT loads an adapter: label names, padding and bits stand in its folder, which transformers does not look
    into by itself.

    Args:
        kind: a task, or `causal` or `seq2seq`, whose models are only loaded.
        options: more arguments of `from_pretrained` of the base.
    """
    whole = {"causal": "AutoModelForCausalLM", "seq2seq": "AutoModelForSeq2SeqLM"}  # asked by lines of their own
    auto_class = whole.get(kind) or f"AutoModelFor{head_of(kind)}"  # type: ignore[arg-type]
    name, revision = config.model.name, getattr(config.model, "revision", None)
    base = "PATH_OF_BASE" if is_local(name) else origin_of(name)
    needed = f"`{base}`"
    if is_local(name):
        needed = f"a model that was in a local folder `{last_part(name)}`, in place of PATH_OF_BASE"
    trusted = ["trust_remote_code=True"] if config.model.trust_remote_code else []
    arguments = ["config=config", *options, *([f'revision="{revision}"'] if revision else []), *trusted]
    classes, quant, in_bits = ["AutoConfig", auto_class], getattr(config, "quant", None), ""
    if quant:
        in_bits = f"in_bits = BitsAndBytesConfig(**config.hfscale_quantization)  # {in_words(quant)}\n"
        arguments.append("quantization_config=in_bits")
    torch, predict = "", ""
    if kind not in whole:
        classes.append("AutoTokenizer")
        torch = "import torch\n"
        predict = f'tokenizer = AutoTokenizer.from_pretrained("{PLACE}")\n{_predict(kind, pair)}'
    classes += ["BitsAndBytesConfig"] if quant else []
    folder = ", ".join([f'"{PLACE}"', *trusted])
    packages = f"transformers peft{SENTENCEPIECE if kind == 'seq2seq' else ''}{' bitsandbytes' if quant else ''}"
    return (
        f"This is an adapter. It needs {needed}, and `pip install {packages}`.{trust_note(config.model)}\n\n"
        f"```python\n{torch}from peft import PeftModel\nfrom transformers import {', '.join(classes)}\n\n"
        f"config = AutoConfig.from_pretrained({folder})\n{in_bits}"
        f'base = {auto_class}.from_pretrained(\n    "{base}", {", ".join(arguments)}\n)\n'
        f'model = PeftModel.from_pretrained(base, "{PLACE}").eval()\n{predict}```\n'
    )


def _predict(kind: str, pair: bool) -> str:
    """From a `tokenizer` and a `model` to what is printed."""
    texts = '"your text", "your other text"' if pair else '"your text"'
    names = "model.config.id2label"
    if kind == "question_answering":
        texts = '"your question", "the context that answers it"'
        shown = (
            "start, end = output.start_logits.argmax(), output.end_logits.argmax()\n"
            'print(tokenizer.decode(inputs["input_ids"][0, start : end + 1], skip_special_tokens=True))\n'
        )
    elif kind == "token_classification":
        shown = (
            "for token, tag in zip(inputs.tokens(), output.logits[0].argmax(-1).tolist()):\n"
            f"    print(token, {names}[tag])\n"
        )
    elif kind == "multi_label_classification":
        shown = f"print([{names}[label] for label in (output.logits[0] > 0).nonzero().flatten().tolist()])\n"
    elif kind == "regression":
        shown = "print(float(output.logits[0, 0]))\n"
    else:
        shown = f"print({names}[int(output.logits[0].argmax())])\n"
    return (
        f'inputs = tokenizer({texts}, return_tensors="pt").to(model.device)\n'
        f"with torch.no_grad():\n    output = model(**inputs)\n{shown}"
    )


def chat_usage(data: Mapping[str, Any], options: str = "") -> str:
    """Lines that ask a plain model folder, behind the system message that it was trained with.

    Args:
        data: the settings of the run's data.
        options: further arguments of the pipeline, each behind a comma.
    """
    return f"""\
```python
from transformers import pipeline

model = pipeline("text-generation", "{PLACE}", max_new_tokens={_room(data)}{options})
print(model({_messages(data.get("system"))})[0]["generated_text"][-1]["content"])
```
"""


def adapter_chat(config: Any) -> str:
    """The adapter's own folder says where an answer ends, and how messages are written."""
    return (
        adapter_usage(config, "causal")
        + f"""
```python
from transformers import AutoTokenizer, GenerationConfig

tokenizer = AutoTokenizer.from_pretrained("{PLACE}")
ends = GenerationConfig.from_pretrained("{PLACE}").eos_token_id
asked = tokenizer.apply_chat_template(
    {_messages(config.data.system)}, add_generation_prompt=True, return_tensors="pt", return_dict=True
).to(model.device)
written = model.generate(**asked, max_new_tokens={_room(vars(config.data))}, eos_token_id=ends)
answer = written[0, asked["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
```
"""
    )


def _room(data: Mapping[str, Any]) -> int:
    """Tokens to write: a model may have positions for no more than it was trained on."""
    return min(128, (data.get("max_length") or 256) // 2)


def _messages(system: str | None) -> str:
    """What is asked, as Python."""
    first = f'{{"role": "system", "content": {json.dumps(system, ensure_ascii=False)}}}, ' if system else ""
    return f'[{first}{{"role": "user", "content": "your question"}}]'


def trust_note(model: Any) -> str:
    """A sentence for a model whose code is not part of transformers."""
    if not getattr(model, "trust_remote_code", False):
        return ""
    return " It brings Python code of its own, which `trust_remote_code=True` runs: read it first."


def in_words(quant: Any) -> str:
    """How many bits, and of which kind."""
    if quant.bits == 8:
        return "8 bits"
    return f"4 bits ({quant.type or 'nf4'}{', double quantization' if quant.double is not False else ''})"
