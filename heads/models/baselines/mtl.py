"""MTL: Multi-task Learning for Multi-modal Emotion Recognition and Sentiment Analysis (Akhtar et al., NAACL 2019),
https://aclanthology.org/N19-1034, https://github.com/GussailRaat/NAACL-19-CIM.

Reproduced: for each modality a bidirectional GRU over the utterances of a video, contextual inter-modal attention for every ordered
pair, and two linear outputs on the same vector: sentiment as two classes (negative or not) and seven emotion labels, the seventh for
"none of the six".

Not reproduced: video; the original's features (here the means of frozen encoders' features); two checkpoints, one per task's metric
(`train.keep` does that); emotion thresholds chosen on the test split. GRU gates are PyTorch's, not those of Keras at that time. Added:
attention does not read padding; `sentiment = "regression"` makes sentiment one number, which MMoLRE's tables need for metrics other
than accuracy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.labels import MOSEI_LABELS, LabelSet
from data.lookup import lookup
from data.tensors import Batch
from heads.models.base import Aux, Head, HeadOutput, predictions
from heads.models.baselines._dialogue import GRUCell, by_utterance, dialogue_of, inter_modal_attention, real, utterances
from heads.models.inputs import InputOptions
from heads.models.losses import labelled_mean
from heads.models.options import dropout_rate
from heads.models.parts.layers import reverse
from heads.models.parts.randomness import Dropout

SENTIMENT_OUTPUTS = {"polarity": 2, "regression": 1}
"""Kind of sentiment output → its width."""


@dataclass(frozen=True, kw_only=True)
class MTLOptions(InputOptions):
    """Options of MTL. The defaults are the original's."""

    gru: int = 200  # width of the GRU in each direction
    dim: int = 100  # width of an utterance behind it
    input_dropout: float = dropout_rate(0.3)  # of what a GRU reads, the same values at every step
    recurrent_dropout: float = dropout_rate(0.3)  # of what its gates see of its state, the same values at every step
    hidden_dropout: float = dropout_rate(0.3)  # behind the GRU and behind the layer after it
    sentiment: str = "polarity"  # two classes by cross-entropy, whatever the sentiment loss; regression: one number by that loss
    no_emotion: bool = True  # a seventh label, "none of the six", beside emotions that are no classes


class MTL(Head):
    """The multi-task model of Akhtar et al., published for both tasks at once.

    With `sentiment = "polarity"` the prediction is 3 (p(not negative) - p(negative)), or another limit of the scale, so that its sign
    is the class. In training it has no gradient, because the cross-entropy of the classes alone trains it.
    """

    Options = MTLOptions
    context = True
    takes_more = True

    def __init__(self, options: MTLOptions, dims: Mapping[str, int], task: str, labels: LabelSet = MOSEI_LABELS) -> None:
        """Raise InputError when text or audio is missing, or an option is out of range."""
        super().__init__(dims, task, labels)
        self.expect_modalities("mtl", dims)
        has_none = options.no_emotion and not labels.is_exclusive
        widths = {"msa": lookup(SENTIMENT_OUTPUTS, options.sentiment, "sentiment output"), "mer": labels.widths["mer"] + has_none}
        self.has_polarity, self.has_no_emotion = options.sentiment == "polarity", has_none
        self.encoders = nn.ModuleDict({modality: Encoder(options, width) for modality, width in dims.items()})
        count = len(dims)
        self.outputs = nn.ModuleDict({name: nn.Linear(count**2 * options.dim, widths[name]) for name in self.tasks})

    def forward(self, batch: Batch) -> HeadOutput:
        dialogue = dialogue_of(batch)
        mask = real(dialogue)
        encoded = [encoder(utterances(batch, modality), mask) for modality, encoder in self.encoders.items()]
        pairs = [inter_modal_attention(x, y, mask) for x, y in permutations(encoded, 2)]
        rows = by_utterance(torch.cat([*pairs, *encoded], -1), dialogue, len(batch.index))
        values = {task: layer(rows).float() for task, layer in self.outputs.items()}
        losses = self._losses(values, batch) if self.training else {}
        if "msa" in values and self.has_polarity:
            sentiment = self.labels.limit * (log_odds(values["msa"]) / 2).tanh()
            values["msa"] = (sentiment.detach() if self.training else sentiment).unsqueeze(-1)
        if "mer" in values:
            values["mer"] = values["mer"][:, : self.widths["mer"]]
        return predictions(values, Aux(losses=losses))

    def _losses(self, values: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Compute the terms that the losses of the tasks lack: the two classes of sentiment, and the seventh emotion label.

        The seventh label has weight 1/7, its share in Keras' mean over seven labels.
        """
        losses = {}
        if "msa" in values and self.has_polarity:
            losses["polarity"] = _binary(log_odds(values["msa"]), batch.sentiment >= 0, ~batch.sentiment.isnan())
        if "mer" in values and self.has_no_emotion:
            absent = (batch.emotions == 0).all(-1)
            losses["no_emotion"] = _binary(values["mer"][:, -1], absent, ~batch.emotions.isnan().any(-1)) / (self.widths["mer"] + 1)
        return losses


def log_odds(classes: Tensor) -> Tensor:
    """Compute the (B,) log odds of the second of two classes from their logits (B, 2).

    Binary cross-entropy of the log odds equals the cross-entropy of the two classes.
    """
    return classes[:, 1] - classes[:, 0]


def _binary(logits: Tensor, truth: Tensor, labelled: Tensor) -> Tensor:
    return labelled_mean(functional.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype), reduction="none"), labelled)


class Encoder(nn.Module):
    """Encoder of one modality's utterances in the context of their video: (V, L, D) → (V, L, d)."""

    def __init__(self, options: MTLOptions, width: int) -> None:
        super().__init__()
        self.onward, self.backward = (GRU(options, width) for _ in range(2))
        self.dropout = Dropout(options.hidden_dropout)
        self.dense = nn.Linear(2 * options.gru, options.dim)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        states = torch.cat([self.onward(inputs), reverse(self.backward(reverse(inputs, mask)), mask)], -1)
        return self.dropout(self.dense(self.dropout(states)).relu())


class GRU(nn.Module):
    """A GRU in one direction whose dropout masks are constant along a sequence; (V, L, D) → (V, L, d).

    Source: Gal and Ghahramani 2016, https://arxiv.org/abs/1512.05287. As in Keras, the part of the state that is carried over unchanged
    has no dropout.
    """

    def __init__(self, options: MTLOptions, width: int) -> None:
        super().__init__()
        self.cell = GRUCell(width, options.gru)
        self.input_dropout, self.recurrent_dropout = Dropout(options.input_dropout), Dropout(options.recurrent_dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        state = inputs.new_zeros(len(inputs), self.cell.hidden_size)
        inputs = inputs * self.input_dropout(torch.ones_like(inputs[:, :1]))
        kept = self.recurrent_dropout(torch.ones_like(state))
        states = []
        for step in inputs.unbind(1):
            state = self.cell(step, state, state * kept)
            states.append(state)
        return torch.stack(states, 1)
