"""What an encoder-decoder writes of held-out texts, and how near that is to what was to be written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object, send_to_device

from hfscale import console, interruption
from hfscale.errors import MissingExtraError
from hfscale.evaluation.language import batch_losses, mean_loss
from hfscale.evaluation.outcomes import perplexity_of
from hfscale.schemas import GenerationSettings, Seq2SeqTask
from hfscale.schemas.seq2seq import SEQ2SEQ_METRICS
from hfscale.training.seq2seq_loss import seq2seq_loss

if TYPE_CHECKING:
    from accelerate import Accelerator
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from hfscale.evaluation.score import HeldOut
    from hfscale.models import LanguageModel

_SHOWN = 100  # characters
_EXAMPLES = 2


def score_seq2seq(
    accelerator: Accelerator,
    trained: torch.nn.Module,
    seq2seq: LanguageModel,
    table: Dataset,
    batches_of: Callable[[Dataset], HeldOut],
    task: Seq2SeqTask,
    generation: GenerationSettings,
    is_final: bool = True,
) -> dict[str, float]:
    """The task's metrics of what the model writes greedily, the main one first, with its `loss` and `perplexity`.

    Finally of all rows, and with beams (`beam_bleu`); else of the first `generation.eval_examples`. Leaves the model
    in eval mode, and shows a few examples.

    Args:
        trained: the model as it is trained, perhaps wrapped, with the bare one in `seq2seq`.
        table: tokenized pairs, with their texts.
        batches_of: makes batches of such a table.
    """
    metrics: dict[str, float] = {}
    some = table if is_final else table.select(range(min(len(table), generation.eval_examples)))
    for num_beams in (1, generation.num_beams) if is_final and generation.num_beams > 1 else (1,):
        if not len(some):
            break
        penalty = generation.length_penalty if num_beams > 1 else 1.0
        written = write_texts(accelerator, *seq2seq, batches_of(some), num_beams, penalty)
        scores = score_texts(task, written, some["text_pair"][:])
        metrics |= {f"beam_{name}" if num_beams > 1 else name: value for name, value in scores.items()}
        if num_beams == 1:
            show_texts(some, written)
    return metrics | score_targets(accelerator, trained, batches_of(table), seq2seq.model.config)


def score_targets(accelerator: Accelerator, model: torch.nn.Module, batches: HeldOut, config: Any) -> dict[str, float]:
    """`loss` per token to be written, without smoothing, and its `perplexity`; of all processes.

    Leaves the model in eval mode.

    Args:
        config: transformers' of the model.
    """
    loss = mean_loss(accelerator, batch_losses(accelerator, model, batches, seq2seq_loss(config)))
    return {"loss": loss, "perplexity": perplexity_of(loss)}


def write_texts(
    accelerator: Accelerator,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    batches: HeldOut,
    num_beams: int = 1,
    length_penalty: float = 1.0,
) -> list[str]:
    """What the model writes of each example, in the data set's order, the same on every process.

    Args:
        model: the bare one, which can `generate`; its generation config says how long a text may be.
        num_beams: 1 takes the likeliest token each time.
    """
    model.eval()
    _gather_for_generation(model)
    written: list[tuple[int, str]] = []
    with torch.no_grad():
        for batch in batches:
            inputs: Any = send_to_device(batch.inputs, accelerator.device)
            output = model.generate(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=False,
                num_beams=num_beams, length_penalty=length_penalty, synced_gpus=accelerator.num_processes > 1,
            )  # fmt: skip
            interruption.check(accelerator)
            texts = tokenizer.batch_decode(output[: batch.num_examples], skip_special_tokens=True)
            written += zip(batch.indices, (text.strip() for text in texts), strict=True)
    everything = sorted(gather_object(written))
    assert [row for row, _ in everything] == list(range(batches.num_examples)), "an example was left out"
    return [text for _, text in everything]


def _gather_for_generation(model: Any) -> None:
    """Under FSDP2 the encoder is called by itself, past the model's own forward, which is what gathers weights."""
    from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

    if isinstance(model, FSDPModule) and "generate" not in vars(model):
        register_fsdp_forward_method(model, "generate")  # type: ignore[arg-type]


def score_texts(task: Seq2SeqTask, written: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """BLEU (Papineni et al. 2002) and chrF (Popovic 2015), from 0 to 100, as sacrebleu counts them by default; of
    summaries the F1 of ROUGE 1, 2 and L (Lin 2004), from 0 to 1, with stems.

    Raises:
        MissingExtraError: where what counts them is not installed.
    """
    if task == "translation":
        sacrebleu = require_metrics(task)
        bleu = sacrebleu.corpus_bleu(list(written), [list(references)])
        return {"bleu": bleu.score, "chrf": sacrebleu.corpus_chrf(list(written), [list(references)]).score}
    scores = rouge_scores(written, references)
    return {name: sum(score[name] for score in scores) / len(scores) for name in SEQ2SEQ_METRICS[task]}


def rouge_scores(written: Sequence[str], references: Sequence[str]) -> list[dict[str, float]]:
    """The same of each summary.

    Raises:
        MissingExtraError: where what counts them is not installed.
    """
    names = SEQ2SEQ_METRICS["summarization"]
    scorer = require_metrics("summarization").RougeScorer(names, use_stemmer=True)
    scores = [scorer.score(reference, text) for text, reference in zip(written, references, strict=True)]
    return [{name: score[name].fmeasure for name in names} for score in scores]


def require_metrics(task: Seq2SeqTask) -> Any:
    """The module that counts a task's metrics.

    Raises:
        MissingExtraError: where it is not installed.
    """
    try:
        if task == "translation":
            import sacrebleu

            return sacrebleu
        from rouge_score import rouge_scorer

        return rouge_scorer
    except ImportError:
        raise MissingExtraError(f"measuring a {task} needs more packages: pip install 'hfscale[seq2seq]'") from None


def show_texts(table: Dataset, written: Sequence[str]) -> None:
    """A few examples: what was read, what was written, what was to be written."""
    for row in range(min(_EXAMPLES, len(written))):
        example = table[row]
        read, wanted = (_short(example[name]) for name in ("text", "text_pair"))
        console.say(f"written    {read} -> {_short(written[row])} (right: {wanted})")


def predict_outputs(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_length: int,
    batch_size: int,
    prefix: str = "",
) -> list[dict[str, str]]:
    """One object per text, in order: `text`, and what the model writes of it, behind the prefix, as `output`."""
    order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
    found: dict[int, str] = {}
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        given = [prefix + texts[row] for row in rows]
        inputs = tokenizer(given, truncation=True, max_length=max_length, padding=True, return_tensors="pt")
        inputs.pop("token_type_ids", None)
        with torch.inference_mode():
            output = model.generate(**inputs.to(model.device), do_sample=False)
        texts_written = tokenizer.batch_decode(output, skip_special_tokens=True)
        found |= zip(rows, (text.strip() for text in texts_written), strict=True)
    return [{"text": text, "output": found[row]} for row, text in enumerate(texts)]


def _short(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
