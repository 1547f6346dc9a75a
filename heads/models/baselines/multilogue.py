"""Multilogue-Net: A Context Aware RNN for Multi-modal Emotion Detection and Sentiment Analysis in Conversation (Shenoy and Sardana,
Challenge-HML 2020), https://aclanthology.org/2020.challengehml-1.3, https://github.com/amanshenoy/multilogue-net.

Reproduced: a recurrent cell per modality and direction with a global, a party and an emotion state; the text vector as context of every
modality; the pairwise attention over the video; for emotions both directions; for sentiment only the forward direction, without an
activation and with 3 tanh(·) at the end. The original has one model per task, and one binary model per emotion. Here, too, the tasks
share nothing, and with `per_emotion` neither do the emotions; by default one network predicts all six.

Not reproduced: video; GloVe text and hand-made audio features (here the means of frozen encoders' features); the class weights, whose
meaning depends on unpublished files; selection on the test split; the dropout rates of the script for sentiment, all .25 (the defaults
are those of the script for emotions). Added: attention does not read padding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import cast

import torch
from torch import Tensor, nn

from data.labels import MOSEI_LABELS, LabelSet
from data.tensors import Batch
from heads.models.base import Head, HeadOutput, predictions
from heads.models.baselines._dialogue import GRUCell, by_utterance, dialogue_of, inter_modal_attention, real, utterances
from heads.models.inputs import InputOptions
from heads.models.options import dropout_rate
from heads.models.parts.layers import reverse
from heads.models.parts.randomness import Dropout


@dataclass(frozen=True, kw_only=True)
class MultilogueOptions(InputOptions):
    """Options of Multilogue-Net. The defaults are the original's."""

    state: int = 150  # width of the global and of the party state
    emotion_state: int = 100  # width of the emotion state, which is what a cell emits
    state_dropout: float = dropout_rate(0.1)  # of the three states, at every step
    emitted_dropout: float = dropout_rate(0.65)  # of the emitted sequences
    hidden_dropout: float = dropout_rate(0.5)  # behind the hidden layer
    per_emotion: bool = False  # a network of its own for each emotion, as published


class Multilogue(Head):
    """Multilogue-Net, published for either task."""

    Options = MultilogueOptions
    context = True
    takes_more = True

    def __init__(self, options: MultilogueOptions, dims: Mapping[str, int], task: str, labels: LabelSet = MOSEI_LABELS) -> None:
        """Raise InputError when text or audio is missing, or a rate is out of range."""
        super().__init__(dims, task, labels)
        self.expect_modalities("multilogue-net", dims)
        self.networks = nn.ModuleDict()
        for name in self.tasks:
            splits = name == "mer" and options.per_emotion
            widths = (1,) * self.widths[name] if splits else (self.widths[name],)
            self.networks[name] = nn.ModuleList(Network(options, dims, name, width) for width in widths)

    def forward(self, batch: Batch) -> HeadOutput:
        dialogue = dialogue_of(batch)
        inputs, mask = {m: utterances(batch, m) for m in self.dims}, real(dialogue)
        networks = {task: cast(nn.ModuleList, parts) for task, parts in self.networks.items()}
        values = {task: torch.cat([network(inputs, mask) for network in parts], -1) for task, parts in networks.items()}
        if "msa" in values:
            values["msa"] = self.labels.limit * values["msa"].tanh()
        return predictions({task: by_utterance(value, dialogue, len(batch.index)) for task, value in values.items()})


class Network(nn.Module):
    """One network, as published for one task: {modality: (V, L, D)} → (V, L, width)."""

    def __init__(self, options: MultilogueOptions, dims: Mapping[str, int], task: str, width: int) -> None:
        super().__init__()
        directions = 2 if task == "mer" else 1
        dim = directions * options.emotion_state
        self.readers = nn.ModuleDict({m: Reader(options, dims["text"], inner, directions) for m, inner in dims.items()})
        self.emitted_dropout, self.hidden_dropout = Dropout(options.emitted_dropout), Dropout(options.hidden_dropout)
        self.hidden = nn.Linear(dim, dim)
        self.activation = nn.ReLU() if task == "mer" else nn.Identity()
        self.out = nn.Linear(len(dims) ** 2 * dim, width)

    def forward(self, inputs: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        emitted = {m: self.emitted_dropout(reader(inputs["text"], inputs[m], mask)) for m, reader in self.readers.items()}
        hidden = [self.hidden_dropout(self.activation(self.hidden(states))) for states in emitted.values()]
        pairs = [inter_modal_attention(x, y, mask) for x, y in permutations(hidden, 2)]
        return self.out(torch.cat([*pairs, *hidden], -1))


class Reader(nn.Module):
    """Emotion states of one modality: those of a forward cell and, with two directions, those of a backward cell, concatenated."""

    def __init__(self, options: MultilogueOptions, context: int, inputs: int, directions: int) -> None:
        super().__init__()
        self.cells = nn.ModuleList(Cell(options, context, inputs) for _ in range(directions))

    def forward(self, context: Tensor, inputs: Tensor, mask: Tensor) -> Tensor:
        """Read (V, L, D) utterances with their context (V, L, Dc); gives (V, L, directions · e)."""
        states = [self.cells[0](context, inputs)]
        for cell in self.cells[1:]:
            states.append(reverse(cell(reverse(context, mask), reverse(inputs, mask)), mask))
        return torch.cat(states, -1)


class Cell(nn.Module):
    """Recurrent cell of one modality in one direction.

    g_t = GRU([context_t; q_{t-1}], g_{t-1})      global state
    c_t = Σ_{s<t} softmax_s(w · g_s) g_s          summary of the earlier utterances; 0 at the first one
    q_t = GRU([u_t; c_t], q_{t-1})                party state; there is one party
    e_t = GRU(q_t, e_{t-1})                       emotion state
    """

    def __init__(self, options: MultilogueOptions, context: int, inputs: int) -> None:
        super().__init__()
        self.widths = (options.state, options.state, options.emotion_state)
        self.listen = GRUCell(context + options.state, options.state)
        self.attend = nn.Linear(options.state, 1, bias=False)
        self.speak = GRUCell(inputs + options.state, options.state)
        self.feel = GRUCell(options.state, options.emotion_state)
        self.dropout = Dropout(options.state_dropout)

    def forward(self, context: Tensor, inputs: Tensor) -> Tensor:
        """Read (V, L, D) utterances with their context (V, L, Dc); gives (V, L, e)."""
        # drawn for all steps at once, so that the number of draws does not depend on L
        kept = [self.dropout(inputs.new_ones(*inputs.shape[:2], width)).unbind(1) for width in self.widths]
        heard, party, emotion = (inputs.new_zeros(len(inputs), width) for width in self.widths)
        history, summary = History(inputs), torch.zeros_like(heard)
        emitted = []
        for said, uttered, *keep in zip(context.unbind(1), inputs.unbind(1), *kept, strict=True):
            heard = self.listen(torch.cat([said, party], -1), heard) * keep[0]
            party = self.speak(torch.cat([uttered, summary], -1), party) * keep[1]
            emotion = self.feel(party, emotion) * keep[2]
            summary = history.add(self.attend(heard), heard)
            emitted.append(emotion)
        return torch.stack(emitted, 1)


class History:
    """Running mean of states, weighted by the softmax of their scores, updated with every state."""

    def __init__(self, like: Tensor) -> None:
        """Start empty; `like` (V, …) gives the number of videos, the device and the dtype."""
        self.highest = like.new_full((len(like), 1), -torch.inf)
        self.total = self.weighted = like.new_zeros(len(like), 1)

    def add(self, score: Tensor, state: Tensor) -> Tensor:
        """Add the score (V, 1) and state (V, g) of one more step; gives the mean (V, g) of all so far."""
        highest = torch.maximum(self.highest, score.detach())  # so that no exponential overflows
        kept, added = (self.highest - highest).exp(), (score - highest).exp()
        self.highest, self.total = highest, self.total * kept + added
        self.weighted = self.weighted * kept + added * state
        return self.weighted / self.total
