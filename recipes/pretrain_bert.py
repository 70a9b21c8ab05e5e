"""Pretrain a BERT-style encoder on text of your own.

    # a first run: offline, on a CPU, a few minutes, on the docstrings of installed packages
    python recipes/pretrain_bert.py

    # your own text: a file, or a folder of text files, one document per file
    python recipes/pretrain_bert.py --config recipes/configs/pretrain_bert/bert_mini.yaml --data.train texts/ \
        --train.output_dir runs/texts

    # go on from a model, here on the first 100,000 documents of a data set of the Hub
    accelerate launch recipes/pretrain_bert.py --model.name google-bert/bert-base-uncased --data.max_documents 100000 \
        --data.train HuggingFaceFW/fineweb --data.max_length 512 --optim.lr 1e-4

    # fine-tune what came out
    python recipes/finetune_bert.py --model.name runs/texts

    # two processes, on two GPUs or on a CPU
    accelerate launch --config_file accelerate_configs/ddp.yaml recipes/pretrain_bert.py

`--help` explains every setting; `--print_config` shows what a command would run.
"""

from dataclasses import dataclass, field
from functools import partial

from hfscale import config as settings
from hfscale import data, evaluation, files, hub, launch, models, runs, schemas, training
from hfscale.schemas import (
    CorpusSettings,
    MaskedModelSettings,
    MaskSettings,
    OptimSettings,
    TokenizerSettings,
    TrainSettings,
    check_metric,
    check_tokenizer,
    with_length,
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Pretrain a BERT-style encoder by masked language modelling, for 100 steps unless told otherwise."""

    model: MaskedModelSettings = field(default_factory=MaskedModelSettings)
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    data: CorpusSettings = field(default_factory=lambda: CorpusSettings(train="builtin:docstrings", max_length=128))
    mask: MaskSettings = field(default_factory=MaskSettings)
    optim: OptimSettings = field(default_factory=lambda: OptimSettings(lr=1e-3))
    train: TrainSettings = field(default_factory=lambda: TrainSettings(output_dir="runs/pretrain_bert"))
    hub: schemas.HubSettings | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "train", with_length(self.train, max_steps=100))
        check_tokenizer(self.model, self.tokenizer)
        check_metric(self.train)


def main(config: Config) -> None:
    # 1. Where are we running, and where to? A run that was interrupted goes on where it was
    accelerator = launch.start(config.train)
    run = runs.claim(config, accelerator)
    folder = run.folder
    max_length, seed = config.data.max_length, config.train.seed

    # 2. Data: documents -> token ids -> full sequences, made by the first process, taken from the cache by the others
    with accelerator.main_process_first():
        corpus = data.load_corpus(config.data)
        tokenizer = models.find_tokenizer(config.model, config.tokenizer, corpus.train, "encoder", max_length)
        train, held_out = data.pack_corpus(corpus, tokenizer, max_length, "encoder")

    # 3. Model: of the shape that the settings give, or one to go on from
    empty = launch.awaits_weights(accelerator)
    language_model = models.load_masked_model(config.model, tokenizer, max_length, seed, empty)
    model = language_model.model

    # 4. Batches of packed sequences, in the same order and masked the same way on any number of processes
    shared = {"pad_token_id": tokenizer.pad_token_id, **launch.batching(accelerator)}
    sizes = {"global_batch_size": config.train.global_batch_size, "micro_batch_size": config.train.micro_batch_size}
    mask = data.MaskedTokens(
        tokenizer, fraction=config.mask.fraction, whole_words=config.mask.whole_words, seed=seed, max_length=max_length
    )
    batches = data.PackedTrainBatches(train, mask, seed=seed, **sizes, **shared)
    launch.preflight(accelerator, config, model, batches, tokenizer, "masked")

    def score(trained):
        assert held_out is not None
        rows = data.PackedEvalBatches(held_out, mask, batch_size=config.train.eval_batch_size, **shared)
        return evaluation.score_language_model(accelerator, trained, rows, held_out.tokens_per_byte)

    # 5. Train; afterwards `model` has the weights of its best evaluation, and they are saved in `model/`
    optimizer = training.build_optimizer(model, config.optim)
    loss_fn = training.language_model_loss
    evaluate = score if held_out else None
    save = partial(models.save_language_model, language_model)
    with runs.open_run(run, config, launch.environment(accelerator), accelerator), hub.follow(config.hub, folder):
        fitted = training.fit(accelerator, model, optimizer, batches, loss_fn, config, evaluate, save, run)

    # 6. Evaluate on text that no gradient came from; the result is on disk before anything else is tried
    result = runs.result(accelerator, model, fitted, metrics=score(model) if held_out else {})
    if accelerator.is_main_process:
        result |= runs.packing_result(train, held_out)
        runs.write_result(folder, result)

        # 7. What token frequencies alone reach, model card, learning curve
        if held_out:
            result["baselines"] = {"unigram": evaluation.unigram_baseline(train, held_out)}
            runs.write_result(folder, result)
        files.write_text(folder / "model" / "README.md", hub.language_model_card(config, result, "fill-mask"))
        evaluation.plot_learning_curve(folder)
        runs.complete_run(
            folder, result, [runs.pipeline_command("fill-mask", folder, f'"this is the {tokenizer.mask_token}."')]
        )
    launch.finish(accelerator)
    hub.publish(config.hub, folder)


if __name__ == "__main__":
    settings.run(main, Config)
