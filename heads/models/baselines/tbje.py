"""TBJE: A Transformer-Based Joint-Encoding for Emotion Recognition and Sentiment Analysis (Delbrouck et al., Challenge-HML 2020),
https://arxiv.org/abs/2006.15955, https://github.com/jbdel/MOSEI_UMONS.

Reproduced: the main model, which reads only text and audio: text LSTM, blocks of self-attention and of attention guided by text,
glimpses, and its variant of LayerNorm. Sequences are padded or cut to a fixed length, equal to the number of glimpses. Masks are used
in the first block only, so the padding up to that length is part of the model, as in the original. Before the first block this padding
is zero here; in the original it is the output of the LSTM and the Linear for zeros. Nothing depends on the padding of a batch.

Not reproduced: GloVe vectors and mel spectra are cached features here, and every five audio frames are averaged to fit the length. The
original predicts seven classes of sentiment; here sentiment is one number.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.errors import InputError
from data.labels import MOSEI_LABELS, LabelSet
from data.tensors import Batch
from heads.models.base import Head, HeadOutput, predictions
from heads.models.baselines._encoder import LinearOutputs, SequenceLSTM
from heads.models.inputs import InputOptions
from heads.models.options import dropout_rate
from heads.models.parts.layers import Attention, pool_steps, stacked, zero_padding
from heads.models.parts.randomness import Dropout


@dataclass(frozen=True, kw_only=True)
class TBJEOptions(InputOptions):
    """Options of TBJE. The defaults are those of the original's published commands."""

    dim: int = 512
    heads: int = 4
    ffn: int = 1024  # inner width of the feed-forward networks and of those that place the glimpses
    blocks: int = 4
    steps: int = 60  # text tokens, and audio frames after averaging: sequences are padded or cut to it; also the number of glimpses
    audio_pool: int = 5  # frames of the audio encoder averaged into one: 6 s, 299 frames, make 60
    output_dim: int = 1024  # of the vector that is read in the end
    dropout: float = dropout_rate(0.1)


class TBJE(Head):
    """TBJE: joint encoding in which audio reads text; text never reads audio before the final sum."""

    Options = TBJEOptions
    packable = False

    def __init__(self, options: TBJEOptions, dims: Mapping[str, int], task: str, labels: LabelSet = MOSEI_LABELS) -> None:
        """Raise InputError when text or audio is missing, or an option is out of range."""
        super().__init__(dims, task, labels)
        self.expect_modalities("tbje", dims)
        for name in ("steps", "audio_pool"):
            if getattr(options, name) < 1:
                raise InputError(f"{name} is {getattr(options, name)}, expected 1 or more.")
        self.steps, self.audio_pool = options.steps, options.audio_pool
        self.text = SequenceLSTM(dims["text"], options.dim)
        self.audio = nn.Linear(dims["audio"], options.dim)
        self.blocks = stacked(options.blocks, "blocks", lambda number: Block(options, is_last=number == options.blocks))
        self.flatten = nn.ModuleDict({modality: Glimpses(options, 1) for modality in ("text", "audio")})
        self.widen = nn.ModuleDict({modality: nn.Linear(options.dim, options.output_dim) for modality in ("text", "audio")})
        self.norm = Norm(options.output_dim)
        self.outputs = LinearOutputs(options.output_dim, self.widths)

    def forward(self, batch: Batch) -> HeadOutput:
        text, audio, *masks = self._sequences(batch)
        for number, block in enumerate(self.blocks, 1):
            text, audio = block(text, audio, *(masks if number == 1 else map(torch.ones_like, masks)))
        streams = {"text": (text, masks[0]), "audio": (audio, masks[1])}
        seen = [self.widen[m](self.flatten[m](x, torch.ones_like(mask)).squeeze(1)) for m, (x, mask) in streams.items()]
        return predictions(self.outputs(self.norm(seen[0] + seen[1])))

    def _sequences(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Make text and audio (B, steps, d), zeros in the padding, and their masks (B, steps)."""
        text, text_mask = self._fitted(batch.features["text"], batch.masks["text"])
        pooled = pool_steps(zero_padding(batch.features["audio"], batch.masks["audio"]), batch.masks["audio"], self.audio_pool)
        audio, audio_mask = self._fitted(*pooled)
        return self.text(text, text_mask)[0], zero_padding(self.audio(audio), audio_mask), text_mask, audio_mask

    def _fitted(self, inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Pad or cut (B, T, d) and its mask (B, T) to the fixed length."""
        missing = self.steps - mask.shape[1]
        return functional.pad(zero_padding(inputs, mask), (0, 0, 0, missing)), functional.pad(mask, (0, missing))


class Block(nn.Module):
    """One block: text attends to itself; audio attends to itself and then to the block's text input. Both have residuals.

    Glimpses of each follow, except in the last block.
    """

    def __init__(self, options: TBJEOptions, is_last: bool) -> None:
        """Raise InputError when the attention heads do not divide the width."""
        super().__init__()
        self.text_attend, self.text_feed = Attend(options), Feed(options)
        self.audio_attend, self.guided, self.audio_feed = Attend(options), Attend(options), Feed(options)
        self.glimpses = nn.ModuleDict()
        if not is_last:
            self.glimpses.update({modality: Reread(options) for modality in ("text", "audio")})

    def forward(self, text: Tensor, audio: Tensor, text_mask: Tensor, audio_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the block to text and audio (B, T, d) with masks (B, T); gives text and audio (B, T, d)."""
        text_out = text + self.text_feed(self.text_attend(text, text, text_mask))
        guided = self.guided(self.audio_attend(audio, audio, audio_mask), text, text_mask)
        audio_out = audio + self.audio_feed(guided)
        if not self.glimpses:
            return text_out, audio_out
        return self.glimpses["text"](text_out, text_mask), self.glimpses["audio"](audio_out, audio_mask)


class Norm(nn.Module):
    """LayerNorm of MCAN and TBJE, which divides by the sample deviation (Σ(x − μ)² / (d − 1))^½ plus epsilon."""

    def __init__(self, dim: int, epsilon: float = 1e-6) -> None:
        """Raise InputError when the width is below 2, where there is no deviation."""
        super().__init__()
        if dim < 2:
            raise InputError(f"TBJE's LayerNorm needs a width of at least 2, got {dim}.")
        self.epsilon = epsilon
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise (…, d)."""
        centred = inputs - inputs.mean(-1, keepdim=True)
        # where all values are equal, the gradient of the norm is finite and that of torch.std is not
        deviation = torch.linalg.vector_norm(centred, dim=-1, keepdim=True) / (inputs.shape[-1] - 1) ** 0.5
        return self.weight * centred / (deviation + self.epsilon) + self.bias


class Attend(nn.Module):
    """Attention sub-block: Norm(x + dropout(attention of x to a source))."""

    def __init__(self, options: TBJEOptions) -> None:
        super().__init__()
        self.attention = Attention(options.dim, options.heads, options.dropout)
        self.dropout, self.norm = Dropout(options.dropout), Norm(options.dim)

    def forward(self, inputs: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        """Let inputs (B, Tq, d) read a source (B, T, d) with its mask (B, T); gives (B, Tq, d)."""
        return self.norm(inputs + self.dropout(self.attention(inputs, source, mask)))


class Feed(nn.Module):
    """Feed-forward sub-block: Norm(x + dropout(feed-forward of x))."""

    def __init__(self, options: TBJEOptions) -> None:
        super().__init__()
        inner = nn.Linear(options.dim, options.ffn), nn.ReLU(), Dropout(options.dropout)
        self.network = nn.Sequential(*inner, nn.Linear(options.ffn, options.dim), Dropout(options.dropout))
        self.norm = Norm(options.dim)

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the sub-block to (…, d)."""
        return self.norm(inputs + self.network(inputs))


class Glimpses(nn.Module):
    """Glimpses: G weighted sums over the time steps, with weights predicted from the steps; (B, T, d) → (B, G, d)."""

    def __init__(self, options: TBJEOptions, count: int) -> None:
        super().__init__()
        inner = nn.Linear(options.dim, options.ffn), nn.ReLU(), Dropout(options.dropout)
        self.place = nn.Sequential(*inner, nn.Linear(options.ffn, count, bias=False))  # softmax over time would cancel a bias

    def weights(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Compute the weights (B, T, G) for (B, T, d) with its mask (B, T); for each glimpse they sum to 1 over time."""
        return self.place(inputs).masked_fill(~mask.unsqueeze(-1), -torch.inf).softmax(1)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Compute the glimpses (B, G, d) of (B, T, d) with its mask (B, T)."""
        return self.weights(inputs, mask).transpose(1, 2) @ inputs


class Reread(nn.Module):
    """Glimpse sub-block: Norm(x + dropout(glimpses of x)), with as many glimpses as steps; (B, T, d) → (B, T, d)."""

    def __init__(self, options: TBJEOptions) -> None:
        super().__init__()
        self.look, self.dropout, self.norm = Glimpses(options, options.steps), Dropout(options.dropout), Norm(options.dim)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Apply the sub-block to (B, T, d) with its mask (B, T)."""
        return self.norm(inputs + self.dropout(self.look(inputs, mask)))
