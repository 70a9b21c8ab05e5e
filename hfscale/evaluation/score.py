"""A classifier on held-out examples, over any number of processes: no example scored twice, none left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device

from hfscale import interruption
from hfscale.batch import NO_LABEL
from hfscale.data.labels import SPAN_OR_NONE
from hfscale.data.tags import as_entities, is_plain
from hfscale.evaluation.answers import Window, best_answer
from hfscale.evaluation.intervals import Scores, example_intervals
from hfscale.evaluation.metrics import compute_metrics, decode
from hfscale.training.losses import logits_of, loss_sum

if TYPE_CHECKING:
    from accelerate import Accelerator
    from datasets import Dataset

    from hfscale.batch import Batch
    from hfscale.data.labels import Labels
    from hfscale.schemas import Task
Forward = Callable[[torch.nn.Module, dict[str, Any]], torch.Tensor]
"""(model, inputs) -> what is kept of the outputs, one row per example."""


def text_logits(model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
    """(batch, outputs) logits in float32."""
    return logits_of("single_label_classification", model, inputs).float()


class HeldOut(Protocol):
    """This process's share of the held-out batches (`hfscale.data.EvalBatches`)."""

    num_examples: int

    def __iter__(self) -> Any: ...


def predict_logits(
    accelerator: Accelerator, model: torch.nn.Module, batches: HeldOut, forward: Forward = text_logits
) -> np.ndarray:
    """(examples, ...) logits, or what else `forward` returns, in the data set's order, the same on every process.

    Where there is one per token, the second dimension is filled up with minus infinity. Leaves the model in eval mode.
    """
    model.eval()
    indices, outputs = [], []
    with torch.no_grad():
        for index, output in _outputs(accelerator, model, batches, forward):
            indices.append(index)
            outputs.append(output)
    all_outputs = torch.cat(_of_one_width(outputs))
    if all_outputs.ndim > 2:
        all_outputs = accelerator.pad_across_processes(all_outputs, dim=1, pad_index=float("-inf"))  # type: ignore[arg-type]
    # Processes hold different numbers of rows: filled up with row -1 for the exchange, and dropped after it.
    both = (torch.cat(indices), all_outputs)
    both = tuple(accelerator.pad_across_processes(part, dim=0, pad_index=-1) for part in both)
    all_indices, gathered = (part.cpu().numpy() for part in accelerator.gather(both))
    real = all_indices >= 0
    order = np.argsort(all_indices[real], kind="stable")
    found = all_indices[real][order]
    assert np.array_equal(found, np.arange(batches.num_examples)), "an example was scored twice or left out"
    return gathered[real][order]


def _outputs(
    accelerator: Accelerator, model: torch.nn.Module, batches: Iterable[Batch], forward: Forward
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for batch in batches:
        inputs: Any = send_to_device(batch.inputs, accelerator.device)
        output = forward(model, inputs)
        interruption.check(accelerator)
        yield torch.tensor(batch.indices, dtype=torch.long, device=output.device), output[: batch.num_examples]


def _of_one_width(outputs: list[torch.Tensor]) -> list[torch.Tensor]:
    if outputs[0].ndim < 3:
        return outputs
    width = max(output.shape[1] for output in outputs)
    return [F.pad(output, (0, 0, 0, width - output.shape[1]), value=float("-inf")) for output in outputs]


def score_classifier(
    accelerator: Accelerator, model: torch.nn.Module, batches: HeldOut, table: Dataset, labels: Labels
) -> dict[str, float]:
    """Metrics of the task, the main one first, and the mean `loss`, of the tokenized `table` that `batches` holds."""
    score = {"token_classification": _score_words, "question_answering": _score_spans}.get(labels.task, _score_texts)
    return score(accelerator, model, batches, table, labels)


def _score_texts(accelerator: Any, model: Any, batches: HeldOut, table: Dataset, labels: Labels) -> dict[str, float]:
    task = labels.task
    logits, targets = predict_logits(accelerator, model, batches), np.asarray(table["labels"])
    values = _scores(task, decode(task, logits), targets, logits.shape[-1])
    values["loss"] = float(loss_sum(task, torch.from_numpy(logits), torch.from_numpy(targets))) / targets.size
    return values


def _scores(task: Task, predictions: Any, references: Any, num_labels: int) -> Scores:
    values = compute_metrics(task, predictions, references, num_labels)
    return Scores(values, partial(example_intervals, task, values, predictions, references, num_labels))


def _score_words(accelerator: Any, model: Any, batches: HeldOut, table: Dataset, labels: Labels) -> dict[str, float]:
    """Windows of a sentence are put together again before entities are counted."""

    def class_and_loss(model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        """(batch, tokens, 2): of all classes only the best one, and the loss of the right one, travel."""
        logits, targets = logits_of(labels.task, model, inputs).float(), inputs["labels"]
        losses = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=NO_LABEL, reduction="none")
        return torch.stack((logits.argmax(-1).float(), losses), dim=-1)

    outputs = predict_logits(accelerator, model, batches, class_and_loss)
    predictions: dict[int, list[str]] = {}
    references: dict[int, list[str]] = {}
    loss = 0.0
    for sentence, targets, output in zip(table["example"], table["token_labels"], outputs, strict=True):
        at = [position for position, target in enumerate(targets) if target != NO_LABEL]
        predictions.setdefault(sentence, []).extend(labels.names[int(output[position, 0])] for position in at)
        references.setdefault(sentence, []).extend(labels.names[targets[position]] for position in at)
        loss += float(output[at, 1].sum(dtype=np.float64))
    plain = is_plain(labels.names)
    given, right = (as_entities(tags.values(), plain) for tags in (predictions, references))
    values = _scores(labels.task, given, right, len(labels.names))
    values["loss"] = loss / sum(map(len, references.values()))
    return values


def _score_spans(accelerator: Any, model: Any, batches: HeldOut, table: Dataset, labels: Labels) -> dict[str, float]:
    """One answer per question, from all its windows."""
    logits = predict_logits(accelerator, model, batches, partial(logits_of, labels.task))
    windows: dict[int, list[Window]] = {}
    contexts: dict[int, str] = {}
    references: dict[int, list[str]] = {}
    columns = (table[name] for name in ("example", "starts", "ends", "none", "text_pair", "label"))
    for output, question, starts, ends, none, context, answers in zip(logits, *columns, strict=True):
        windows.setdefault(question, []).append(Window(output, starts, ends, none))
        contexts[question], references[question] = context, answers["text"]
    may_be_none = labels.names == SPAN_OR_NONE
    answers = [best_answer(windows[question], contexts[question], may_be_none).text for question in windows]
    values = _scores(labels.task, answers, list(references.values()), len(labels.names))
    targets = np.asarray(table["labels"])
    values["loss"] = float(loss_sum(labels.task, torch.from_numpy(logits), torch.from_numpy(targets))) / targets.size
    return values
