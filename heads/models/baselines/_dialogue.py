"""What the heads that read whole videos share: utterances as sequences, and layers over such sequences. No head is here.

A batch has B utterances, one a row; `Batch.dialogue` (V, L) says where each stands in its video: V videos, padded behind their last
utterance to the L of the longest. All of a video's utterances are one party's, as MOSEI is prepared for COGMEN (every speaker "M").
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.tensors import Batch
from heads.models.baselines._encoder import EncoderLayer
from heads.models.parts.layers import masked_mean, stacked, zero_padding


def real(dialogue: Tensor) -> Tensor:
    """(V, L) bool, True = an utterance, of the positions (V, L)."""
    return dialogue >= 0


def by_video(vectors: Tensor, dialogue: Tensor) -> Tensor:
    """Rows of a batch as sequences.

    Args:
        vectors: (B, D).
        dialogue: (V, L) positions in B, -1 = padding.

    Returns:
        (V, L, D), zeros in the padding.
    """
    places = dialogue.clamp(min=0).flatten()
    return zero_padding(vectors.index_select(0, places).unflatten(0, dialogue.shape), real(dialogue))


def by_utterance(values: Tensor, dialogue: Tensor, count: int) -> Tensor:
    """Sequences as rows of a batch: what undoes `by_video`.

    Args:
        values: (V, L, …).
        dialogue: (V, L); each of the rows stands in it once.
        count: B.

    Returns:
        (B, …)
    """
    rows = torch.where(real(dialogue), dialogue, count).flatten()
    places = rows.new_zeros(count + 1).scatter(0, rows, torch.arange(len(rows), device=rows.device))[:count]
    return values.flatten(0, 1).index_select(0, places)


def utterances(batch: Batch, modality: str) -> Tensor:
    """(V, L, D) utterance vectors of a modality, each the mean over its real time steps; zeros in the padding."""
    return by_video(masked_mean(batch.features[modality], batch.masks[modality]), batch.dialogue)


def reverse(values: Tensor, mask: Tensor) -> Tensor:
    """(V, L, d) with the real steps, which come first, in reverse order; the padding stays where it is."""
    steps = torch.arange(mask.shape[1], device=mask.device)
    places = torch.where(mask, mask.sum(1, keepdim=True) - 1 - steps, steps)
    return values.gather(1, places.unsqueeze(-1).expand(values.shape))


class GRUCell(nn.GRUCell):
    """PyTorch's, written out: its fused kernel can neither be batched by `torch.func.vmap` nor drop parts of the state."""

    def forward(self, inputs: Tensor, state: Tensor, seen: Tensor | None = None) -> Tensor:
        """One step.

        Args:
            inputs: (V, D).
            state: (V, d) before the step.
            seen: (V, d), what the weights read of the state, where it is not the whole of it (recurrent dropout).

        Returns:
            (V, d) after the step.
        """
        reset, update, new = functional.linear(inputs, self.weight_ih, self.bias_ih).chunk(3, -1)
        recurrent = functional.linear(state if seen is None else seen, self.weight_hh, self.bias_hh).chunk(3, -1)
        update = (update + recurrent[1]).sigmoid()
        new = (new + (reset + recurrent[0]).sigmoid() * recurrent[2]).tanh()
        return new + update * (state - new)


def inter_modal_attention(queries: Tensor, source: Tensor, mask: Tensor) -> Tensor:
    """softmax(x yᵀ) y ∘ x over the utterances of a video, for x = `queries` and y = `source`.

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
    """Transformer layers over the utterances of a video, as torch.nn.TransformerEncoderLayer has them; (V, L, d) → (V, L, d)."""

    def __init__(self, dim: int, layers: int, heads: int | None, ffn: int, dropout: float) -> None:
        """Args:
            dim: d.
            layers: How many.
            heads: Attention heads; `heads_for(dim)` if None.
            ffn: Inner width of the feed-forward networks.
            dropout: Of attention weights, inside the feed-forward networks and behind both.

        Raises:
            InputError: `heads` does not divide `dim`, or there would be no layer.
        """
        super().__init__()
        heads = heads_for(dim) if heads is None else heads
        self.layers = stacked(layers, "layers", lambda _: EncoderLayer(dim, heads, ffn, dropout, nn.ReLU, dropout))

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            inputs = layer(inputs, mask)
        return inputs


def heads_for(dim: int) -> int:
    """Attention heads of COGMEN's and CORECT's encoders: the least of 7 to 14 that divides the width; of a width that none of them
    divides, the largest divisor below 7 (ours: they stop there)."""
    return next(heads for heads in (*range(7, 15), *range(6, 0, -1)) if dim % heads == 0)


class RelationalConvolution(nn.Module):
    """x'_i = W_0 x_i + b + Σ_r mean_{j ∈ N_r(i)} W_r x_j over the nodes of a graph; (V, n, D) → (V, n, d).

    Source: RGCN, Schlichtkrull et al. 2018, https://arxiv.org/abs/1703.06103, with means as PyTorch Geometric has it.
    """

    def __init__(self, inputs: int, dim: int, relations: int) -> None:
        super().__init__()
        self.own = nn.Linear(inputs, dim)
        self.messages = nn.ModuleList(nn.Linear(inputs, dim, bias=False) for _ in range(relations))

    def forward(self, nodes: Tensor, links: Sequence[Tensor]) -> Tensor:
        """One step.

        Args:
            nodes: (V, n, D).
            links: For each relation (V, n, n) bool, True where node i (second dimension) reads node j (third).

        Returns:
            (V, n, d)
        """
        read = self.own(nodes)
        for layer, linked in zip(self.messages, links, strict=True):
            read = read + linked.to(nodes.dtype) @ layer(nodes) / linked.sum(-1, keepdim=True).clamp(min=1)
        return read


class GraphAttention(nn.Module):
    """x'_i = W_s x_i + Σ_{j ∈ N(i)} softmax_j((W_q x_i + b)ᵀ W_k x_j / √d) W_v x_j; (V, n, D) → (V, n, heads · d), heads side by side.

    Only queries have a bias: that of W_k adds the same to all scores of a node, which the softmax takes away, and those of W_v and W_s
    add the same to all nodes, which the BatchNorm takes away that COGMEN and CORECT put behind.

    Source: the graph transformer of Shi et al. 2021, https://arxiv.org/abs/2009.03509.
    """

    def __init__(self, inputs: int, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(inputs, heads * dim)
        self.own, self.key, self.value = (nn.Linear(inputs, heads * dim, bias=False) for _ in range(3))

    def forward(self, nodes: Tensor, linked: Tensor) -> Tensor:
        """One step.

        Args:
            nodes: (V, n, D).
            linked: (V, n, n) bool, True where node i reads node j; at least one j for every i.

        Returns:
            (V, n, heads · d)
        """
        query, key, value = (
            layer(nodes).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        weights = scores.masked_fill(~linked.unsqueeze(1), -torch.inf).softmax(-1)
        return self.own(nodes) + (weights @ value).transpose(1, 2).flatten(2)
