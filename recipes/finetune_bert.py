"""Fine-tune a BERT-style encoder on labelled text: to label texts or their words, or to answer questions.

    # a first run: offline, on a CPU, about a minute
    python recipes/finetune_bert.py

    # your own file: one message per row, columns `message` and `team`
    python recipes/finetune_bert.py --data.train mails.csv --data.text message --data.label team \
        --train.output_dir runs/mails

    # a data set and a model from the Hub, settings from a file, one of them changed
    accelerate launch recipes/finetune_bert.py --config recipes/configs/finetune_bert/sst2.yaml --optim.lr 3e-5

    # tags of words, from files with a word and its tags per line; questions, from a file in SQuAD's layout
    python recipes/finetune_bert.py --task token_classification --data.train train.txt --train.output_dir runs/tags
    python recipes/finetune_bert.py --task question_answering --data.train squad.json --train.output_dir runs/answers

    # two processes, on two GPUs or on a CPU
    accelerate launch --config_file accelerate_configs/ddp.yaml recipes/finetune_bert.py

`--help` explains every setting, `--lora.help` those of adapters; `--print_config` shows what a command would run.
"""

from dataclasses import dataclass, field
from functools import partial

from hfscale import config as settings
from hfscale import data, evaluation, files, hub, launch, models, runs, schemas, training
from hfscale.schemas import (
    ClassifierModelSettings,
    DataSettings,
    LoraSettings,
    OptimSettings,
    TrainSettings,
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Fine-tune a BERT-style encoder on labelled text."""

    task: schemas.Task = "single_label_classification"
    """One class per text, several labels at once, or a number; a tag per word; or the answer within a context."""
    model: ClassifierModelSettings = field(default_factory=lambda: ClassifierModelSettings(name="builtin:minilm"))
    lora: LoraSettings | None = None
    quant: schemas.QuantSettings | None = None
    data: DataSettings = field(default_factory=lambda: DataSettings(train="builtin:tickets"))
    optim: OptimSettings = field(default_factory=lambda: OptimSettings(lr=1e-4))
    train: TrainSettings = field(default_factory=lambda: TrainSettings(output_dir="runs/finetune_bert"))
    hub: schemas.HubSettings | None = None
    baselines: bool | None = None
    """Also score simple methods, trained on the same rows: the majority class and TF-IDF with a linear model for
    texts, the most frequent tag of each word; true by default, but for question_answering, which has none."""

    def __post_init__(self) -> None:
        schemas.check_adapter(self.lora, self.quant, self.model.random_weights)
        schemas.check_task(self.task, self.data, self.train, self.baselines)


def main(config: Config) -> None:
    # 1. Where are we running, and where to? A run that was interrupted goes on where it was
    accelerator = launch.start(config.train, config.quant)
    run = runs.claim(config, accelerator)
    folder = run.folder

    # 2. Data: read and checked by the first process, taken from the cache by the others
    with accelerator.main_process_first():
        splits = data.load_splits(config.data, config.task)
    labels = data.Labels.of(splits.train, config.task)

    # 3. Model: a pretrained encoder under a new head whose outputs carry the label names
    classifier = models.load_text_classifier(
        config.model, config.task, labels.names, config.train.seed, config.lora, config.quant,
        empty=launch.awaits_weights(accelerator),
    )  # fmt: skip
    model, tokenizer = classifier
    max_length = classifier.max_length(config.data.max_length)
    with accelerator.main_process_first():
        encoded = splits.map(lambda split: data.tokenize(split, tokenizer, max_length, labels, config.data.stride))

    # 4. Batches of similar lengths, in the same order on any number of processes
    padding = {"pad_token_id": tokenizer.pad_token_id, "padding_side": tokenizer.padding_side}
    shared = {**padding, **launch.batching(accelerator)}
    sizes = {"global_batch_size": config.train.global_batch_size, "micro_batch_size": config.train.micro_batch_size}
    batches = data.TrainBatches(encoded.train, seed=config.train.seed, **sizes, **shared)
    launch.preflight(accelerator, config, model, batches, tokenizer, config.task)

    def score(model, split):
        held_out = data.EvalBatches(split, batch_size=config.train.eval_batch_size, **shared)
        return evaluation.score_classifier(accelerator, model, held_out, split, labels)

    # 5. Train; afterwards `model` has the weights of its best evaluation, and they are saved in `model/`
    optimizer = training.build_optimizer(model, config.optim)
    loss_fn = training.classification_loss(config.task)
    evaluate = (lambda model: score(model, encoded.validation)) if encoded.validation else None
    save = partial(models.save_text_classifier, classifier)
    with runs.open_run(run, config, launch.environment(accelerator), accelerator), hub.follow(config.hub, folder):
        fitted = training.fit(accelerator, model, optimizer, batches, loss_fn, config, evaluate, save, run)

    # 6. Evaluate on rows that no gradient came from; the result is on disk before anything else is tried
    held_out = encoded.held_out
    result = runs.result(accelerator, model, fitted, metrics=score(model, held_out) if held_out else {})
    result["num_examples"] = {name: len(split) for name, split in splits._asdict().items() if split}
    result["held_out"] = "test" if splits.test else "validation" if held_out else None
    if accelerator.is_main_process:
        runs.write_result(folder, result)

        # 7. What simple methods reach on the same rows, model card, learning curve
        if config.baselines is not False and held_out:
            result["baselines"] = evaluation.score_baselines(labels, encoded.train, held_out)
            runs.write_result(folder, result)
        files.write_text(folder / "model" / "README.md", hub.model_card(config, result, labels.names))
        evaluation.plot_learning_curve(folder)
        runs.complete_run(folder, result, runs.predict_commands(folder, splits.held_out or splits.train))
    launch.finish(accelerator)
    hub.publish(config.hub, folder)


if __name__ == "__main__":
    settings.run(main, Config)
