"""Predictions of a trained head, or of a simple baseline, for rows of a corpus, as NumPy arrays, and their metrics.

Metrics are defined in `heads.evaluation.metrics`; finished runs are opened in `heads.runs.evaluate`.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import expit, logit
from torch import Tensor

from data.batching import dialogues, in_order
from data.labels import EMOTIONS
from data.tensors import CorpusTensors
from heads.evaluation.metrics import emotion_metrics, sentiment_metrics
from heads.models.base import Head, HeadOutput
from heads.models.losses import emotion_loss, sentiment_loss
from heads.models.parts.layers import masked_mean
from heads.models.tasks import TASKS, LossOptions


class Predictions(NamedTuple):
    """Predictions for n rows; None for a task that the head does not learn."""

    rows: np.ndarray  # (n,) int64, ascending: rows of the corpus
    sentiment: np.ndarray | None  # (n,) float32
    emotion_logits: np.ndarray | None  # (n, 6) float32
    routing: dict[str, np.ndarray]  # "text/block1/msa" → (n, N) gates, time steps averaged

    def only(self, rows: np.ndarray) -> "Predictions":
        """Returns the predictions for some of its rows."""
        kept = np.isin(self.rows, rows)
        sentiment, logits = (None if values is None else values[kept] for values in (self.sentiment, self.emotion_logits))
        return Predictions(self.rows[kept], sentiment, logits, {name: gates[kept] for name, gates in self.routing.items()})

    @property
    def emotion_probability(self) -> np.ndarray | None:
        """(n, 6) float64, the sigmoid of the logits; None without them."""
        if self.emotion_logits is None:
            return None
        return expit(self.emotion_logits.astype(np.float64))  # not torch's, which gives equal logits unlike values by their places


def predict(head: Head, tensors: CorpusTensors, rows: np.ndarray, batch_size: int, precision: str = "float32") -> Predictions:
    """Runs a head over rows of a corpus, without gradients and in evaluation mode.

    A head with context reads all utterances of the rows' videos; only those of `rows` are returned.

    Args:
        head: On the device of `tensors`.
        tensors: Features.
        rows: (n,) int64.
        batch_size: Utterances at a time; videos for heads with context.
        precision: As in training.
    """
    was_training = head.training
    head.eval()
    plan = evaluation_plan(head, tensors, tensors.targets.with_neighbours(rows) if head.context else rows, batch_size)
    with torch.inference_mode(), autocast(tensors.device, precision):
        found = gathered((batch.index, head(batch)) for batch in tensors.batches(plan))
    head.train(was_training)
    return found.only(rows) if head.context else found


def gathered(outputs: Iterable[tuple[Tensor, HeadOutput]]) -> Predictions:
    """Joins the outputs of batches, each with its rows (B,); the result is on the host and in the order of rows."""
    parts: dict[str, list[Tensor]] = {}
    for index, output in outputs:
        found = {"rows": index, "sentiment": output.sentiment, "emotion_logits": output.emotion_logits}
        found |= {f"routing/{name}": gates for name, gates in output.aux.routing.items()}
        for name, value in found.items():
            if value is not None:
                parts.setdefault(name, []).append(value)
    arrays = {name: torch.cat(values).float().cpu().numpy() for name, values in parts.items() if name != "rows"}
    order = torch.cat(parts["rows"]).cpu().numpy()
    ascending = np.argsort(order)
    arrays = {name: values[ascending] for name, values in arrays.items()}
    routing = {name.removeprefix("routing/"): values for name, values in arrays.items() if name.startswith("routing/")}
    return Predictions(order[ascending], arrays.get("sentiment"), arrays.get("emotion_logits"), routing)


def pooled(tensors: CorpusTensors, rows: np.ndarray) -> np.ndarray:
    """Averages features over time steps.

    Returns:
        (n, ΣD) float32, one modality after the other; (n, 1) zeros without any modality.
    """
    if not tensors.dims:
        return np.zeros((len(rows), 1), np.float32)
    plan = in_order(rows, total_lengths(tensors), 256)
    means = [torch.cat([masked_mean(batch.features[m], batch.masks[m]) for m in tensors.dims], -1) for batch in tensors.batches(plan)]
    result = np.empty((len(rows), means[0].shape[1]), np.float32)
    place = np.argsort(np.argsort(rows, kind="stable"), kind="stable")
    ascending = np.argsort(np.concatenate(plan), kind="stable")
    result[:] = torch.cat(means).cpu().numpy()[ascending][place]
    return result


def layer_columns(tensors: CorpusTensors) -> dict[str, dict[int, slice]]:
    """Returns modality → number of a layer → its columns in what `pooled` returns, for modalities with several layers."""
    columns, start = {}, 0
    for modality, dim in tensors.dims.items():
        if len(numbers := tensors.layers[modality]) > 1:
            width = dim // len(numbers)
            columns[modality] = {number: slice(start + i * width, start + (i + 1) * width) for i, number in enumerate(numbers)}
        start += dim
    return columns


def predict_simple(
    name: str, task: str, known: CorpusTensors, rows: np.ndarray, tensors: CorpusTensors
) -> tuple[Predictions, dict[str, dict[str, float]]]:
    """Fits a simple baseline and predicts rows of the same corpus or of another. It is fitted again each time, which takes seconds.

    Args:
        name: A key of `heads.models.simple.SIMPLE_BASELINES`.
        task: A key of `TASKS`.
        known: The corpus on which it is fitted (split train) and its settings are chosen (split valid).
        rows: (n,) int64, ascending: rows of `tensors`.
        tensors: The corpus that is predicted.

    Returns:
        Predictions, and the chosen settings and layers.
    """
    (found,), chosen = predict_simple_each(name, task, known, rows, [tensors])
    return found, chosen


def predict_simple_each(
    name: str, task: str, known: CorpusTensors, rows: np.ndarray, corpora: Sequence[CorpusTensors]
) -> tuple[list[Predictions], dict[str, dict[str, float]]]:
    """Does the same for several corpora of the same length and fits once: one `Predictions` for each."""
    from heads.models.simple import fit_simple

    targets, tasks = known.targets, TASKS[task]
    fitted = np.flatnonzero(np.isin(targets.split, ("train", "valid")))
    features = np.concatenate([pooled(known, fitted), *(pooled(tensors, rows) for tensors in corpora)])
    predicted = len(features) - len(fitted)
    unlabelled = np.full((predicted, 1 + len(EMOTIONS)), np.nan)
    labels = np.concatenate([np.column_stack([targets.sentiment, targets.emotions])[fitted], unlabelled])
    train, valid = (np.append(targets.split[fitted] == split, np.zeros(predicted, bool)) for split in ("train", "valid"))
    simple = fit_simple(name, features, labels[:, 0], labels[:, 1:], train, valid, layer_columns(known))
    sentiment, probability = simple.sentiment[len(fitted) :], simple.emotion_probability[len(fitted) :]
    logits = logit(probability) if "mer" in tasks else None
    parts = [slice(number * len(rows), (number + 1) * len(rows)) for number in range(len(corpora))]
    found = [
        Predictions(rows, sentiment[part] if "msa" in tasks else None, None if logits is None else logits[part], {}) for part in parts
    ]
    return found, simple.chosen


def evaluation_plan(head: Head, tensors: CorpusTensors, rows: np.ndarray, batch_size: int) -> list:
    """Plans batches of all rows, the longest first; whole videos for heads with context."""
    if head.context:
        return dialogues(tensors.targets.dialogue, tensors.targets.position, rows, batch_size)
    return in_order(rows, total_lengths(tensors), batch_size)


def total_lengths(tensors: CorpusTensors) -> np.ndarray:
    """Counts (N,) time steps of each utterance, all modalities together."""
    return np.sum(list(tensors.lengths.values()), axis=0)


@contextlib.contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Sets the precision of products: float32, tf32 (on a GPU; no difference elsewhere), or bfloat16 with float32 parameters."""
    before, of_convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"  # convolutions and recurrent layers; PyTorch's default is True
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = of_convolutions


def scores(predictions: Predictions, tensors: CorpusTensors, loss: LossOptions | None = None) -> dict[str, float]:
    """Computes every metric over the rows that have labels.

    Args:
        predictions: Of rows of `tensors`.
        tensors: The corpus, with its labels.
        loss: If given, the weighted sum of the tasks' losses over all rows is added, under "loss".
    """
    values: dict[str, float] = {}
    terms = []
    targets, weights = tensors.targets, (loss or LossOptions()).weights()
    if predictions.sentiment is not None:
        truth = targets.sentiment[predictions.rows]
        values |= sentiment_metrics(predictions.sentiment.astype(float), truth.astype(float))
        if loss:
            value = sentiment_loss(torch.from_numpy(predictions.sentiment), torch.from_numpy(truth), loss.sentiment)
            terms.append(weights["msa"] * float(value))
    probability = predictions.emotion_probability
    if predictions.emotion_logits is not None and probability is not None:
        truth = present(targets.emotions[predictions.rows])
        values |= emotion_metrics(probability, truth)
        if loss:
            logits = torch.from_numpy(predictions.emotion_logits)
            value = emotion_loss(logits, torch.from_numpy(truth).float(), loss.emotion, loss.emotion_reduction)
            terms.append(weights["mer"] * float(value))
    return {"loss": sum(terms)} | values if loss else values


def present(intensities: np.ndarray) -> np.ndarray:
    """Turns (n, 6) intensities into 1 where above 0, 0 where not, NaN where unlabelled; float64."""
    return np.where(np.isnan(intensities), np.nan, intensities > 0)
