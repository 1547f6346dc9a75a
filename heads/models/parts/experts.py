"""Mixtures of low-rank experts computed in one pass: experts, routers and the selection of the k best. UniTSE is made of these.

An expert is a convolution over time of kernel 3, D → r, and one of kernel 1 (or 3), r → D (MMoLRE, III-B). All experts of a mixture
read the same input and their outputs are added up with weights, so N of them are one product D → Σr, one scaling of each block of
ranks by its gate, and one product Σr → D, which does the adding. The full-rank expert is r = D.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from data.errors import InputError
from data.lookup import expect, lookup
from heads.models.parts.layers import masked_mean, zero_padding
from heads.models.parts.randomness import gaussian_like

ACTIVATIONS = {"none": nn.Identity, "relu": nn.ReLU, "gelu": nn.GELU}


class LowRankExperts(nn.Module):
    """N experts, d → d, of any mix of ranks."""

    def __init__(self, dim: int, ranks: Sequence[int], kernel2: int = 1, activation: str = "none", init_scale: float = 1.0) -> None:
        """Weights start as torch starts a convolution's, each expert by its own fan-in; biases at zero. `init_scale` multiplies the
        second convolution's: at 0 all experts start by adding nothing, as in LoRA (Hu et al. 2021).

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
        self.register_buffer("expert_of_rank", owners, persistent=False)  # (Σr,)
        nn.init.uniform_(self.down, -((3 * dim) ** -0.5), (3 * dim) ** -0.5)
        with torch.no_grad():
            bound = (kernel2 * torch.tensor(ranks).float()).rsqrt()[owners]
            nn.init.uniform_(self.up, -1, 1).mul_(init_scale * bound.repeat(kernel2))

    def hidden(self, seen: Tensor) -> Tensor:
        """(B, T, 3d) of `windows` → (B, T, Σr): the first convolution of every expert, the same for every task: compute it once."""
        return self.activation(functional.linear(seen, self.down, self.down_bias))

    def mix(self, hidden: Tensor, gates: Tensor, mask: Tensor) -> Tensor:
        """The gated sum of the experts' outputs.

        Args:
            hidden: (B, T, Σr) from `hidden`.
            gates: (B, N), one weight an expert; or (B, T, N), one an expert and time step.
            mask: (B, T).

        Returns:
            (B, T, d), zero in the padding.
        """
        if gates.dim() == 2:
            gates = gates.unsqueeze(1)
        scaled = hidden * self._per_rank(gates)
        if self.kernel2 == 3:
            scaled = windows(scaled, mask)
        return zero_padding(functional.linear(scaled, self.up) + gates @ self.up_bias, mask)

    def _per_rank(self, gates: Tensor) -> Tensor:
        """(…, N) → (…, Σr). Repeating is many times as fast as indexing, whose gradient adds up one by one."""
        if len(set(self.ranks)) == 1:
            return gates.repeat_interleave(self.ranks[0], -1)
        return gates[..., self.expert_of_rank]

    def forward(self, inputs: Tensor, gates: Tensor, mask: Tensor) -> Tensor:
        """(B, T, d) → (B, T, d); `gates` and `mask` as in `mix`."""
        return self.mix(self.hidden(windows(inputs, mask)), gates, mask)


def windows(inputs: Tensor, mask: Tensor) -> Tensor:
    """(B, T, d) → (B, T, 3d): each step with the one before and the one after, zeros beyond the ends and for the padding.

    A convolution of kernel 3 is one product with this: measured as fast as torch's convolution at d = 768, and it batches over runs.
    """
    padded = functional.pad(zero_padding(inputs, mask), (0, 0, 1, 1))
    return torch.cat([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], -1)


class Router(nn.Module):
    """Gate logits of one task for N experts, one vector an utterance.

    Kind "B": d → d/4, norm, GELU, d/4 → d/4, mean over time, linear to N. Kind "A": d → d/4, norm, GELU, d/4 → N, mean over time. The
    paper leaves out the projection to N that one of them must have (III-B); B is the one whose parameters match its claim. The norm
    has no weights, for the same reason.
    """

    KINDS = ("B", "A")

    def __init__(self, dim: int, experts: int, kind: str = "B") -> None:
        """Raises InputError when the kind is unknown or `dim` is below 4."""
        super().__init__()
        expect(self.KINDS, kind, "router")
        if dim < 4:
            raise InputError(f"A router needs a width of at least 4, got {dim}.")
        narrow = dim // 4
        first = nn.Linear(dim, narrow), nn.LayerNorm(narrow, elementwise_affine=False), nn.GELU()
        self.steps = nn.Sequential(*first, nn.Linear(narrow, narrow if kind == "B" else experts))
        self.project = nn.Linear(narrow, experts) if kind == "B" else nn.Identity()

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """(B, T, d) → (B, N) logits; padding does not count."""
        return self.project(masked_mean(self.steps(inputs), mask))


class TopK(nn.Module):
    """Softmax over all experts, then zero for all but the k largest gates; ties go to the smaller number.

    Not renormalised by default: Eq. 1 uses the gates as they are. The gradient goes through the kept gates alone.
    """

    def __init__(self, experts: int, k: int, renormalise: bool = False, noise: float = 0.0) -> None:
        """`k` is a buffer, so that the runs of a pack may have different ones. `noise`: sd of what is added to logits in training.

        Raises:
            InputError: Not 1 ≤ k ≤ experts.
        """
        super().__init__()
        if not 1 <= k <= experts:
            raise InputError(f"top_k is {k}, expected 1 to {experts}, the number of experts.")
        self.renormalise, self.noise = renormalise, noise
        self.register_buffer("k", torch.tensor(k), persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        """(…, N) logits → (…, N) gates."""
        if self.training and self.noise:
            logits = logits + self.noise * gaussian_like(logits)
        gates = logits.softmax(-1)
        gates = gates * (ranking(gates) < self.k)
        return gates / gates.sum(-1, keepdim=True) if self.renormalise else gates


def ranking(values: Tensor) -> Tensor:
    """(…, N) → how many values are larger, 0 for the largest; among equals the first is the larger."""
    larger = values.unsqueeze(-2) > values.unsqueeze(-1)
    number = torch.arange(values.shape[-1], device=values.device)
    equal_before = (values.unsqueeze(-2) == values.unsqueeze(-1)) & (number < number[:, None])
    return (larger | equal_before).sum(-1)


def squared_variation(gates: Tensor) -> Tensor:
    """(σ/μ)² of the experts' mean gates (…, N): 0 for equal load, N for one expert alone. Source: MLoRE's load-balancing loss.

    σ is the sample deviation, (Σ(g − μ)² / (N − 1))^½; one expert has none, and gives 0.
    """
    load = gates.flatten(0, -2).mean(0)
    if len(load) == 1:
        return torch.zeros_like(load[0])
    return load.var() / load.mean().square()
