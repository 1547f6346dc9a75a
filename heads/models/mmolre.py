"""MMoLRE and the family around it: adapters, a mixture design per modality, cross-modal fusion and output layers per task.

Paper: Multimodal Mixture of Low-Rank Experts for Sentiment Analysis and Emotion Recognition, arXiv 2505.14143. Its ablations leave
parts out (pre-fusion, post-fusion, the single-task baselines). Heads with another mixture in UniTSE's place are in
`heads.models.mmolre_variants`, the mixtures in `heads.models.mixtures`.

The paper fine-tunes its encoders, which all its variants share. Here the features are frozen: pre-fusion then shares no trainable
parameter between the tasks and equals two single-task baselines trained side by side, unless `adapter = linear` gives all variants
a trainable layer before the split.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from data.errors import InputError
from data.labels import MOSEI_LABELS, LabelSet
from data.lookup import expect
from data.tensors import Batch
from heads.models.base import Aux, Head, HeadOutput, predictions
from heads.models.inputs import MIX
from heads.models.mixtures.base import Mixture, NoMixture
from heads.models.mixtures.unitse import UniTSE, UniTSEOptions
from heads.models.options import dropout_rate
from heads.models.parts.fusion import CrossModalFusion, FusionOptions
from heads.models.parts.joint import joint, pays
from heads.models.parts.layers import OutputLayers, masked_mean, pool_steps, projection, zero_padding
from heads.models.parts.randomness import Dropout, drawing_in_parts

ADAPTERS = ("none", "norm", "linear", MIX)


@dataclass(frozen=True, kw_only=True)
class FamilyOptions:
    """Options of every head of the family."""

    dim: int | None = None  # width of the model; the widest modality's if None
    audio_pool: int = 1  # frames of the audio encoder averaged into one, in each set of audio features
    adapter: str = "none"  # none, norm (LayerNorm), linear (Linear, LayerNorm; shared by the tasks), mix (of layers, then norm)
    input_dropout: float = dropout_rate(0.0)  # of the adapted features
    share_modalities: bool = False  # one mixture for all modalities
    output: tuple[int, ...] = (768, 512)  # hidden widths of the output layers
    output_dropout: float = dropout_rate(0.3)
    unimodal_losses: bool = False  # MMML's: predictions from each modality alone, with the same loss
    fusion: FusionOptions = field(default_factory=FusionOptions)


@dataclass(frozen=True, kw_only=True)
class MMoLREOptions(FamilyOptions):
    """Options of MMoLRE."""

    mixture: UniTSEOptions = field(default_factory=UniTSEOptions)


class FusionHead(Head):
    """The family. A subclass sets its mixture and whether the tasks share the fusion."""

    Options: type = FamilyOptions
    mixture: type[Mixture] = NoMixture
    shares_fusion = False
    needs = ()
    takes_more = True

    def __init__(self, options: FamilyOptions, dims: Mapping[str, int], task: str, labels: LabelSet = MOSEI_LABELS) -> None:
        """Raises InputError when an option is out of its range."""
        super().__init__(dims, task, labels)
        if options.audio_pool < 1:
            raise InputError(f"audio_pool is {options.audio_pool}, expected 1 or more.")
        dim = options.dim or max(dims.values())
        modalities = tuple(dims)
        self.pool = {modality: options.audio_pool for modality in modalities if modality == "audio" or modality.startswith("audio-")}
        self.adapters = nn.ModuleDict({modality: adapter(options.adapter, width, dim) for modality, width in dims.items()})
        self.input_dropout = Dropout(options.input_dropout)
        shared = self._mixture(options, dim) if options.share_modalities else None
        self.mixtures = nn.ModuleDict({modality: shared or self._mixture(options, dim) for modality in modalities})
        stacks = ("shared",) if self.shares_fusion else self.tasks
        self.fusions = nn.ModuleDict({name: CrossModalFusion(options.fusion, dim, modalities) for name in stacks})
        fused = dim * len(modalities)
        self.outputs = nn.ModuleDict(
            {t: OutputLayers(fused, options.output, self.widths[t], options.output_dropout) for t in self.tasks}
        )
        self.unimodal = nn.ModuleDict()
        if options.unimodal_losses:
            self.unimodal.update({m: self._unimodal(dim, options.output_dropout) for m in modalities})

    def _mixture(self, options: FamilyOptions, dim: int) -> Mixture:
        return self.mixture(getattr(options, "mixture", None), dim, self.tasks)

    def _unimodal(self, dim: int, dropout: float) -> nn.ModuleDict:
        return nn.ModuleDict({task: OutputLayers(dim, (), self.widths[task], dropout) for task in self.tasks})

    def forward(self, batch: Batch) -> HeadOutput:
        clean = {m: zero_padding(batch.features[m], batch.masks[m]) for m in self.dims}
        pooled = {m: pool_steps(inputs, batch.masks[m], self.pool.get(m, 1)) for m, inputs in clean.items()}
        masks = {modality: mask for modality, (_, mask) in pooled.items()}
        adapted = {modality: self.input_dropout(layer(pooled[modality][0])) for modality, layer in self.adapters.items()}
        mixed = {modality: self.mixtures[modality](inputs, masks[modality]) for modality, inputs in adapted.items()}
        fused = self._fuse({task: {m: mix.streams[task] for m, mix in mixed.items()} for task in self.tasks}, masks)
        values = {task: layers(fused[task]) for task, layers in self.outputs.items()}
        aux = Aux(
            losses={f"{m}/{name}": value for m, mix in mixed.items() for name, value in mix.losses.items()},
            routing={f"{m}/{name}": _per_utterance(value, masks[m]) for m, mix in mixed.items() for name, value in mix.routing.items()},
            unimodal={m: self._alone(m, adapted[m], masks[m]) for m in self.unimodal},
        )
        return predictions(values, aux)

    def _fuse(self, streams: Mapping[str, Mapping[str, Tensor]], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Fuses {task: {modality: (B, T, d)}} into {task: (B, M·d)}."""
        if self.shares_fusion:
            shared: Tensor = self.fusions["shared"](streams[self.tasks[0]], masks)
            return dict.fromkeys(self.tasks, shared)
        fusions = [cast(CrossModalFusion, self.fusions[task]) for task in self.tasks]
        device = next(iter(masks.values())).device
        if len(fusions) == 1 or not self.training or not pays(device):
            return {task: fusion(streams[task], masks) for task, fusion in zip(self.tasks, fusions, strict=True)}
        stacked = {m: torch.stack([streams[task][m] for task in self.tasks]) for m in self.dims}
        with drawing_in_parts(len(fusions), fusions[0].draws(), device):
            (fusion,) = joint([[fusion] for fusion in fusions])
            return dict(zip(self.tasks, fusion(stacked, masks).unbind(), strict=True))

    def _alone(self, modality: str, adapted: Tensor, mask: Tensor) -> HeadOutput:
        outputs: Any = self.unimodal[modality]  # an nn.ModuleDict
        pooled = masked_mean(adapted, mask)
        return predictions({task: layers(pooled) for task, layers in outputs.items()})


class MMoLRE(FusionHead):
    """The paper's model: UniTSE per modality, fusion per task."""

    Options = MMoLREOptions
    mixture = UniTSE


class PreFusion(FusionHead):
    """The ablation without UniTSE: each task fuses the features by itself. With one task it is the single-task baseline."""


class PostFusion(FusionHead):
    """The ablation whose tasks share the fusion and have output layers of their own."""

    shares_fusion = True


def _per_utterance(gates: Tensor, mask: Tensor) -> Tensor:
    """Returns (B, N) gates; averages token-level gates (B, T, N) over real steps."""
    return gates if gates.dim() == 2 else masked_mean(gates.float(), mask)


def adapter(kind: str, width: int, dim: int) -> nn.Module:
    """Makes the layers that project features (B, T, width) to the model's width; kind "none" projects only if the widths differ.
    "mix" is "norm": `heads.models.inputs.MixedLayers` has mixed the layers before.

    Raises:
        InputError: The kind is not one of `ADAPTERS`.
    """
    expect(ADAPTERS, kind, "adapter")
    if kind == "linear":
        return nn.Sequential(nn.Linear(width, dim), nn.LayerNorm(dim))
    return nn.Sequential(nn.LayerNorm(width), projection(width, dim)) if kind in ("norm", MIX) else projection(width, dim)
