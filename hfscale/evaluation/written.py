"""What came of an encoder-decoder on held-out pairs, pair by pair: enough to say how sure its metrics are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import send_to_device

from hfscale.evaluation.outcomes import perplexity_of
from hfscale.evaluation.seq2seq import require_metrics, rouge_scores, score_texts, write_texts
from hfscale.schemas import Seq2SeqTask
from hfscale.schemas.seq2seq import SEQ2SEQ_METRICS
from hfscale.training.seq2seq_loss import row_losses

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedTokenizerBase

    from hfscale.evaluation.score import HeldOut


@dataclass(frozen=True)
class Written:
    """Texts written of held-out pairs, none where only losses are asked for, and the losses of what was to be
    written."""

    task: Seq2SeqTask
    texts: list[str]
    references: list[str]
    losses: np.ndarray
    """(pairs, 2): sum of the losses, number of targets."""

    @property
    def num_rows(self) -> int:
        return len(self.losses)

    def metrics(self) -> dict[str, float]:
        """Of the task, the main one first, where there are texts; `loss` per token, and `perplexity`."""
        scores = score_texts(self.task, self.texts, self.references) if self.texts else {}
        return {**scores, **_losses(self.losses)}

    def metric_of(self, name: str, rows: np.ndarray) -> float:
        """One of them on these pairs alone."""
        if name in ("loss", "perplexity"):
            return _losses(self.losses[rows])[name]
        if name == "bleu":
            bleu: Any = require_metrics(self.task).BLEU
            counts = self._counts[rows].sum(axis=0).tolist()
            return bleu.compute_bleu(counts[:4], counts[4:8], *counts[8:], smooth_method="exp").score
        if self.task == "summarization":
            return float(self._rouge[rows, SEQ2SEQ_METRICS[self.task].index(name)].mean())
        taken = [[texts[row] for row in rows] for texts in (self.texts, self.references)]
        return score_texts(self.task, *taken)[name]

    @cached_property
    def _counts(self) -> np.ndarray:
        """(pairs, 10) what BLEU is made of: n-grams that are right, and all, of 1 to 4 words; words, and wanted."""
        bleu = require_metrics(self.task).BLEU(effective_order=True)  # sacrebleu warns of single sentences without
        scores = [
            bleu.sentence_score(text, [wanted]) for text, wanted in zip(self.texts, self.references, strict=True)
        ]
        return np.array([[*each.counts, *each.totals, each.sys_len, each.ref_len] for each in scores])

    @cached_property
    def _rouge(self) -> np.ndarray:
        """(pairs, metrics)."""
        return np.array([list(scores.values()) for scores in rouge_scores(self.texts, self.references)])


def written_answers(
    accelerator: Accelerator,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    batches: HeldOut,
    task: Seq2SeqTask,
    references: list[str],
) -> Written:
    """What a model writes greedily of each example, and its losses; in this process, which has all of them.

    Leaves the model in eval mode.

    Args:
        batches: of tokenized pairs.
        references: texts to be written, in the data set's order; none to measure losses alone.
    """
    texts = write_texts(accelerator, model, tokenizer, batches) if references else []
    model.eval()
    losses = np.zeros((batches.num_examples, 2))
    with torch.no_grad():
        for batch in batches:
            inputs: Any = send_to_device(batch.inputs, accelerator.device)
            losses[list(batch.indices)] = row_losses(model, inputs, model.config).double().cpu().numpy()
    return Written(task, texts, references, losses)


def _losses(rows: np.ndarray) -> dict[str, float]:
    loss, targets = rows.sum(axis=0).tolist()
    loss /= max(1.0, targets)
    return {"loss": loss, "perplexity": perplexity_of(loss)}
