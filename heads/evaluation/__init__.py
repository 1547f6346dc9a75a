"""Evaluation of predictions: metrics, bootstrap intervals, the predictions of a head, and its routing.

Nothing here knows a run or its folder; finished runs are evaluated in `heads.runs.evaluate`.

Names below come without torch.
"""

from heads.evaluation.intervals import bootstrap
from heads.evaluation.metrics import METRICS, Metric, default_metric, emotion_metrics, is_better, sentiment_metrics

__all__ = ["METRICS", "Metric", "bootstrap", "default_metric", "emotion_metrics", "is_better", "sentiment_metrics"]
