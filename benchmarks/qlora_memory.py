"""A Llama of 1.1 billion weights fine-tuned in four bits by the recipe: its peak memory beside that of `hfscale plan`.

    python benchmarks/qlora_memory.py --folder runs/qlora_memory

The weights are random (TinyLlama's shape; memory doesn't mind), the text is that of `builtin:docstrings`, cut into
answers that fill the sequences. Without a GPU the peak is that of the whole process, Python and torch included, as the
operating system counts it; with one, what torch's allocator has handed out.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORDS_PER_TOKEN = 0.7


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/qlora_memory"), help="where model and runs go")
    parser.add_argument("--length", type=int, default=512, help="tokens of a sequence")
    parser.add_argument("--micro_batch_size", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--gpu", default="rtx4090", help="the GPU that `hfscale plan` is asked about")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--checkpointing", default="false", choices=["true", "false"])
    return parser.parse_args()


def write_model(folder: Path, texts: list[str]) -> None:
    """A random Llama with a tokenizer, unless it is there."""
    import datasets
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from hfscale.data.vocabulary import load_or_train_tokenizer
    from hfscale.schemas import TokenizerSettings

    if (folder / "config.json").exists():
        return
    table = datasets.Dataset.from_dict({"text": texts})
    tokenizer = load_or_train_tokenizer(TokenizerSettings(), table, "decoder", 2048)
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    tokenizer.save_pretrained(folder)
    torch.set_default_dtype(torch.bfloat16)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def texts_of(length: int, number: int) -> list[str]:
    """Docstrings, one behind the other, in pieces of about so many tokens."""
    from hfscale import data
    from hfscale.schemas import CorpusSettings

    corpus = data.load_corpus(CorpusSettings(train="builtin:docstrings", validation_fraction=0, max_documents=400))
    words = " ".join(corpus.train["text"]).split()
    size = int(length * WORDS_PER_TOKEN * 0.6)
    return [" ".join(words[start : start + size]) for start in range(0, size * number, size)]


def run(words: list[Any]) -> str:
    finished = subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True)
    if finished.returncode:
        sys.exit(f"{shlex.join(map(str, words))} failed:\n{finished.stdout[-2000:]}{finished.stderr[-2000:]}")
    return finished.stdout


def main() -> None:
    args = parse_arguments()
    folder = args.folder.resolve()
    texts = texts_of(args.length, 64)
    write_model(folder / "llama", texts)
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": "Go on.", "completion": text}) + "\n" for text in texts))
    recipe = [ROOT / "recipes" / "finetune_gpt.py", "--model.name", folder / "llama", "--data.train", rows]
    recipe += ["--data.template", "plain", "--data.max_length", args.length, "--data.validation_fraction", 0]
    recipe += ["--quant.bits", 4, "--lora.r", 16, "--train.max_steps", args.steps, "--train.log_steps", 1]
    recipe += ["--train.global_batch_size", args.micro_batch_size, "--train.micro_batch_size", args.micro_batch_size]
    recipe += ["--train.precision", args.precision, "--train.activation_checkpointing", args.checkpointing]
    output = folder / "run"
    shutil.rmtree(output, ignore_errors=True)
    print(run([sys.executable, *recipe, "--train.output_dir", output]))
    result = json.loads((output / "result.json").read_text(encoding="utf-8"))
    planned = run([sys.executable, "-m", "hfscale", "plan", *recipe, "--gpu", args.gpu])
    print(planned)
    peak, seconds = result["peak_memory_bytes"] / 2**30, result["train_seconds"] / result["steps"]
    print(
        f"measured peak: {peak:.2f} GiB, {result['num_trained_parameters']:,} weights trained, {seconds:.1f} s a step"
    )


if __name__ == "__main__":
    main()
