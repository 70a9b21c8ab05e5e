"""Train an LSTM or GRU text classifier from random weights, with a vocabulary of its own.

    # a first run: offline, on a CPU, a few seconds
    python recipes/train_rnn.py

    # your own file: one message per row, columns `message` and `team`; a GRU instead of the LSTM
    python recipes/train_rnn.py --data.train mails.csv --data.text message --data.label team --model.cell gru \
        --train.output_dir runs/mails_rnn

    # a data set from the Hub, settings from a file, one of them changed
    accelerate launch recipes/train_rnn.py --config recipes/configs/train_rnn/sst2.yaml --model.hidden_size 256

    # two processes, on two GPUs or on a CPU
    accelerate launch --config_file accelerate_configs/ddp.yaml recipes/train_rnn.py

`--help` explains every setting; `--print_config` shows what a command would run.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from hfscale import config as settings
from hfscale import data, evaluation, files, hub, launch, models, runs, schemas, training
from hfscale.schemas import (
    DataSettings,
    OptimSettings,
    RnnSettings,
    TokenizerSettings,
    TrainSettings,
)

EPOCHS = 20  # where neither --train.epochs nor --train.max_steps is given: random weights need many
MAX_LENGTH = 512  # tokens, where --data.max_length is not given: the network itself has no limit


@dataclass(frozen=True, kw_only=True)
class Config:
    """Train an LSTM or GRU text classifier from random weights, for 20 epochs unless told otherwise."""

    task: Literal["single_label_classification", "multi_label_classification", "regression"] = (
        "single_label_classification"
    )
    """One class per text, several labels at once, or a number."""
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    model: RnnSettings = field(default_factory=RnnSettings)
    data: DataSettings = field(default_factory=lambda: DataSettings(train="builtin:tickets"))
    optim: OptimSettings = field(default_factory=lambda: OptimSettings(lr=5e-3))
    train: TrainSettings = field(default_factory=lambda: TrainSettings(output_dir="runs/train_rnn"))
    hub: schemas.HubSettings | None = None
    baselines: bool = True
    """Also score the majority class and TF-IDF with a linear model, trained on the same rows."""

    def __post_init__(self) -> None:
        schemas.check_task(self.task, self.data, self.train)
        object.__setattr__(self, "train", schemas.with_length(self.train, epochs=EPOCHS))


def main(config: Config) -> None:
    # 1. Where are we running, and where to? A run that was interrupted goes on where it was
    accelerator = launch.start(config.train)
    run = runs.claim(config, accelerator)
    folder = run.folder

    # 2. Data, and a vocabulary of the training texts: made by the first process, taken from the cache by the others
    max_length = config.data.max_length or MAX_LENGTH
    with accelerator.main_process_first():
        splits = data.load_splits(config.data, config.task)
        tokenizer = data.load_or_train_tokenizer(config.tokenizer, splits.train, "encoder", max_length)
    labels = data.Labels.of(splits.train, config.task)
    with accelerator.main_process_first():
        encoded = splits.map(lambda split: data.tokenize(split, tokenizer, max_length, labels))

    # 3. Model: embedding, LSTM or GRU, mean and maximum over the words, a head whose outputs carry the label names
    classifier = models.new_rnn_classifier(config.model, tokenizer, config.task, labels.names, config.train.seed)
    model = classifier.model

    # 4. Batches of similar lengths, in the same order on any number of processes
    shared = {
        "pad_token_id": tokenizer.pad_token_id,
        "padding_side": tokenizer.padding_side,
        **launch.batching(accelerator),
    }
    sizes = {"global_batch_size": config.train.global_batch_size, "micro_batch_size": config.train.micro_batch_size}
    batches = data.TrainBatches(encoded.train, seed=config.train.seed, **sizes, **shared)
    launch.preflight(accelerator, config, model, batches, tokenizer)

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
        if config.baselines and held_out:
            result["baselines"] = evaluation.score_baselines(labels, encoded.train, held_out)
            runs.write_result(folder, result)
        files.write_text(folder / "model" / "README.md", hub.model_card(config, result, labels.names))
        evaluation.plot_learning_curve(folder)
        runs.complete_run(folder, result, runs.predict_commands(folder, splits.held_out or splits.train))
    launch.finish(accelerator)
    hub.publish(config.hub, folder)


if __name__ == "__main__":
    settings.run(main, Config)
