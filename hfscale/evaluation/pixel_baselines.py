"""What a network must beat on images, trained on the same ones in the same run."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from hfscale.evaluation.metrics import compute_metrics

if TYPE_CHECKING:
    from hfscale.data.images import Images

_MOST_IMAGES = 10_000
_MOST_VALUES = 10_000_000  # of all training pixels together: seconds, not minutes


def image_baselines(train: Images, held_out: Images) -> dict[str, dict[str, float]]:
    """Metrics of `majority` (the most frequent class) and `logistic` (logistic regression on the pixels), both from
    scikit-learn, on the held-out images.

    `logistic` is left out where there are more than 10,000 training images, or 10 million values in them.
    """
    estimators: dict[str, Any] = {"majority": DummyClassifier(strategy="most_frequent")}
    if len(train) <= _MOST_IMAGES and len(train) * np.prod(train.shape) <= _MOST_VALUES:
        estimators["logistic"] = LogisticRegression(max_iter=200)
    scores = {}
    for name, estimator in estimators.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # 200 iterations are what a baseline is worth
            estimator.fit(_values(train, name), train.targets)
        predictions = estimator.predict(_values(held_out, name))
        task = train.classes.task
        scores[name] = compute_metrics(task, predictions, held_out.targets, len(train.classes.names))
    return scores


def _values(images: Images, baseline: str) -> np.ndarray:
    """(images, values) from 0 to 1; the majority needs none."""
    if baseline == "majority":
        return np.zeros((len(images), 1), np.float32)
    return images.pixels(np.arange(len(images))).reshape(len(images), -1) / np.float32(255)
