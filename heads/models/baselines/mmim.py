"""MMIM: Improving Multimodal Fusion with Hierarchical Mutual Information Maximization for Multimodal Sentiment Analysis
(Han, Chen and Poria, EMNLP 2021), https://arxiv.org/abs/2109.00412, https://github.com/declare-lab/Multimodal-Infomax.

Every epoch has two passes. The first fits a Gaussian of the audio given the text, the `mi_*` parameters. The second trains all other
parameters on four terms: the task; the prediction of text and audio from the fused vector (contrastive predictive coding); the
likelihood under that Gaussian; and the entropy of the audio among positive and among negative utterances, which also uses the previous
batches.

Reproduced: both passes and all four terms, as in the authors' code. The likelihood leaves out the Gaussian's −½ log variance. The
projection whose entropy is computed is never trained, so here it is a fixed random one. Left out: video and the fine-tuning of BERT, so
that the information terms shape only the audio encoder. Our first pass reads all batches; the authors' stops after half of them on
MOSEI. They clip the norm over all parameters, we clip it over those that the pass trains. They select on the test split; we never do.

Emotions are our extension: the entropy is computed for utterances with and without each emotion, and averaged over the targets.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.errors import InputError
from data.labels import MOSEI_LABELS, LabelSet
from data.lookup import lookup
from data.tensors import Batch
from heads.models.base import Aux, Head, HeadOutput, predictions
from heads.models.baselines._encoder import TEXT_POOLS, LastState, LinearOutputs, signed_labels
from heads.models.inputs import InputOptions
from heads.models.losses import labelled_mean
from heads.models.options import dropout_rate, option
from heads.models.parts.randomness import Dropout

PROJECTED = 4
"""Width of the projection whose entropy is computed."""

SINGULAR = 1e-6
"""A covariance is singular if its least eigenvalue is at most this fraction of its mean variance: float32 hardly tells it from 0."""


@dataclass(frozen=True, kw_only=True)
class MMIMOptions(InputOptions):
    """Options of MMIM. The defaults are the authors'."""

    text_pool: str = "cls"  # what of the text is read: cls (the first token) or mean
    wide: bool = False  # audio as 128 then 64 units, not 16 and 16, which were sized for 5 features a frame
    bidirectional: bool = False  # the LSTM reads both ways, as in MMSA's copy
    width: int = 128  # of the fused vector
    dropout: float = dropout_rate(0.1)  # of the fusion's input
    audio_dropout: float = dropout_rate(0.1)  # of the LSTM's last state
    cpc: float = 0.1  # weight of the contrastive predictive coding
    mutual_information: float = 0.1  # weight of the likelihood and of the entropy
    memory: int = option(1, least=0)  # batches before this one that the entropy knows of


class MMIM(Head):
    """MMIM. Stage "mi" trains the Gaussian, stage "main" everything else."""

    Options = MMIMOptions
    packable = False
    smallest_batch = 2
    stages = ("mi", "main")
    projection: Tensor  # (4, audio width)

    def __init__(self, options: MMIMOptions, dims: Mapping[str, int], task: str, labels: LabelSet = MOSEI_LABELS) -> None:
        """Raise InputError when a modality is missing or an option is out of range."""
        super().__init__(dims, task, labels)
        self.expect_modalities("mmim", dims)
        if options.memory < 0:
            raise InputError(f"memory is {options.memory}, expected 0 or more.")
        self.options, self.pool = options, lookup(TEXT_POOLS, options.text_pool, "text_pool")
        hidden, audio = (128, 64) if options.wide else (16, 16)
        self.audio = LastState(dims["audio"], hidden, audio, options.bidirectional, options.audio_dropout)
        width = options.width
        layers = [nn.Linear(dims["text"] + audio, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()]
        self.fusion = nn.Sequential(Dropout(options.dropout), *layers)
        self.outputs = LinearOutputs(width, self.widths)
        self.mi_likelihood = Likelihood(dims["text"], audio)
        self.predict = nn.ModuleDict({"text": nn.Linear(width, dims["text"]), "audio": nn.Linear(width, audio)})
        for matrix in filter(lambda parameter: parameter.dim() > 1, self.parameters()):
            nn.init.xavier_normal_(matrix)
        self.register_buffer("projection", nn.init.xavier_normal_(torch.empty(PROJECTED, audio)))
        self.begin("main", 1)

    def forward(self, batch: Batch) -> HeadOutput:
        text = self.pool(batch.features["text"], batch.masks["text"])
        audio = self.audio(batch.features["audio"], batch.masks["audio"])
        if self.training and self.stage == "mi":
            return HeadOutput(None, None, Aux(losses={"likelihood": -self.mi_likelihood(text, audio)}))
        fused = self.fusion(torch.cat([text, audio], -1))
        values = self.outputs(fused)
        if not self.training:
            return predictions(values)
        polarity = signed_labels(batch.sentiment, batch.emotions, self.tasks).sign()
        projected = functional.linear(audio, self.projection).tanh().float()
        losses = self._losses({"text": text, "audio": audio}, fused) | self._entropy(projected, polarity)
        self.latest = projected.detach(), polarity
        return predictions(values, Aux(losses=losses))

    def _losses(self, pooled: Mapping[str, Tensor], fused: Tensor) -> dict[str, Tensor]:
        """Compute the weighted terms that need no labels."""
        contrast = torch.stack([contrastive_loss(pooled[m], layer(fused)) for m, layer in self.predict.items()]).sum()
        likelihood = self.mi_likelihood(pooled["text"], pooled["audio"])
        return {"cpc": self.options.cpc * contrast, "likelihood": -self.options.mutual_information * likelihood}

    def _entropy(self, projected: Tensor, polarity: Tensor) -> dict[str, Tensor]:
        """Compute the term that needs labels; the first `memory` + 1 batches of an epoch have none, as in the authors' code."""
        if self.batches <= self.options.memory:
            return {}
        values, signs = zip((projected, polarity), *self.memory, strict=True)
        return {"entropy": -self.options.mutual_information * entropy(torch.cat(values), torch.cat(signs))}

    def begin(self, stage: str, epoch: int) -> None:
        self.stage, self.batches = stage, 0
        self.memory: deque[tuple[Tensor, Tensor]] = deque(maxlen=self.options.memory)  # (B, 4) projections, (B, K) polarities

    def trains(self, name: str, stage: str) -> bool:
        return name.startswith("mi_") == (stage == "mi")

    def remember(self, batch: Batch, output: HeadOutput) -> None:
        if self.stage == "main":
            self.memory.append(self.latest)
            self.batches += 1


class Likelihood(nn.Module):
    """Log-likelihood of audio under a Gaussian whose mean and variance are predicted from the text."""

    def __init__(self, text: int, audio: int) -> None:
        super().__init__()
        self.mean, self.log_variance = (
            nn.Sequential(nn.Linear(text, audio), nn.ReLU(), nn.Linear(audio, audio)) for _ in ("mean", "log variance")
        )

    def forward(self, text: Tensor, audio: Tensor) -> Tensor:
        """Compute −Σ (μ − a)² / (2 σ²), the mean over a batch of text (B, D) and audio (B, d).

        Source: the authors' code, which leaves out −½ log σ².
        """
        squares = (self.mean(text) - audio).square()
        return -(squares / (2 * self.log_variance(text).exp())).sum(-1).mean()


def contrastive_loss(actual: Tensor, predicted: Tensor) -> Tensor:
    """Compute InfoNCE of (B, D) vectors and their predictions by cosine: among all predictions, a vector's own should be the nearest.

    The scalar result is 0 for a single utterance. Source: the authors' code; van den Oord et al. 2018, https://arxiv.org/abs/1807.03748.
    """
    similarity = functional.normalize(actual, dim=-1) @ functional.normalize(predicted, dim=-1).T
    return (similarity.logsumexp(1) - similarity.diagonal()).mean()


def entropy(projected: Tensor, polarity: Tensor) -> Tensor:
    """Compute ¼ (log det Cov₊ + log det Cov₋), the entropy of two Gaussians up to constants, and the mean over targets.

    A target whose positive or negative covariance is singular, for example with fewer than five utterances, does not count. The scalar
    result is 0 if no target counts.

    Args:
        projected: (n, 4) float32.
        polarity: (n, K) in −1, 0, 1, NaN; 0 and NaN belong to neither side.
    """
    (positive, known_positive), (negative, known_negative) = (_log_determinant(projected, polarity == sign) for sign in (1, -1))
    return labelled_mean(0.25 * (positive + negative), known_positive & known_negative)


def _log_determinant(values: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the (K,) log determinants of the members' covariances (divided by their number), and a (K,) mask of those that have one.

    Args:
        values: (n, d).
        members: (n, K) bool.
    """
    shares = members.T / members.sum(0).clamp(min=1)[:, None]
    # products elementwise, not by matmul, which autocast would round to bfloat16
    centred = values - (shares[..., None] * values).sum(1, keepdim=True)
    covariance = (shares[..., None, None] * centred[..., :, None] * centred[..., None, :]).sum(1)
    identity = torch.eye(values.shape[1], device=values.device)
    least = SINGULAR * covariance.detach().diagonal(dim1=-2, dim2=-1).mean(-1)
    regular = torch.linalg.cholesky_ex(covariance.detach() - least[:, None, None] * identity).info == 0
    known = regular & (members.sum(0) > values.shape[1])
    return torch.where(known[:, None, None], covariance, identity).logdet(), known
