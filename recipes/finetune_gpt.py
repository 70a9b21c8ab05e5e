"""Teach a causal language model to answer: instructions, prompts with completions, or chats.

    # a model that you have pretrained, on a file with `instruction`, `input` and `output`
    python recipes/finetune_gpt.py --model.name runs/pretrain_gpt/model --data.template alpaca --data.train tasks.json

    # a chat model of the Hub, with its own template, on `messages`; settings from the command line
    accelerate launch recipes/finetune_gpt.py --model.name Qwen/Qwen3-0.6B-Base --data.train chats.jsonl \
        --data.max_length 1024 --optim.lr 1e-5 --train.output_dir runs/chat

    # one GPU and a large model: an adapter beside weights in 4 bits
    python recipes/finetune_gpt.py --model.name Qwen/Qwen3-8B-Base --data.train chats.jsonl --lora.r 16 --quant.bits 4

    # two processes, on two GPUs or on a CPU
    accelerate launch --config_file accelerate_configs/ddp.yaml recipes/finetune_gpt.py --model.name FOLDER \
        --data.train FILE

The loss is that of the answers alone, their end included. `--help` explains every setting, `--lora.help` those of
adapters.
"""

from dataclasses import dataclass, field
from functools import partial

from hfscale import config as settings
from hfscale import data, evaluation, files, hub, launch, models, runs, schemas, training
from hfscale.schemas import (
    AnswerSettings,
    CausalModelSettings,
    ConversationSettings,
    LoraSettings,
    OptimSettings,
    QuantSettings,
    TrainSettings,
    check_adapter,
    check_chat,
    with_length,
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Teach a causal language model to answer, for 3 epochs unless told otherwise."""

    model: CausalModelSettings = field(default_factory=CausalModelSettings)
    lora: LoraSettings | None = None
    quant: QuantSettings | None = None
    data: ConversationSettings
    answers: AnswerSettings = field(default_factory=AnswerSettings)
    optim: OptimSettings = field(default_factory=lambda: OptimSettings(lr=2e-5, schedule="cosine"))
    train: TrainSettings = field(default_factory=lambda: TrainSettings(output_dir="runs/finetune_gpt"))
    hub: schemas.HubSettings | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "train", with_length(self.train, epochs=3))
        check_adapter(self.lora, self.quant, takes_prompt=True)
        check_chat(self.model, self.data, self.answers, self.train, self.lora)


def main(config: Config) -> None:
    # 1. Where are we running, and where to? A run that was interrupted goes on where it was
    accelerator = launch.start(config.train, config.quant, config.lora)
    run = runs.claim(config, accelerator)
    folder = run.folder
    max_length, seed = config.data.max_length, config.train.seed

    # 2. Data: conversations as the model's template writes them, short ones together in a sequence
    with accelerator.main_process_first():
        conversations = data.load_conversations(config.data)
        tokenizer = models.load_tokenizer(config.model, max_length)
        chat = data.ChatFormat(tokenizer, config.data, config.lora)
        train, held_out = data.pack_conversations(conversations, chat, config.data)

    # 3. Model: the one to go on from, which will stop where an answer ends
    empty = launch.awaits_weights(accelerator)
    language_model = models.load_causal_model(
        config.model, tokenizer, max_length, seed, config.lora, config.quant, empty=empty
    )
    model = language_model.model
    models.stop_at(model, chat.end_token_id)
    questions = evaluation.find_questions(chat, conversations.validation, config.answers, model.config)

    # 4. Batches of packed sequences, in the same order on any number of processes
    shared = {"pad_token_id": tokenizer.pad_token_id, **launch.batching(accelerator)}
    sizes = {"global_batch_size": config.train.global_batch_size, "micro_batch_size": config.train.micro_batch_size}
    batches = data.PackedTrainBatches(train, data.answer_tokens, seed=seed, **sizes, **shared)
    launch.preflight(accelerator, config, model, batches, tokenizer, "causal")

    def score(trained):
        assert held_out is not None
        rows = data.PackedEvalBatches(held_out, data.answer_tokens, batch_size=config.train.eval_batch_size, **shared)
        metrics = evaluation.score_language_model(accelerator, trained, rows, held_out.tokens_per_byte)
        return metrics | evaluation.score_answers(accelerator, model, chat, questions)

    # 5. Train; afterwards `model` has the weights of its best evaluation, and they are saved in `model/`
    optimizer = training.build_optimizer(model, config.optim)
    loss_fn = training.language_model_loss
    evaluate = score if held_out else None
    save = partial(models.save_language_model, language_model)
    with runs.open_run(run, config, launch.environment(accelerator), accelerator), hub.follow(config.hub, folder):
        fitted = training.fit(accelerator, model, optimizer, batches, loss_fn, config, evaluate, save, run)

    # 6. Evaluate on conversations that no gradient came from; the result is on disk before anything else is tried
    result = runs.result(accelerator, model, fitted, metrics=score(model) if held_out else {})
    if accelerator.is_main_process:
        result |= runs.packing_result(train, held_out)
        result["num_examples"] = {name: len(part) for name, part in conversations._asdict().items() if part}
        runs.write_result(folder, result)

        # 7. Model card, learning curve
        files.write_text(folder / "model" / "README.md", hub.chat_model_card(config, result))
        evaluation.plot_learning_curve(folder)
        shown = conversations.validation or conversations.train
        runs.complete_run(folder, result, [runs.chat_command(folder, shown, config.data.system)])
    launch.finish(accelerator)
    hub.publish(config.hub, folder)


if __name__ == "__main__":
    settings.run(main, Config)
