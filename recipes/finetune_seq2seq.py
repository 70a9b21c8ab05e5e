"""Teach an encoder-decoder to write what follows from what it reads: translations, summaries.

    # from scratch, on two text files with the same lines; an hour on a laptop
    python recipes/finetune_seq2seq.py --config recipes/configs/finetune_seq2seq/multi30k.yaml \\
        --data.train 'train.{en,de}.gz' --data.validation 'val.{en,de}.gz' --data.test 'test.{en,de}.gz'

    # a model of the Hub on your own file, with columns `source` and `target`
    python recipes/finetune_seq2seq.py --model.name Helsinki-NLP/opus-mt-en-de --data.train pairs.csv --optim.lr 2e-5

    # summaries, by a small adapter
    python recipes/finetune_seq2seq.py --task summarization --model.name google-t5/t5-small --lora.r 8 \\
        --data.train articles.jsonl --data.source article --data.target summary --data.prefix 'summarize: ' \\
        --data.max_length 512 --data.max_target_length 128 --optim.lr 1e-3

    # two processes, on two GPUs or on a CPU
    accelerate launch --config_file accelerate_configs/ddp.yaml recipes/finetune_seq2seq.py --data.train pairs.csv

`--help` explains every setting, `--lora.help` those of adapters.
"""

from dataclasses import dataclass, field
from functools import partial

from hfscale import config as settings
from hfscale import data, evaluation, files, hub, launch, models, runs, schemas, training
from hfscale.schemas import OptimSettings, Seq2SeqModelSettings, TextPairSettings, TokenizerSettings, TrainSettings


@dataclass(frozen=True, kw_only=True)
class Config:
    """Teach an encoder-decoder to translate or to summarize, for 3 epochs unless told otherwise."""

    task: schemas.Seq2SeqTask = "translation"
    """What is measured: BLEU and chrF, or ROUGE."""
    model: Seq2SeqModelSettings = field(default_factory=Seq2SeqModelSettings)
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    lora: schemas.LoraSettings | None = None
    quant: schemas.QuantSettings | None = None
    data: TextPairSettings
    generation: schemas.GenerationSettings = field(default_factory=schemas.GenerationSettings)
    label_smoothing: float = 0.1
    """Share of the right token that is spread over the whole vocabulary; 0 for none."""
    optim: OptimSettings = field(default_factory=lambda: OptimSettings(lr=5e-4, schedule="cosine"))
    train: TrainSettings = field(default_factory=lambda: TrainSettings(output_dir="runs/finetune_seq2seq"))
    hub: schemas.HubSettings | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "train", schemas.with_length(self.train, epochs=3))
        schemas.check_adapter(self.lora, self.quant)
        schemas.check_tokenizer(self.model, self.tokenizer)
        schemas.check_seq2seq(self.task, self.data, self.generation, self.train, self.label_smoothing)


def main(config: Config) -> None:
    # 1. Where are we running, and where to? A run that was interrupted goes on where it was
    evaluation.require_metrics(config.task)
    accelerator = launch.start(config.train, config.quant)
    run = runs.claim(config, accelerator)
    folder, seed = run.folder, config.train.seed

    # 2. Data: pairs of texts, and the tokens of both; one vocabulary for the two of them
    with accelerator.main_process_first():
        pairs = data.load_text_pairs(config.data)
        tokenizer = models.find_seq2seq_tokenizer(config.model, config.tokenizer, pairs.train, config.data.max_length)
        train = data.tokenize_pairs(pairs.train, tokenizer, config.data, is_training=True)
        held_out = {name: data.tokenize_pairs(part, tokenizer, config.data, is_training=False)
                    for name, part in (("validation", pairs.validation), ("test", pairs.test)) if part}  # fmt: skip

    # 3. Model: the one to go on from, or a new one
    empty = launch.awaits_weights(accelerator)
    seq2seq = models.load_seq2seq_model(config.model, tokenizer, config.data, seed, config.lora, config.quant, empty)
    model = seq2seq.model
    models.write_as(model, config.generation, config.data.target_length)

    # 4. Batches of pairs that are of similar lengths on both sides, in the same order on any number of processes
    padding = {"pad_token_id": tokenizer.pad_token_id, "padding_side": tokenizer.padding_side}
    shared = {**padding, **launch.batching(accelerator)}
    sizes = {"global_batch_size": config.train.global_batch_size, "micro_batch_size": config.train.micro_batch_size}
    batches = data.TrainBatches(train, seed=seed, **sizes, **shared)
    launch.preflight(accelerator, config, model, batches, tokenizer, "seq2seq")

    batches_of = partial(data.EvalBatches, batch_size=config.train.eval_batch_size, **shared)

    def score(trained, part, is_final=True):
        rows = held_out[part]
        return evaluation.score_seq2seq(
            accelerator, trained, seq2seq, rows, batches_of, config.task, config.generation, is_final
        )

    # 5. Train; afterwards `model` has the weights of its best evaluation, and they are saved in `model/`
    optimizer = training.build_optimizer(model, config.optim)
    loss_fn = training.seq2seq_loss(model.config, config.label_smoothing)
    evaluate = partial(score, part="validation", is_final=False) if pairs.validation else None
    save = partial(models.save_language_model, seq2seq)
    with runs.open_run(run, config, launch.environment(accelerator), accelerator), hub.follow(config.hub, folder):
        fitted = training.fit(accelerator, model, optimizer, batches, loss_fn, config, evaluate, save, run)

    # 6. Evaluate on pairs that no gradient came from; the result is on disk before anything else is tried
    part = "test" if pairs.test else "validation" if pairs.validation else None
    result = runs.result(accelerator, model, fitted, metrics=score(model, part) if part else {})
    result["num_examples"] = {"train": len(train)} | {name: len(rows) for name, rows in held_out.items()}
    result["held_out"] = part
    if accelerator.is_main_process:
        runs.write_result(folder, result)

        # 7. Model card, learning curve
        files.write_text(folder / "model" / "README.md", hub.seq2seq_model_card(config, result))
        evaluation.plot_learning_curve(folder)
        runs.complete_run(folder, result, [runs.write_command(folder, pairs.held_out or pairs.train)])
    launch.finish(accelerator)
    hub.publish(config.hub, folder)


if __name__ == "__main__":
    settings.run(main, Config)
