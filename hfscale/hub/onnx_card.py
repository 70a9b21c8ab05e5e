"""Lines for a model card that run an ONNX file with onnxruntime, without PyTorch."""

from __future__ import annotations

_START = """\
import json
from pathlib import Path

import numpy as np
import onnxruntime
from huggingface_hub import snapshot_download
{imports}

name = "PATH_OR_HUB_ID"
folder = Path(name) if Path(name).is_dir() else Path(snapshot_download(name))
session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
"""
_TEXT = """\
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))


def run(*texts):
    tokens = tokenizer.encode(*texts)
    known = {"input_ids": tokens.ids, "attention_mask": tokens.attention_mask, "token_type_ids": tokens.type_ids}
    return tokens, session.run(None, {each.name: np.array([known[each.name]]) for each in session.get_inputs()})


"""
_NAMES = 'names = json.loads((folder / "config.json").read_text("utf-8"))["id2label"]\n'
_IMAGE = """\
how = json.loads((folder / "preprocessor_config.json").read_text("utf-8"))
image = Image.open("image.png").convert("L" if how["num_channels"] == 1 else "RGB")
image = image.resize((how["size"]["width"], how["size"]["height"]), Image.Resampling.BILINEAR)
pixels = np.asarray(image, np.float32).reshape(image.height, image.width, -1) / np.float32(255)
values = (pixels - np.float32(how["image_mean"])) / np.float32(how["image_std"])
(logits,) = session.run(None, {"pixel_values": values.transpose(2, 0, 1)[None]})
"""
_ONE = "print(names[str(logits[0].argmax())])\n"
_RUN: dict[str, str] = {
    "single_label_classification": _TEXT + '_, (logits,) = run("your text")\n' + _NAMES + _ONE,
    "multi_label_classification": _TEXT
    + '_, (logits,) = run("your text")\n'
    + _NAMES
    + "print([names[str(number)] for number in np.flatnonzero(logits[0] > 0)])\n",
    "regression": _TEXT + '_, (logits,) = run("your text")\nprint(float(logits[0, 0]))\n',
    "token_classification": _TEXT
    + 'tokens, (logits,) = run("your text")\n'
    + _NAMES
    + "print([(token, names[str(best)]) for token, best in zip(tokens.tokens, logits[0].argmax(-1))])\n",
    "question_answering": _TEXT
    + 'context = "the context that answers it"\n'
    + 'tokens, (starts, ends) = run("your question", context)\n'
    + "scores = np.triu(starts[0][:, None] + ends[0][None, :] + 1e3)  # an answer ends where it starts, or later\n"
    + "outside = [place != 1 for place in tokens.sequence_ids]\n"
    + "scores[outside], scores[:, outside] = 0, 0\n"
    + "first, last = np.unravel_index(scores.argmax(), scores.shape)\n"
    + "print(context[tokens.offsets[first][0] : tokens.offsets[last][1]])\n",
    "causal": _TEXT + '_, (logits,) = run("your text")  # for every position what comes next\n'
    "print(tokenizer.decode([int(logits[0, -1].argmax())]))\n",
    "masked": _TEXT + 'tokens, (logits,) = run("your text with MASK, the tokenizer\'s mask token")\n'
    "print([tokenizer.id_to_token(int(best)) for best in logits[0].argmax(-1)])\n",
    "image": _IMAGE + _NAMES + _ONE,
}


def onnx_usage(kind: str) -> str:
    """Lines that use `model.onnx` of a task, of a language model (`causal`, `masked`) or of an `image` classifier."""
    library, imports = ("tokenizers", "from tokenizers import Tokenizer")
    if kind == "image":
        library, imports = "pillow", "from PIL import Image"
    code = _START.format(imports=imports) + _RUN[kind]
    return f"It needs `pip install onnxruntime huggingface_hub {library}`, and no PyTorch.\n\n```python\n{code}```\n"
