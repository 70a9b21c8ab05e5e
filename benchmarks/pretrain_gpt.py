"""Causal language modelling: hfscale beside `transformers.Trainer`, on a CPU, and beside the machine's own peak.

    python benchmarks/pretrain_gpt.py --steps 20 --rounds 2

1. A GPT-2 of 4 layers, width 256, with a vocabulary of 50,257: tokens per second of both, same first weights, tokens
   per step, learning rate at every step, AdamW, weight decay, clipping, no dropout, threads. Each has its own default
   form of GELU's tanh approximation: ours is the one that PyTorch has as a single kernel. The peer's rows are made
   as its own example script makes them: documents one after the other, cut every `--max_length` tokens.
2. The memory that the loss needs on top of the model's states: forward and backward from (tokens, width) states.
3. The same body with 65 characters as vocabulary (nanoGPT's small benchmark): share of the machine's matrix-multiply
   peak, which is measured before and after every run.
"""

import json
import statistics
from typing import Any

import torch
import transformers
from accelerate import Accelerator
from side_by_side import CORES, chunks, compare, measure, parser, train_hfscale, train_peer
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers.loss.loss_utils import ForCausalLMLoss

from hfscale import data, evaluation, models
from hfscale.batch import Batch
from hfscale.models.targets import linear_cross_entropy
from hfscale.schemas import CorpusSettings, TokenizerSettings
from hfscale.training.throughput import matmul_peak

VOCABULARY = 50_257
CHARACTERS = 65


def new_model(args: Any, vocabulary: int, activation: str) -> Any:
    torch.manual_seed(args.seed)
    config = transformers.GPT2Config(
        vocab_size=vocabulary,
        n_positions=args.max_length,
        n_embd=256,
        n_layer=4,
        n_head=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        activation_function=activation,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)


def ours(args: Any, vocabulary: int = VOCABULARY) -> Any:
    """The model that recipes/pretrain_gpt.py builds: GPT-2's activation in one kernel."""
    return models.prepare_language_model(new_model(args, vocabulary, "gelu_pytorch_tanh"))


def work(args: Any) -> dict[str, Any]:
    corpus = data.load_corpus(CorpusSettings(train=args.corpus, max_length=args.max_length))
    # The vocabulary's size is the model's; a small corpus fills less of it.
    tokenizer = data.load_or_train_tokenizer(TokenizerSettings(), corpus.train, "decoder", args.max_length)
    train, held_out = data.pack_corpus(corpus, tokenizer, args.max_length, "decoder")
    assert held_out is not None and tokenizer.pad_token_id is not None
    sizes = {"global_batch_size": args.batch_size, "micro_batch_size": None}
    batches = data.PackedTrainBatches(
        train, data.next_tokens, pad_token_id=tokenizer.pad_token_id, seed=args.seed, **sizes
    )
    if args.worker == "hfscale":
        model, run, seconds = train_hfscale(args, lambda settings: (ours(args), batches))
        fill = train.fill
    else:
        collator = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False)
        rows = chunks(corpus.train, tokenizer, "decoder", args.max_length)
        model, run, seconds = train_peer(args, new_model(args, VOCABULARY, "gelu_new"), rows, collator)
        model, fill = models.prepare_language_model(model), 1.0
    rows = data.PackedEvalBatches(held_out, data.next_tokens, pad_token_id=tokenizer.pad_token_id, batch_size=16)
    scores = evaluation.score_language_model(Accelerator(cpu=True), model, rows, held_out.tokens_per_byte)
    tokens = args.steps * args.batch_size * args.max_length * fill
    return {"tokens_per_second": tokens / seconds, "losses": run.losses, "held_out_loss": scores["loss"]}


def loss_memory(args: Any) -> dict[str, Any]:
    """Bytes by which the process grows, at most, while the loss and its gradients are computed."""
    tokens, layer = args.batch_size * args.max_length, torch.nn.Linear(256, VOCABULARY, bias=False)
    labels = torch.randint(0, VOCABULARY, (args.batch_size, args.max_length))
    states = torch.randn(args.batch_size, args.max_length, 256, requires_grad=True)
    linear_cross_entropy(
        states[:1, :8].reshape(8, 256), layer, labels[:1, :8].reshape(8)
    ).backward()  # first-use buffers
    before = _resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the high-water mark starts anew
    if args.worker == "loss_hfscale":
        linear_cross_entropy(states.reshape(tokens, 256), layer, labels.reshape(tokens)).backward()
    else:
        ForCausalLMLoss(layer(states), labels, VOCABULARY).backward()
    return {"bytes": _resident("VmHWM") - before}


def _resident(field: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


class _Characters:
    """Batches of random characters, one document per sequence."""

    steps_per_epoch = 1_000_000

    def __init__(self, args: Any) -> None:
        ids = torch.randint(0, CHARACTERS, (args.batch_size, args.max_length + 1))
        place = torch.arange(args.max_length).expand(args.batch_size, -1)
        inputs = {"input_ids": ids[:, :-1], "labels": ids[:, 1:], "position_ids": place}
        inputs["piece_ids"] = torch.ones_like(place)
        self._batch = Batch(inputs, args.batch_size, args.batch_size * args.max_length)

    def __getitem__(self, step: int) -> list[Any]:
        return [self._batch]


def peak_share(args: Any) -> dict[str, Any]:
    torch.set_num_threads(CORES)
    device, batches = torch.device("cpu"), _Characters(args)
    before = matmul_peak(device, torch.float32)
    model, _, seconds = train_hfscale(args, lambda settings: (ours(args, CHARACTERS), batches))
    after = matmul_peak(device, torch.float32)
    inputs = {name: value[:1] for name, value in batches[0][0].inputs.items()}
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.eval()(**inputs)
    tokens_per_second = args.steps * args.batch_size * args.max_length / seconds
    flops = 3 * counter.get_total_flops() / args.max_length * tokens_per_second
    return {
        "tokens_per_second": tokens_per_second,
        "share": flops / ((before + after) / 2),
        "peak": (before + after) / 2,
    }


def main(args: Any) -> None:
    compare(__file__, args)
    memory = {name: measure(__file__, f"loss_{name}")["bytes"] / 2**20 for name in ("hfscale", "trainer")}
    print(
        f"\nmemory of the loss: hfscale {memory['hfscale']:,.0f} MiB, trainer {memory['trainer']:,.0f} MiB, "
        f"{memory['hfscale'] / memory['trainer']:.0%}"
    )
    runs = [measure(__file__, "characters") for _ in range(args.rounds + 1)]
    shares = ", ".join(f"{run['share']:.0%}" for run in runs)
    print(
        f"characters: {statistics.median(run['tokens_per_second'] for run in runs):,.0f} tokens/s, "
        f"{statistics.median(run['share'] for run in runs):.0%} of the matrix-multiply peak "
        f"({shares}; peak {statistics.median(run['peak'] for run in runs) / 1e9:.0f} GFLOP/s)"
    )


if __name__ == "__main__":
    arguments = parser(__doc__).parse_args()
    if arguments.worker in ("loss_hfscale", "loss_trainer"):
        print(json.dumps(loss_memory(arguments)))
    elif arguments.worker == "characters":
        print(json.dumps(peak_share(arguments)))
    elif arguments.worker:
        print(json.dumps(work(arguments)))
    else:
        main(arguments)
