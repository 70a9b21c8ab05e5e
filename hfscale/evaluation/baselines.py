"""What a model must beat to be worth its cost, trained on the same rows in the same run."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from hfscale import console
from hfscale.batch import NO_LABEL
from hfscale.data.tags import as_entities, is_plain
from hfscale.evaluation.metrics import compute_metrics

if TYPE_CHECKING:
    from datasets import Dataset

    from hfscale.data.labels import Labels
    from hfscale.schemas import Task

_MOST_ROWS = 100_000


def score_baselines(labels: Labels, train: Dataset, held_out: Dataset) -> dict[str, dict[str, float]]:
    """What simple methods reach on the tokenized `held_out` rows: `majority` and `tfidf` for texts, `frequent_tag` for
    words, none for question answering."""
    if labels.task == "question_answering":
        return {}
    if labels.task == "token_classification":
        return {"frequent_tag": _frequent_tag(labels, train, held_out)}
    return text_baselines(labels.task, train, held_out)


def _frequent_tag(labels: Labels, train: Dataset, held_out: Dataset) -> dict[str, float]:
    """Each word gets its most frequent tag of the training rows, an unknown one the most frequent of all."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for word, tag in (pair for sentence in _sentences(labels, train) for pair in sentence):
        counts[word][tag] += 1
    overall = sum(counts.values(), Counter[str]()).most_common(1)[0][0]
    usual = {word: tags.most_common(1)[0][0] for word, tags in counts.items()}
    references = _sentences(labels, held_out)
    predictions = [[usual.get(word, overall) for word, _ in sentence] for sentence in references]
    plain = is_plain(labels.names)
    right = as_entities(([tag for _, tag in sentence] for sentence in references), plain)
    return compute_metrics(labels.task, as_entities(predictions, plain), right, len(labels.names))


def _sentences(labels: Labels, table: Dataset) -> list[list[tuple[str, str]]]:
    """(word, tag) pairs of whole sentences, whose windows follow each other in the table."""
    sentences: dict[int, list[tuple[str, str]]] = {}
    for row, words, targets in zip(table["example"], table["words"], table["token_labels"], strict=True):
        tags = (labels.names[target] for target in targets if target != NO_LABEL)
        sentences.setdefault(row, []).extend(zip(words, tags, strict=True))
    return list(sentences.values())


def text_baselines(task: Task, train: Dataset, held_out: Dataset) -> dict[str, dict[str, float]]:
    """Metrics of `majority` (the most frequent label, or the mean) and `tfidf` (TF-IDF of words and word pairs under a
    logistic or ridge regression), both from scikit-learn, on the held-out rows.

    They learn from at most the first 100,000 training rows; beyond that word counts gain little and cost much.
    """
    train = train.select(range(min(len(train), _MOST_ROWS)))
    targets, scores = np.asarray(train["labels"]), {}
    num_labels = targets.shape[1] if targets.ndim == 2 else int(targets.max()) + 1  # every class occurs in training
    for name, estimator in _estimators(task).items():
        try:
            estimator.fit(_texts(train), targets)
        except ValueError as error:  # no word in any text
            console.warn(f"no baseline {name}: {str(error).splitlines()[0]}")
            continue
        predictions = estimator.predict(_texts(held_out))
        scores[name] = compute_metrics(task, predictions, np.asarray(held_out["labels"]), num_labels)
    return scores


def _estimators(task: Task) -> dict[str, Any]:
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    if task == "regression":
        return {"majority": DummyRegressor(), "tfidf": make_pipeline(vectorizer, Ridge())}
    linear = LogisticRegression(C=10.0, max_iter=1000)
    constant = DummyClassifier(strategy="most_frequent")
    if task == "multi_label_classification":
        return {"majority": constant, "tfidf": make_pipeline(vectorizer, OneVsRestClassifier(linear))}
    return {"majority": constant, "tfidf": make_pipeline(vectorizer, linear)}


def _texts(table: Dataset) -> list[str]:
    if "text_pair" not in table.column_names:
        return list(table["text"])
    return [f"{first} {second}" for first, second in zip(table["text"], table["text_pair"], strict=True)]
