"""What enters a head: features of one layer or of several, of all frames of an encoder or of means of them, or none of a modality.

A head is written for features (B, T, D) of one layer, of all its modalities. Several layers lie side by side in (B, T, L · D);
`MixedLayers` stands before any head and gives it their weighted sum. `MissingModalities` stands before any head and puts learned
features where an utterance has none. What a feature file holds is in `data.layers`; heads are built in `heads.runs.build`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from data.errors import InputError
from data.labels import MOSEI_LABELS, LabelSet
from data.tensors import Batch, CorpusTensors
from heads.models.base import Head, HeadOutput
from heads.models.options import option
from heads.models.parts.layers import zero_padding
from heads.models.parts.randomness import uniform_like

MIX = "mix"
"""The value of the option `adapter` that mixes layers."""


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """Options of every head that has no other adapter: none (several layers side by side), mix (their weighted sum)."""

    adapter: str = option("none", choices=("none", MIX), omitted=True)


@dataclass(frozen=True)
class Inputs:
    """What a head reads and learns: modality → D of all layers together, numbers of the layers, frames averaged in a row; labels."""

    dims: tuple[tuple[str, int], ...]
    layers: tuple[tuple[str, tuple[int, ...]], ...]
    averaged: tuple[tuple[str, int], ...]
    labels: LabelSet = MOSEI_LABELS

    @classmethod
    def of(cls, tensors: CorpusTensors) -> Self:
        return cls(tuple(tensors.dims.items()), tuple(tensors.layers.items()), tuple(tensors.averaged.items()), tensors.targets.labels)

    @property
    def several(self) -> dict[str, tuple[int, ...]]:
        """Modality → numbers of its layers, for modalities with several."""
        return {modality: numbers for modality, numbers in self.layers if len(numbers) > 1}


def fitted(options: Any, inputs: Inputs) -> Any:
    """Returns options of a head whose `audio_pool` counts rows of the features, where it counted frames of the encoder.

    Raises:
        InputError: The features are means of so many frames that no number of them makes `audio_pool`.
    """
    pool = getattr(options, "audio_pool", 1)
    sizes = {size for name, size in inputs.averaged if name.partition("-")[0] == "audio"} or {1}
    if sizes == {1} or pool <= 1:
        return options
    if len(sizes) > 1:
        raise InputError(
            f"model.audio_pool is {pool} frames, but sets of audio features are means of {' and '.join(map(str, sorted(sizes)))}"
            " frames: set it to 1, or make the sets alike."
        )
    (averaged,) = sizes
    if pool % averaged:
        raise InputError(
            f"model.audio_pool is {pool} frames, but the audio features are means of {averaged} frames each: expected a multiple of"
            f" {averaged}, or 1 for the features as they are."
        )
    return dataclasses.replace(options, audio_pool=pool // averaged)


class LayerMix(nn.Module):
    """The weighted sum of layers, (…, L · D) → (…, D): the softmax of L learned numbers, which start equal.

    Source: the featurizer of s3prl, of Yang et al. 2021, SUPERB, https://arxiv.org/abs/2105.01051; as there, layers are not normalised.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(count))

    def weights(self) -> Tensor:
        """Returns the weights (L,), which sum to 1."""
        return self.logits.softmax(0)

    def forward(self, inputs: Tensor) -> Tensor:
        layers = inputs.unflatten(-1, (len(self.logits), -1))
        return torch.einsum("l,...ld->...d", self.weights().to(inputs.dtype), layers)  # matmul's backward pass is 100 times slower here


class Before(Head):
    """Stands before a head and changes what it reads; everything else is as the head has it."""

    head: Head

    def stand_before(self, head: Head) -> None:
        """Takes the head; called at the end of `__init__`, so that own parameters come first."""
        self.head = head
        self.packable, self.context, self.smallest_batch, self.stages = head.packable, head.context, head.smallest_batch, head.stages

    def lr_factor(self, name: str) -> float:
        return self.head.lr_factor(name.removeprefix("head.")) if name.startswith("head.") else 1.0

    def trains(self, name: str, stage: str) -> bool:
        if not name.startswith("head."):
            return stage == self.stages[-1]  # the stages before train what only helps the head to learn
        return self.head.trains(name.removeprefix("head."), stage)

    def prepare(self, sentiment: Tensor, emotions: Tensor, training: Tensor) -> None:
        self.head.prepare(sentiment, emotions, training)

    def begin(self, stage: str, epoch: int) -> None:
        self.head.begin(stage, epoch)

    def remember(self, batch: Batch, output: HeadOutput) -> None:
        self.head.remember(batch, output)


class MixedLayers(Before):
    """A head behind the weighted sum of the layers of each modality that has several."""

    def __init__(self, head: Head, layers: Mapping[str, Sequence[int]], dims: Mapping[str, int]) -> None:
        """Args:
        head: Any head, for features of one layer.
        layers: Modality → numbers of its layers, for modalities with several.
        dims: Modality → D of all layers together.
        """
        super().__init__(dims, head.task, head.labels)
        self.mixes = nn.ModuleDict({modality: LayerMix(len(numbers)) for modality, numbers in layers.items()})
        self.layers = dict(layers)
        self.stand_before(head)

    def forward(self, batch: Batch) -> HeadOutput:
        mixed = {modality: mix(zero_padding(batch.features[modality], batch.masks[modality])) for modality, mix in self.mixes.items()}
        return self.head(batch._replace(features={**batch.features, **mixed}))

    def layer_weights(self) -> dict[str, dict[str, float]]:
        """Returns modality → number of the layer → its weight."""
        weights = {modality: mix.weights().tolist() for modality, mix in self.mixes.items() if isinstance(mix, LayerMix)}
        return {m: dict(zip(map(str, numbers), weights[m], strict=True)) for m, numbers in self.layers.items()}


class MissingModalities(Before):
    """A head that can do without a modality: an utterance that has no features of one gets a single learned step in their place.

    In training, each modality of an utterance is replaced so with the same probability, never two at a time.
    """

    rate: Tensor  # float32, no dimensions; a buffer, so that runs of a pack may differ in it

    def __init__(self, head: Head, rate: float, dims: Mapping[str, int]) -> None:
        """Args:
            head: Any head.
            rate: Probability of each modality, above 0.
            dims: Modality → D.

        Raises:
            InputError: There is one modality, or the probabilities add up to more than 1.
        """
        super().__init__(dims, head.task, head.labels)
        if len(dims) < 2:
            raise InputError(f"train.modality_dropout is {rate:g}, which needs two modalities or more; got {', '.join(dims)}.")
        if rate * len(dims) > 1:
            most = 1 / len(dims)
            raise InputError(f"train.modality_dropout is {rate:g}, expected at most {most:.3g} for each of {len(dims)} modalities.")
        self.vectors = nn.ParameterDict({modality: nn.Parameter(torch.zeros(dim)) for modality, dim in dims.items()})
        self.register_buffer("rate", torch.tensor(float(rate)), persistent=False)
        self.stand_before(head)

    def forward(self, batch: Batch) -> HeadOutput:
        absent = {modality: ~batch.masks[modality].any(1) for modality in self.dims}
        if self.training:
            drawn, whole = uniform_like(batch.sentiment), ~torch.stack(list(absent.values())).any(0)
            for number, modality in enumerate(self.dims):
                is_hit = (drawn >= number * self.rate) & (drawn < (number + 1) * self.rate)
                absent[modality] = absent[modality] | (is_hit & whole)
        features, masks = dict(batch.features), dict(batch.masks)
        for modality, vector in self.vectors.items():
            values, mask, gone = features[modality], masks[modality], absent[modality][:, None]
            is_first = torch.arange(mask.shape[1], device=mask.device) == 0
            masks[modality] = torch.where(gone, is_first, mask)
            features[modality] = torch.where(gone[..., None], vector.to(values.dtype), values)
        return self.head(batch._replace(features=features, masks=masks))
