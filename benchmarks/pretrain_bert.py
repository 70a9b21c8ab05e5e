"""Masked language modelling: hfscale beside `transformers.Trainer` + `DataCollatorForLanguageModeling`, on a CPU.

    python benchmarks/pretrain_bert.py --steps 40 --rounds 2

Equal for both: BERT-mini (4 layers, width 256) with the same first weights, a vocabulary of 30,522, the same
documents, tokens per step, learning rate at every step, AdamW, weight decay, clipping, 15% masks, threads. The peer's
sequences are made as its own example script makes them: documents one after the other, cut every `--max_length`
tokens. The held-out loss is computed for both by the same function on the same packed and masked text.
"""

import json
from typing import Any

import torch
import transformers
from accelerate import Accelerator
from side_by_side import chunks, compare, parser, train_hfscale, train_peer

from hfscale import data, evaluation, models
from hfscale.schemas import CorpusSettings, TokenizerSettings

VOCABULARY = 30_522
FRACTION = 0.15


def load(args: Any) -> tuple[Any, Any, Any, Any]:
    """Corpus, tokenizer, packed training text, packed held-out text."""
    corpus = data.load_corpus(CorpusSettings(train=args.corpus, max_length=args.max_length))
    settings = TokenizerSettings(vocab_size=VOCABULARY)
    tokenizer = data.load_or_train_tokenizer(settings, corpus.train, "encoder", args.max_length)
    return corpus, tokenizer, *data.pack_corpus(corpus, tokenizer, args.max_length, "encoder")


def new_model(args: Any) -> Any:
    """BERT-mini with the vocabulary's full size, whatever the corpus fills of it."""
    torch.manual_seed(args.seed)
    shape = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, max_position_embeddings=args.max_length, **shape, **dropout
    )
    return transformers.BertForMaskedLM(config)


def work(args: Any) -> dict[str, Any]:
    corpus, tokenizer, train, held_out = load(args)
    shared = {"fraction": FRACTION, "whole_words": False, "seed": args.seed, "max_length": args.max_length}
    mask = data.MaskedTokens(tokenizer, **shared)
    sizes = {"global_batch_size": args.batch_size, "micro_batch_size": None}
    batches = data.PackedTrainBatches(train, mask, pad_token_id=tokenizer.pad_token_id, seed=args.seed, **sizes)
    if args.worker == "hfscale":
        model, run, seconds = train_hfscale(
            args, lambda settings: (models.prepare_language_model(new_model(args)), batches)
        )
        fill = train.fill
    else:
        collator = transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=FRACTION)
        rows = chunks(corpus.train, tokenizer, "encoder", args.max_length)
        model, run, seconds = train_peer(args, new_model(args), rows, collator)
        model, fill = models.prepare_language_model(model), 1.0
    rows = data.PackedEvalBatches(held_out, mask, pad_token_id=tokenizer.pad_token_id, batch_size=64)
    scores = evaluation.score_language_model(Accelerator(cpu=True), model, rows, held_out.tokens_per_byte)
    tokens = args.steps * args.batch_size * args.max_length * fill
    return {"tokens_per_second": tokens / seconds, "losses": run.losses, "held_out_loss": scores["loss"]}


if __name__ == "__main__":
    arguments = parser(__doc__).parse_args()
    if arguments.worker:
        print(json.dumps(work(arguments)))
    else:
        compare(__file__, arguments)
