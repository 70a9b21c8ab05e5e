from .baselines import text_baselines as text_baselines
from .curve import plot_learning_curve as plot_learning_curve
from .metrics import compute_metrics as compute_metrics
from .predict import predict_texts as predict_texts
from .score import predict_logits as predict_logits
from .score import score_classifier as score_classifier
