"""UniMSE: Towards Unified Multimodal Sentiment Analysis and Emotion Recognition (Hu et al., EMNLP 2022),
https://arxiv.org/abs/2211.11256. A variant, hence `unimse-head`.

Reproduced: adapters that bring the audio LSTM's state into the text stream after each of the last layers (pre-trained modal fusion),
the contrast between text and audio, and one network for both tasks.

Not reproducible on frozen features: the original is a T5 that generates its answers as text and has the adapters inside its last three
encoder and decoder layers. Here newly initialised transformer encoder layers read cached tokens, and one Linear per task predicts. The
original learns from four corpora at once with labels copied between them; here it learns from one corpus, whose emotions may be
pseudo-labels. The contrast compares the means over time of the last layer's input (as in the original's code, where later layers
overwrite earlier ones) and of the audio LSTM's outputs. Without a decoder it is computed once.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.errors import InputError
from data.labels import MOSEI_LABELS, LabelSet
from data.tensors import Batch
from heads.models.base import Aux, Head, HeadOutput, predictions
from heads.models.baselines._encoder import EncoderLayer, LinearOutputs, SequenceLSTM
from heads.models.inputs import InputOptions
from heads.models.options import dropout_rate, option
from heads.models.parts.layers import masked_mean, projection, stacked, zero_padding
from heads.models.parts.randomness import Dropout


@dataclass(frozen=True, kw_only=True)
class UniMSEHeadOptions(InputOptions):
    """Options of the UniMSE head. The defaults are the original's, where it has the option."""

    dim: int | None = None  # width of the model; that of text if None
    layers: int = 3  # transformer layers, an adapter after each
    heads: int = 12
    ffn: int = 3072
    dropout: float = dropout_rate(0.1)  # of the transformer layers
    audio_dim: int = 32  # of the audio LSTM, and of what adapters get from it
    audio_dropout: float = dropout_rate(0.3)
    bottleneck: int = 64  # inner width of an adapter
    contrast: float = 0.5  # weight of the contrastive loss
    contrast_dim: int = 30  # width in which text and audio are compared
    temperature: float = 0.1  # of the contrast
    # learning rate of the transformer layers as a multiple; the original: 3e-4 against 1e-4
    encoder_lr_factor: float = option(3.0, above=0)


class UniMSEHead(Head):
    """UniMSE head: adapters bring audio into the text layers; both tasks are predicted from the mean of the tokens."""

    Options = UniMSEHeadOptions
    packable = False
    smallest_batch = 2

    def __init__(self, options: UniMSEHeadOptions, dims: Mapping[str, int], task: str, labels: LabelSet = MOSEI_LABELS) -> None:
        """Raise InputError when text or audio is missing, or an option is out of range."""
        super().__init__(dims, task, labels)
        self.expect_modalities("unimse-head", dims)
        if options.temperature <= 0:
            raise InputError(f"temperature is {options.temperature}, expected more than 0.")
        dim, width, self.options = options.dim or dims["text"], options.audio_dim, options
        self.project = projection(dims["text"], dim)
        self.audio = SequenceLSTM(dims["audio"], width)
        self.summary = nn.Sequential(Dropout(options.audio_dropout), nn.Linear(width, width))
        self.layers = stacked(options.layers, "layers", lambda _: EncoderLayer(dim, options.heads, options.ffn, options.dropout))
        self.adapters = stacked(options.layers, "layers", lambda _: FusionAdapter(dim, width, options.bottleneck))
        contrasted = {"text": dim, "audio": width}
        self.contrast = nn.ModuleDict({m: nn.Linear(wide, options.contrast_dim, bias=False) for m, wide in contrasted.items()})
        self.outputs = LinearOutputs(dim, self.widths)

    def lr_factor(self, name: str) -> float:
        return self.options.encoder_lr_factor if name.startswith("layers.") else 1.0

    def forward(self, batch: Batch) -> HeadOutput:
        text, audio = (zero_padding(batch.features[modality], batch.masks[modality]) for modality in ("text", "audio"))
        hidden, mask = self.project(text), batch.masks["text"]
        heard, last = self.audio(audio, batch.masks["audio"])
        summary = self.summary(last)
        for layer, fuse in zip(self.layers, self.adapters, strict=True):
            before, hidden = hidden, fuse(layer(hidden, mask), summary)
        compared = masked_mean(before, mask), masked_mean(heard, batch.masks["audio"])
        losses = {"contrast": self._contrast(*compared)} if self.training else {}
        return predictions(self.outputs(masked_mean(hidden, mask)), Aux(losses=losses))

    def _contrast(self, text: Tensor, audio: Tensor) -> Tensor:
        compared = self.contrast["text"](text).float(), self.contrast["audio"](audio).float()
        return self.options.contrast * info_nce(*compared, self.options.temperature)


class FusionAdapter(nn.Module):
    """Adapter of pre-trained modal fusion: W (u + W_up sigmoid(W_down u)), where u concatenates the text step and the audio summary."""

    def __init__(self, dim: int, audio_dim: int, bottleneck: int) -> None:
        super().__init__()
        width = dim + audio_dim
        self.down, self.up, self.back = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width), nn.Linear(width, dim)
        for layer in (self.down, self.up):
            nn.init.normal_(layer.weight, std=1e-3)
            nn.init.zeros_(layer.bias)

    def forward(self, text: Tensor, audio: Tensor) -> Tensor:
        """Fuse text steps (B, T, d) with an audio summary (B, a); gives (B, T, d)."""
        joined = torch.cat([text, audio.unsqueeze(1).expand(-1, text.shape[1], -1)], -1)
        return self.back(joined + self.up(self.down(joined).sigmoid()))


def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Compute the InfoNCE loss: the cross-entropy of finding each query's own key among all keys of the batch by cosine similarity.

    This is −log softmax_j(cos(q_i, k_j) / temperature) at j = i, averaged over i; a scalar.

    Args:
        queries: (B, d).
        keys: (B, d); row i belongs to query i.
        temperature: Above 0.

    Source: van den Oord et al. 2018, https://arxiv.org/abs/1807.03748.
    """
    similarities = functional.normalize(queries, dim=-1) @ functional.normalize(keys, dim=-1).t() / temperature
    return -similarities.log_softmax(-1).diagonal().mean()
