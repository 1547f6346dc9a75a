"""Parts that the heads reading whole videos share: utterances as sequences, and layers over such sequences.

A batch has B utterances, one per row. `Batch.dialogue` (V, L) holds, for V videos, the rows of their utterances in order, padded with
-1 to the number L of utterances of the longest video. All utterances of a video count as one party's, as in MOSEI prepared for COGMEN
(every speaker is "M").
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.tensors import Batch
from heads.models.baselines._encoder import TORCH_EPSILON, EncoderLayer
from heads.models.parts.layers import masked_mean, stacked, zero_padding


def real(dialogue: Tensor) -> Tensor:
    """Make the mask (V, L) of the positions (V, L): True where there is an utterance."""
    return dialogue >= 0


def dialogue_of(batch: Batch) -> Tensor:
    """Return the positions (V, L) of a batch of videos.

    Raises:
        ValueError: The batch has none. Heads with `context = True` always get them.
    """
    if batch.dialogue is None:
        raise ValueError("This head reads whole videos, and the batch does not say which utterances belong to one.")
    return batch.dialogue


def by_video(vectors: Tensor, dialogue: Tensor) -> Tensor:
    """Arrange the rows of a batch as one sequence per video.

    Args:
        vectors: (B, D).
        dialogue: (V, L) positions in B, -1 = padding.

    Returns:
        (V, L, D), zeros in the padding.
    """
    places = dialogue.clamp(min=0).flatten()
    return zero_padding(vectors.index_select(0, places).unflatten(0, dialogue.shape), real(dialogue))


def by_utterance(values: Tensor, dialogue: Tensor, count: int) -> Tensor:
    """Arrange sequences as rows of a batch again: the inverse of `by_video`.

    Args:
        values: (V, L, …).
        dialogue: (V, L); contains each row once.
        count: B.

    Returns:
        (B, …)
    """
    rows = torch.where(real(dialogue), dialogue, count).flatten()
    places = rows.new_zeros(count + 1).scatter(0, rows, torch.arange(len(rows), device=rows.device))[:count]
    return values.flatten(0, 1).index_select(0, places)


def utterances(batch: Batch, modality: str) -> Tensor:
    """Average each utterance of a modality over its real time steps: (V, L, D), zeros in the padding."""
    return by_video(masked_mean(batch.features[modality], batch.masks[modality]), dialogue_of(batch))


class GRUCell(nn.GRUCell):
    """PyTorch's GRU cell, written out: the fused kernel can neither be batched by `torch.func.vmap` nor drop parts of the state."""

    def forward(self, inputs: Tensor, state: Tensor, seen: Tensor | None = None) -> Tensor:
        """Compute one step.

        Args:
            inputs: (V, D).
            state: (V, d) before the step.
            seen: (V, d), the state that the weights read, if it differs from `state` (recurrent dropout).

        Returns:
            (V, d) after the step.
        """
        reset, update, new = functional.linear(inputs, self.weight_ih, self.bias_ih).chunk(3, -1)
        recurrent = functional.linear(state if seen is None else seen, self.weight_hh, self.bias_hh).chunk(3, -1)
        update = (update + recurrent[1]).sigmoid()
        new = (new + (reset + recurrent[0]).sigmoid() * recurrent[2]).tanh()
        return new + update * (state - new)


def inter_modal_attention(queries: Tensor, source: Tensor, mask: Tensor) -> Tensor:
    """Compute softmax(x yᵀ) y ∘ x over the utterances of a video, for x = `queries` and y = `source`.

    Args:
        queries: (V, L, d).
        source: (V, L, d).
        mask: (V, L); padding is not read.

    Returns:
        (V, L, d)

    Source: "contextual inter-modal attention", Ghosal et al. 2018, https://aclanthology.org/D18-1382.
    """
    scores = queries @ source.transpose(1, 2)
    return scores.masked_fill(~mask.unsqueeze(1), -torch.inf).softmax(-1) @ source * queries


class UtteranceEncoder(nn.Module):
    """Transformer over the utterances of a video, with the layers of torch.nn.TransformerEncoderLayer; (V, L, d) → (V, L, d)."""

    def __init__(self, dim: int, layers: int, heads: int | None, ffn: int, dropout: float) -> None:
        """Make the layers.

        Args:
            dim: d.
            layers: Number of layers.
            heads: Number of attention heads; `heads_for(dim)` if None.
            ffn: Inner width of the feed-forward networks.
            dropout: Rate for attention weights, inside the feed-forward networks, and behind attention and feed-forward.

        Raises:
            InputError: `heads` does not divide `dim`, or `layers` is below 1.
        """
        super().__init__()
        heads = heads_for(dim) if heads is None else heads
        self.layers = stacked(layers, "layers", lambda _: EncoderLayer(dim, heads, ffn, dropout, nn.ReLU, dropout, TORCH_EPSILON))

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            inputs = layer(inputs, mask)
        return inputs


def heads_for(dim: int) -> int:
    """Choose the number of attention heads of COGMEN's and CORECT's encoders: the least of 7 to 14 that divides the width.

    If none of them does, the largest divisor below 7. This fallback is ours; the originals stop there.
    """
    return next(heads for heads in (*range(7, 15), *range(6, 0, -1)) if dim % heads == 0)


class RelationalConvolution(nn.Module):
    """Relational graph convolution: x'_i = W_0 x_i + b + Σ_r mean_{j ∈ N_r(i)} W_r x_j over the nodes; (V, n, D) → (V, n, d).

    Source: RGCN, Schlichtkrull et al. 2018, https://arxiv.org/abs/1703.06103, with means as in PyTorch Geometric.
    """

    def __init__(self, inputs: int, dim: int, relations: int) -> None:
        super().__init__()
        self.own = nn.Linear(inputs, dim)
        self.messages = nn.ModuleList(nn.Linear(inputs, dim, bias=False) for _ in range(relations))

    def forward(self, nodes: Tensor, links: Sequence[Tensor]) -> Tensor:
        """Apply the convolution.

        Args:
            nodes: (V, n, D).
            links: One (V, n, n) bool per relation, True where node i (second dimension) reads node j (third).

        Returns:
            (V, n, d)
        """
        read = self.own(nodes)
        for layer, linked in zip(self.messages, links, strict=True):
            read = read + linked.to(nodes.dtype) @ layer(nodes) / linked.sum(-1, keepdim=True).clamp(min=1)
        return read


class GraphAttention(nn.Module):
    """Graph attention: x'_i = W_s x_i + Σ_{j ∈ N(i)} softmax_j((W_q x_i + b)ᵀ W_k x_j / √d) W_v x_j.

    (V, n, D) → (V, n, heads · d), heads concatenated. Only queries have a bias: a bias of W_k adds the same to all scores of a node,
    which the softmax cancels; biases of W_v and W_s add the same to all nodes, which the BatchNorm behind it in COGMEN and CORECT
    cancels.

    Source: the graph transformer of Shi et al. 2021, https://arxiv.org/abs/2009.03509.
    """

    def __init__(self, inputs: int, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(inputs, heads * dim)
        self.own, self.key, self.value = (nn.Linear(inputs, heads * dim, bias=False) for _ in range(3))

    def forward(self, nodes: Tensor, linked: Tensor) -> Tensor:
        """Apply the attention.

        Args:
            nodes: (V, n, D).
            linked: (V, n, n) bool, True where node i reads node j; at least one j per i.

        Returns:
            (V, n, heads · d)
        """
        query, key, value = (
            layer(nodes).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        weights = scores.masked_fill(~linked.unsqueeze(1), -torch.inf).softmax(-1)
        return self.own(nodes) + (weights @ value).transpose(1, 2).flatten(2)
