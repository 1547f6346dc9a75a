"""Low-rank experts computed in one pass, their routers, and the selection of the k largest gates: parts of UniTSE and other mixtures.

An expert is a convolution over time of kernel 3, D → r, followed by one of kernel 1 (or 3), r → D (MMoLRE, III-B). All experts of a
mixture read the same input, and their outputs are summed with weights. N experts are therefore one product D → Σr, a scaling of each
expert's ranks by its gate, and one product Σr → D, which also does the summing. A full-rank expert has r = D.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.errors import InputError
from data.lookup import expect, lookup
from heads.models.parts.joint import linear
from heads.models.parts.layers import masked_mean, zero_padding
from heads.models.parts.randomness import gaussian_like

ACTIVATIONS = {"none": nn.Identity, "relu": nn.ReLU, "gelu": nn.GELU}


class LowRankExperts(nn.Module):
    """N experts, d → d, which may have different ranks."""

    expert_of_rank: Tensor  # (Σr,)

    def __init__(self, dim: int, ranks: Sequence[int], kernel2: int = 1, activation: str = "none", init_scale: float = 1.0) -> None:
        """Initialise weights as torch initialises a convolution, each expert by its own fan-in, and biases with zeros.

        Args:
            dim: d.
            ranks: One rank per expert.
            kernel2: Kernel of the second convolution, 1 or 3.
            activation: Between the convolutions, a key of `ACTIVATIONS`.
            init_scale: Factor of the second convolution's initial weights. At 0 all experts start by adding nothing, as in LoRA
                (Hu et al. 2021).

        Raises:
            InputError: A rank is below 1, `kernel2` is not 1 or 3, or the activation is unknown.
        """
        super().__init__()
        if not ranks or min(ranks) < 1:
            raise InputError(f"Ranks of experts are {list(ranks)}; expected one or more whole numbers ≥ 1.")
        if kernel2 not in (1, 3):
            raise InputError(f"kernel2 is {kernel2}, expected 1 or 3.")
        self.ranks, self.kernel2 = tuple(ranks), kernel2
        total = sum(ranks)
        self.down = nn.Parameter(torch.empty(total, 3 * dim))  # columns: step before, this step, step after
        self.down_bias = nn.Parameter(torch.zeros(total))
        self.up = nn.Parameter(torch.empty(dim, kernel2 * total))
        self.up_bias = nn.Parameter(torch.zeros(len(ranks), dim))
        self.activation = lookup(ACTIVATIONS, activation, "activation")()
        owners = torch.repeat_interleave(torch.arange(len(ranks)), torch.tensor(ranks), output_size=total)
        self.register_buffer("expert_of_rank", owners, persistent=False)
        nn.init.uniform_(self.down, -((3 * dim) ** -0.5), (3 * dim) ** -0.5)
        with torch.no_grad():
            bound = (kernel2 * torch.tensor(ranks).float()).rsqrt()[owners]
            nn.init.uniform_(self.up, -1, 1).mul_(init_scale * bound.repeat(kernel2))

    def hidden(self, seen: Tensor) -> Tensor:
        """Apply the first convolution of all experts: (B, T, 3d) from `windows` → (B, T, Σr). It is the same for all tasks."""
        return self.activation(linear(seen, self.down, self.down_bias))

    def mix(self, hidden: Tensor, gates: Tensor | None, mask: Tensor) -> Tensor:
        """Sum the experts' outputs as `weighted` does, with zeros in the padding."""
        return zero_padding(self.weighted(hidden, gates, mask), mask)

    def weighted(self, hidden: Tensor, gates: Tensor | None, mask: Tensor) -> Tensor:
        """Sum the experts' outputs, weighted by their gates.

        Args:
            hidden: (B, T, Σr) from `hidden`.
            gates: (B, N), one weight per expert; or (B, T, N), one per expert and time step; None: 1 each.
            mask: (B, T).

        Returns:
            (B, T, d), anything in the padding.
        """
        if gates is None:
            bias = self.up_bias.sum(-2) if len(self.ranks) > 1 else self.up_bias.squeeze(-2)
            return linear(windows(hidden, mask) if self.kernel2 == 3 else hidden, self.up, bias)
        if gates.dim() < hidden.dim():
            gates = gates.unsqueeze(-2)
        scaled = self._scaled(hidden, gates)
        if self.kernel2 == 3:
            scaled = windows(scaled, mask)
        return linear(scaled, self.up) + gates @ self.up_bias

    def _scaled(self, hidden: Tensor, gates: Tensor) -> Tensor:
        """Multiply the ranks of each expert by its gate: hidden (B, T, Σr), gates (B, 1 or T, N) → (B, T, Σr)."""
        # many times as fast as indexing, whose gradient is summed element by element
        if len(set(self.ranks)) == 1:
            return (hidden.unflatten(-1, (len(self.ranks), -1)) * gates.unsqueeze(-1)).flatten(-2)
        return hidden * gates[..., self.expert_of_rank]

    def forward(self, inputs: Tensor, gates: Tensor, mask: Tensor) -> Tensor:
        """Apply all experts, (B, T, d) → (B, T, d); `gates` and `mask` are those of `mix`."""
        return self.mix(self.hidden(windows(inputs, mask)), gates, mask)


def windows(inputs: Tensor, mask: Tensor | None) -> Tensor:
    """Concatenate each step with its neighbours, (B, T, d) → (B, T, 3d): step before, step, step after; zeros beyond ends and padding.

    Without a mask the padding has to be zero.

    A convolution of kernel 3 is one matrix product with the result. At d = 768 this was measured to be as fast as torch's convolution,
    and `torch.func.vmap` can batch it over runs.
    """
    real = inputs.view_as(inputs) if mask is None else zero_padding(inputs, mask)  # a view sums its gradients first, as masking does
    return torch.cat([functional.pad(real, (0, 0, 1, -1)), real, functional.pad(real, (0, 0, -1, 1))], -1)


class Router(nn.Module):
    """Router: gate logits of one task for N experts, one vector per utterance.

    Kind "B": d → d/4, norm, GELU, d/4 → d/4, mean over time, linear to N. Kind "A": d → d/4, norm, GELU, d/4 → N, mean over time. The
    paper (III-B) does not say where the projection to N stands. The number of parameters that it claims fits kind B, and a norm without
    weights.
    """

    KINDS = ("B", "A")

    def __init__(self, dim: int, experts: int, kind: str = "B") -> None:
        """Raise InputError when the kind is unknown or `dim` is below 4."""
        super().__init__()
        expect(self.KINDS, kind, "router")
        if dim < 4:
            raise InputError(f"A router needs a width of at least 4, got {dim}.")
        narrow = dim // 4
        first = nn.Linear(dim, narrow), nn.LayerNorm(narrow, elementwise_affine=False), nn.GELU()
        self.steps = nn.Sequential(*first, nn.Linear(narrow, narrow if kind == "B" else experts))
        self.project = nn.Linear(narrow, experts) if kind == "B" else nn.Identity()

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Compute gate logits, (B, T, d) → (B, N); padding does not count."""
        return self.project(masked_mean(self.steps(inputs), mask))


class TopK(nn.Module):
    """Gates: a softmax over all experts in which only the k largest are kept; of equal gates the one with the smaller index is kept.

    The kept gates are not renormalised by default, as in Eq. 1. Only kept gates get a gradient.
    """

    k: Tensor  # int64, no dimensions

    def __init__(self, experts: int, k: int, renormalise: bool = False, noise: float = 0.0) -> None:
        """Store `k` as a buffer, so that runs of a pack (trained together) may differ in it.

        Args:
            experts: N.
            k: Number of gates to keep.
            renormalise: True divides the kept gates by their sum.
            noise: Standard deviation of the normal numbers that are added to the logits in training.

        Raises:
            InputError: Not 1 ≤ k ≤ experts.
        """
        super().__init__()
        if not 1 <= k <= experts:
            raise InputError(f"top_k is {k}, expected 1 to {experts}, the number of experts.")
        self.renormalise, self.noise = renormalise, noise
        self.register_buffer("k", torch.tensor(k), persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        """Turn (…, N) logits into (…, N) gates."""
        if self.training and self.noise:
            logits = logits + self.noise * gaussian_like(logits)
        gates = logits.softmax(-1)
        gates = gates * (ranking(gates) < self.k)
        return gates / gates.sum(-1, keepdim=True) if self.renormalise else gates


def ranking(values: Tensor) -> Tensor:
    """Rank the values (…, N) along the last dimension: 0 for the largest; of equal values the first ranks higher."""
    other, own = values.unsqueeze(-2), values.unsqueeze(-1)
    return torch.where(_comes_before(values.shape[-1], values.device), other >= own, other > own).sum(-1)


@functools.cache
def _comes_before(count: int, device: torch.device) -> Tensor:
    """Return (count, count) bool, True where the number of the column is below that of the row."""
    number = torch.arange(count, device=device)
    return number < number[:, None]


def squared_variation(gates: Tensor) -> Tensor:
    """Compute (σ/μ)² of the experts' mean gates, given gates (…, N): 0 for equal load, N if one expert has all the load.

    σ is the sample deviation, (Σ(g − μ)² / (N − 1))^½. A single expert has no deviation and gives 0.

    Source: MLoRE's load-balancing loss.
    """
    load = gates.flatten(0, -2).mean(0)
    if len(load) == 1:
        return torch.zeros_like(load[0])
    return load.var() / load.mean().square()
