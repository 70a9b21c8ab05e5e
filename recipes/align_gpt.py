"""Teach a causal language model which of two answers is preferred (direct preference optimization).

    # a model that answers, and a file with `prompt`, `chosen` and `rejected`
    python recipes/align_gpt.py --model.name runs/answers/model --data.train pairs.jsonl

    # a chat model of the Hub in 4 bits, on conversations in `chosen` and `rejected`
    python recipes/align_gpt.py --model.name Qwen/Qwen3-0.6B --quant.bits 4 --data.train pairs.jsonl \\
        --preference.beta 0.2 --train.output_dir runs/aligned

    # two processes, on two GPUs or on a CPU
    accelerate launch --config_file accelerate_configs/ddp.yaml recipes/align_gpt.py --model.name FOLDER \\
        --data.train FILE

An adapter is trained; what it has changed is measured against the model without it. `--help` explains every setting,
`--lora.help` those of adapters.
"""

from dataclasses import dataclass, field
from functools import partial

from hfscale import config as settings
from hfscale import data, evaluation, files, hub, launch, models, runs, schemas, training
from hfscale.schemas import (
    CausalModelSettings,
    LoraSettings,
    OptimSettings,
    PairSettings,
    PreferenceSettings,
    QuantSettings,
    TrainSettings,
    check_adapter,
    check_preferences,
    with_length,
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Teach a causal language model which of two answers is preferred, in 1 epoch unless told otherwise."""

    model: CausalModelSettings = field(default_factory=CausalModelSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    quant: QuantSettings | None = None
    data: PairSettings
    preference: PreferenceSettings = field(default_factory=PreferenceSettings)
    optim: OptimSettings = field(default_factory=lambda: OptimSettings(lr=5e-5, schedule="cosine"))
    train: TrainSettings = field(default_factory=lambda: TrainSettings(output_dir="runs/align_gpt"))
    hub: schemas.HubSettings | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "train", with_length(self.train, epochs=1))
        check_adapter(self.lora, self.quant)
        check_preferences(self.model, self.lora, self.train)


def main(config: Config) -> None:
    # 1. Where are we running, and where to? A run that was interrupted goes on where it was
    accelerator = launch.start(config.train, config.quant)
    run = runs.claim(config, accelerator)
    folder = run.folder
    max_length, seed = config.data.max_length, config.train.seed

    # 2. Data: the two conversations of a pair side by side, as the model's template writes them
    with accelerator.main_process_first():
        preferences = data.load_preferences(config.data)
        tokenizer = models.load_tokenizer(config.model, max_length)
        chat = data.ChatFormat(tokenizer, config.data)
        train, held_out = data.pair_preferences(preferences, chat, config.data)

    # 3. Model: the one to go on from, frozen, with an adapter, which alone may have dropout: the reference has none
    language_model = models.load_causal_model(
        config.model, tokenizer, max_length, seed, config.lora, config.quant, dropout=0.0
    )
    model = language_model.model
    models.stop_at(model, chat.end_token_id)

    # 4. Batches of pairs, in the same order on any number of processes
    shared = {"pad_token_id": tokenizer.pad_token_id, **launch.batching(accelerator)}
    sizes = {"global_batch_size": config.train.global_batch_size, "micro_batch_size": config.train.micro_batch_size}
    batches = data.PackedTrainBatches(train, data.answer_tokens, seed=seed, **sizes, **shared)
    launch.preflight(accelerator, config, model, batches, tokenizer, "causal")
    beta = config.preference.beta

    def score(trained):
        assert held_out is not None
        rows = data.PackedEvalBatches(held_out, data.answer_tokens, batch_size=config.train.eval_batch_size, **shared)
        return evaluation.score_preferences(accelerator, trained, rows, beta)

    # 5. Train; afterwards `model` has the weights of its best evaluation, and they are saved in `model/`
    optimizer = training.build_optimizer(model, config.optim)
    loss_fn = training.PreferenceLoss(beta)
    evaluate = score if held_out else None
    save = partial(models.save_language_model, language_model)
    with runs.open_run(run, config, launch.environment(accelerator), accelerator), hub.follow(config.hub, folder):
        fitted = training.fit(accelerator, model, optimizer, batches, loss_fn, config, evaluate, save, run)

    # 6. Evaluate on pairs that no gradient came from; the result is on disk before anything else is tried
    result = runs.result(accelerator, model, fitted, metrics=score(model) if held_out else {})
    if accelerator.is_main_process:
        result |= runs.packing_result(train, held_out)
        runs.write_result(folder, result)

        # 7. Model card, learning curve
        files.write_text(folder / "model" / "README.md", hub.preference_model_card(config, result))
        evaluation.plot_learning_curve(folder)
        shown = preferences.validation or preferences.train
        runs.complete_run(folder, result, [runs.chat_command(folder, shown, config.data.system)])
    launch.finish(accelerator)
    hub.publish(config.hub, folder)


if __name__ == "__main__":
    settings.run(main, Config)
