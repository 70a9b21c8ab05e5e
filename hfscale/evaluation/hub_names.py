"""What the Hub calls our metrics."""

from __future__ import annotations

HUB_NAMES = {
    "accuracy": ("accuracy", "Accuracy"),
    "f1": ("f1", "F1"),
    "f1_micro": ("f1", "F1 (micro)"),
    "f1_macro": ("f1", "F1 (macro)"),
    "matthews_correlation": ("matthews_correlation", "Matthews correlation"),
    "subset_accuracy": ("accuracy", "Accuracy (all labels right)"),
    "pearson": ("pearsonr", "Pearson correlation"),
    "spearman": ("spearmanr", "Spearman correlation"),
    "mse": ("mse", "Mean squared error"),
    "precision": ("precision", "Precision"),
    "recall": ("recall", "Recall"),
    "exact_match": ("exact_match", "Exact match"),
    "perplexity": ("perplexity", "Perplexity per token"),
    "bits_per_byte": ("bits_per_byte", "Bits per byte"),
    "bleu": ("bleu", "BLEU"),
    "chrf": ("chrf", "chrF"),
    "rouge1": ("rouge", "ROUGE-1"),
    "rouge2": ("rouge", "ROUGE-2"),
    "rougeL": ("rouge", "ROUGE-L"),
}
"""Our names -> (the Hub's, as people read it); what is not here means nothing without the text of a card."""
