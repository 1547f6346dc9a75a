"""MAG-BERT: Integrating Multimodal Information in Large Pretrained Transformers (Rahman et al., ACL 2020),
https://aclanthology.org/2020.acl-main.214. A variant, hence `mag-head`.

Reproduced: the multimodal adaptation gate, its dropout, and the pooler on the first position.

Not reproducible on features of the last layer: in the original the gate stands between BERT's embeddings and its first layer, and all
layers are fine-tuned on the gate's output. Here it gates the last hidden states, and a newly initialised transformer encoder reads
them. The original aligns audio to words with a forced aligner and gives it to each word's pieces. Here the frames are divided evenly
among the text steps between <s> and </s>, which are the first and the last step; in a text that the run's length limit cuts, the last
step is a word. Emotions are an extension.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data.labels import MOSEI_LABELS, LabelSet
from data.tensors import Batch
from heads.models.base import Head, HeadOutput, predictions
from heads.models.baselines._encoder import EncoderLayer, LinearOutputs
from heads.models.inputs import InputOptions
from heads.models.options import dropout_rate
from heads.models.parts.layers import projection, stacked, zero_padding
from heads.models.parts.randomness import Dropout


@dataclass(frozen=True, kw_only=True)
class MAGHeadOptions(InputOptions):
    """Options of the MAG head. The gate's defaults are the original's, the encoder's are BERT's."""

    dim: int | None = None  # width of the model; that of text if None
    beta: float = 1.0  # the most that audio may move a text step, as a part of the step's norm
    gate_dropout: float = dropout_rate(0.5)
    layers: int = 2  # of the encoder; BERT's 12 are frozen before the gate
    heads: int = 12
    ffn: int = 3072
    dropout: float = dropout_rate(0.1)  # of the encoder, and before the output
    special_tokens: bool = True  # the first and the last text step are <s> and </s>, which get no audio


class MAGHead(Head):
    """MAG head: audio shifts the text steps, a transformer encoder reads them, and its first position is read out."""

    Options = MAGHeadOptions

    def __init__(self, options: MAGHeadOptions, dims: Mapping[str, int], task: str, labels: LabelSet = MOSEI_LABELS) -> None:
        """Raise InputError when text or audio is missing, or the attention heads do not divide the width."""
        super().__init__(dims, task, labels)
        self.expect_modalities("mag-head", dims)
        dim = options.dim or dims["text"]
        self.special_tokens = options.special_tokens
        self.project = projection(dims["text"], dim)
        self.gate = AdaptationGate(dim, dims["audio"], options.beta, options.gate_dropout)
        self.layers = stacked(options.layers, "layers", lambda _: EncoderLayer(dim, options.heads, options.ffn, options.dropout))
        self.pool = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), Dropout(options.dropout))
        self.outputs = LinearOutputs(dim, self.widths)

    def forward(self, batch: Batch) -> HeadOutput:
        text, audio = (zero_padding(batch.features[modality], batch.masks[modality]) for modality in ("text", "audio"))
        mask = batch.masks["text"]
        shares = even_shares(mask, batch.masks["audio"], self.special_tokens)
        hidden = self.gate(self.project(text), shares.to(audio.dtype) @ audio)
        for number, layer in enumerate(self.layers, 1):
            hidden = layer(hidden, mask, only_first=number == len(self.layers))
        return predictions(self.outputs(self.pool(hidden[:, 0])))


class AdaptationGate(nn.Module):
    """Adaptation gate: LayerNorm(z + α H) with H = relu(W [a; z] + b) ∘ (W' a + b') and α = min(β ‖z‖ / ‖H‖, 1), for each step."""

    def __init__(self, dim: int, audio_dim: int, beta: float, dropout: float) -> None:
        super().__init__()
        self.beta = beta
        self.weigh = nn.Sequential(nn.Linear(audio_dim + dim, dim), nn.ReLU())
        self.shift = nn.Linear(audio_dim, dim)
        self.norm, self.dropout = nn.LayerNorm(dim), Dropout(dropout)

    def displacement(self, text: Tensor, audio: Tensor) -> Tensor:
        """Compute α H.

        Args:
            text: (B, T, d), z.
            audio: (B, T, D), a, aligned to the text.

        Returns:
            (B, T, d), at each step at most β times as long as the text step.
        """
        shift = self.weigh(torch.cat([audio, text], -1)) * self.shift(audio)
        lengths = [torch.linalg.vector_norm(values, dim=-1, keepdim=True) for values in (text, shift)]
        length = torch.where(lengths[1] == 0, 1, lengths[1])  # as in the original
        return (self.beta * lengths[0] / (length + 1e-6)).clamp(max=1) * shift

    def forward(self, text: Tensor, audio: Tensor) -> Tensor:
        """Apply the gate; arguments are those of `displacement`."""
        return self.dropout(self.norm(text + self.displacement(text, audio)))


def even_shares(text_mask: Tensor, audio_mask: Tensor, special_tokens: bool) -> Tensor:
    """Assign audio frames to text steps in consecutive parts of nearly equal length: part w of W begins at frame ⌊w F / W⌋.

    If there are fewer frames than steps, neighbouring steps share a frame. Text of two steps or fewer has no word between <s> and </s>;
    its first step gets all frames.

    Args:
        text_mask: (B, T).
        audio_mask: (B, F); the real frames come first.
        special_tokens: True gives no frames to the first and the last real text step.

    Returns:
        (B, T, F) weights: 1 / n for each of the n frames of a step, zeros for a step without frames.
    """
    steps, frames = text_mask.sum(1)[:, None, None], audio_mask.sum(1)[:, None, None]
    first = (steps > 2).long() * int(special_tokens)
    words = (steps - 2).clamp(min=1) if special_tokens else steps
    word = torch.arange(text_mask.shape[1], device=text_mask.device)[:, None] - first
    frame = torch.arange(audio_mask.shape[1], device=audio_mask.device)
    begin = word * frames // words
    end = torch.maximum((word + 1) * frames // words, begin + 1)
    belongs = (frame >= begin) & (frame < end) & (word >= 0) & (word < words)
    return belongs / belongs.sum(-1, keepdim=True).clamp(min=1)
