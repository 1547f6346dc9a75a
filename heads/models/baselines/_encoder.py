"""Parts that several baselines share: transformer layers, LSTMs over sequences of different lengths, output layers, signed labels."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from heads.models.parts.layers import Attention, PostNorm, last_step, masked_mean, reverse, zero_padding
from heads.models.parts.randomness import Dropout

TEXT_POOLS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"cls": lambda text, _: text[:, 0], "mean": masked_mean}
"""Poolings of (B, T, D) text and its mask (B, T) to (B, D): the first token, or the mean over real tokens."""


TORCH_EPSILON = 1e-5
"""Epsilon of LayerNorm in torch.nn.TransformerEncoderLayer."""


class EncoderLayer(nn.Module):
    """Transformer layer of BERT: self-attention, then feed-forward, each with a residual and followed by LayerNorm.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762. No positions are encoded.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        ffn: int,
        dropout: float,
        activation: type[nn.Module] = nn.GELU,
        inner_dropout: float = 0.0,
        epsilon: float = 1e-12,
    ) -> None:
        """Make the layer.

        Args:
            dim: d.
            heads: Number of attention heads.
            ffn: Inner width of the feed-forward network.
            dropout: Rate for attention weights and for the outputs of both sublayers.
            activation: Activation of the feed-forward network.
            inner_dropout: Rate behind that activation: `dropout` in torch.nn.TransformerEncoderLayer, 0 in BERT.
            epsilon: Of LayerNorm: 1e-5 in torch.nn.TransformerEncoderLayer, 1e-12 in BERT.

        Raises:
            InputError: `heads` does not divide `dim`.
        """
        super().__init__()
        self.attend, self.after_attend = Attention(dim, heads, dropout), PostNorm(dim, dropout, epsilon)
        self.feed_forward = nn.Sequential(nn.Linear(dim, ffn), activation(), Dropout(inner_dropout), nn.Linear(ffn, dim))
        self.after_feed_forward = PostNorm(dim, dropout, epsilon)

    def forward(self, inputs: Tensor, mask: Tensor, only_first: bool = False) -> Tensor:
        """Apply the layer.

        Args:
            inputs: (B, T, d).
            mask: (B, T), at least one True in each row; steps with False are not read.
            only_first: True computes only the first step of the result.

        Returns:
            (B, T, d), or (B, 1, d) with `only_first`.
        """
        queries = inputs[:, :1] if only_first else inputs
        attended = self.after_attend(queries, self.attend(queries, inputs, mask))
        return self.after_feed_forward(attended, self.feed_forward(attended))


class SequenceLSTM(nn.Module):
    """One LSTM layer whose backward direction begins at the last real step.

    Padding comes last. It changes no step before it, so the forward direction runs over all steps, and the backward one over the
    sequences with their real steps reversed. The result is that of torch's packed sequences, whose lengths the host would have to know.
    """

    def __init__(self, dim: int, hidden: int, bidirectional: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(dim, hidden, batch_first=True, bidirectional=bidirectional)

    def forward(self, inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the outputs at all steps and the last state.

        Args:
            inputs: (B, T, d).
            mask: (B, T); the real steps, at least one in each row, come first.

        Returns:
            (B, T, h), zeros in the padding, and (B, h), the state behind the last real step. With two directions their outputs are
            concatenated, 2h in place of h, and the backward direction ends at the first step.
        """
        inputs = zero_padding(inputs, mask)
        outputs = zero_padding(self._run(inputs, ""), mask)
        state = last_step(outputs, mask)
        if self.lstm.bidirectional:
            backward = self._run(reverse(inputs, mask), "_reverse")
            outputs = torch.cat([outputs, zero_padding(reverse(backward, mask), mask)], -1)
            state = torch.cat([state, last_step(backward, mask)], -1)
        return outputs, state

    def _run(self, inputs: Tensor, direction: str) -> Tensor:
        """Run one direction over all steps from first to last, (B, T, d) → (B, T, h)."""
        weights = [getattr(self.lstm, f"{name}_l0{direction}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        start = inputs.new_zeros(1, len(inputs), self.lstm.hidden_size)
        return torch.lstm(inputs, (start, start), weights, True, 1, 0.0, self.training, False, True)[0]


class LastState(nn.Module):
    """Last state of an LSTM, projected to another width by a Linear, with dropout between the two if a rate is given."""

    def __init__(self, dim: int, hidden: int, width: int, bidirectional: bool = False, dropout: float | None = None) -> None:
        super().__init__()
        self.dropout = nn.Identity() if dropout is None else Dropout(dropout)
        self.lstm = SequenceLSTM(dim, hidden, bidirectional)
        self.project = nn.Linear(hidden * (1 + bidirectional), width)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Encode sequences (B, T, D) with their mask (B, T) as (B, width)."""
        return self.project(self.dropout(self.lstm(inputs, mask)[1]))


class LinearOutputs(nn.ModuleDict):
    """One Linear per task: (B, d) → {task: (B, width)}."""

    def __init__(self, dim: int, widths: Mapping[str, int]) -> None:
        super().__init__({task: nn.Linear(dim, width) for task, width in widths.items()})

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        return {task: layer(inputs) for task, layer in self.items()}


def signed_labels(sentiment: Tensor, emotions: Tensor, tasks: tuple[str, ...]) -> Tensor:
    """Join (B,) sentiment and (B, C) emotions to (B, K) targets whose sign is the class: an emotion becomes −1 or 1. NaN stays."""
    parts = {"msa": sentiment[:, None], "mer": 2 * emotions - 1}
    return torch.cat([parts[task] for task in tasks], 1)
