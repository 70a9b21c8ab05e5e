"""What a model must beat to be worth its cost, trained on the same rows in the same run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from hfscale import console
from hfscale.evaluation.metrics import compute_metrics

if TYPE_CHECKING:
    from datasets import Dataset

    from hfscale.schemas import ProblemType

_MOST_ROWS = 100_000


def text_baselines(problem_type: ProblemType, train: Dataset, held_out: Dataset) -> dict[str, dict[str, float]]:
    """Metrics of `majority` (the most frequent label, or the mean) and `tfidf` (TF-IDF of words and word pairs under a
    logistic or ridge regression), both from scikit-learn, on the held-out rows.

    They learn from at most the first 100,000 training rows; beyond that word counts gain little and cost much.
    """
    train = train.select(range(min(len(train), _MOST_ROWS)))
    targets, scores = np.asarray(train["labels"]), {}
    num_labels = targets.shape[1] if targets.ndim == 2 else int(targets.max()) + 1  # every class occurs in training
    for name, estimator in _estimators(problem_type).items():
        try:
            estimator.fit(_texts(train), targets)
        except ValueError as error:  # no word in any text
            console.warn(f"no baseline {name}: {str(error).splitlines()[0]}")
            continue
        predictions = estimator.predict(_texts(held_out))
        scores[name] = compute_metrics(problem_type, predictions, np.asarray(held_out["labels"]), num_labels)
    return scores


def _estimators(problem_type: ProblemType) -> dict[str, Any]:
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    if problem_type == "regression":
        return {"majority": DummyRegressor(), "tfidf": make_pipeline(vectorizer, Ridge())}
    linear = LogisticRegression(C=10.0, max_iter=1000)
    constant = DummyClassifier(strategy="most_frequent")
    if problem_type == "multi_label_classification":
        return {"majority": constant, "tfidf": make_pipeline(vectorizer, OneVsRestClassifier(linear))}
    return {"majority": constant, "tfidf": make_pipeline(vectorizer, linear)}


def _texts(table: Dataset) -> list[str]:
    if "text_pair" not in table.column_names:
        return list(table["text"])
    return [f"{first} {second}" for first, second in zip(table["text"], table["text_pair"], strict=True)]
