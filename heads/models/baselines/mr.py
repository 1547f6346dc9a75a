"""Multimodal Routing: Improving Local and Global Interpretability of Multimodal Language Analysis (Tsai et al., EMNLP 2020),
https://arxiv.org/abs/2004.14198, https://github.com/martinmamql/multimodal_routing.

Reproduced: MulT-like stacks for each modality and each ordered pair, a primary capsule for each of them, one iteration of routing to
decision capsules, and decision vectors that begin at zero. Without video the seven primary capsules become three: text, audio, and one
of both. `Aux.routing` holds the contributions p·r of a primary capsule to the decision capsules, under "task/capsule".

Deviations: padding is masked, and the last real step is read. The original classifies sentiment into seven classes; here it is one
decision capsule whose logit is the sentiment, with the loss of the run, which is an extension. With both tasks, each has its own
routing from the same primary capsules.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data.errors import InputError
from data.labels import MOSEI_LABELS, LabelSet
from data.lookup import expect
from data.tensors import Batch
from heads.models.base import Aux, Head, HeadOutput, predictions
from heads.models.baselines._crossmodal import CrossModalStack, StackOptions, TemporalConvolution
from heads.models.inputs import InputOptions
from heads.models.options import dropout_rate
from heads.models.parts.layers import last_step
from heads.models.parts.randomness import Dropout

LEAST_UNIMODAL_LAYERS = 3
"""Minimum number of layers of a unimodal stack; a crossmodal stack may have fewer."""

BIMODAL = ("text", "both")
"""Values of the option `bimodal`."""

Direction = tuple[str, str]
"""(target, source)"""


@dataclass(frozen=True, kw_only=True)
class MROptions(InputOptions):
    """Options of Multimodal Routing. The defaults are those of the authors' code, which has no dropout in its transformers."""

    width: int = 200  # of every modality in the stacks
    layers: int = 7  # of a crossmodal stack; the stack of one modality has at least 3
    heads: int = 20
    causal: bool = True  # hides the future in every stack, crossmodal ones included
    positions: bool = True  # sinusoidal, in every stack
    bimodal: str = "text"  # the capsule of two modalities: text (text reads audio), both (and audio reads text, made one by a Linear)
    pose: int = 64  # width of a capsule
    iterations: int = 1  # of routing
    routing_dropout: float = dropout_rate(0.5)  # of the decision capsules


class Routing(nn.Module):
    """Routing: primary capsules vote for decision capsules; a capsule is routed to the decisions that agree with its votes."""

    def __init__(self, primary: int, decisions: int, pose: int, iterations: int, dropout: float) -> None:
        """Raise InputError when `iterations` is below 1."""
        super().__init__()
        if iterations < 1:
            raise InputError(f"iterations is {iterations}, expected 1 or more.")
        self.iterations = iterations
        self.votes = nn.Parameter(torch.randn(primary, decisions, pose, pose) * (decisions / (pose * primary)) ** 0.5)
        self.decisions = nn.Parameter(torch.zeros(decisions, pose))
        self.dropout = Dropout(dropout)

    def forward(self, poses: Tensor, activations: Tensor) -> tuple[Tensor, Tensor]:
        """Route the primary capsules.

        Args:
            poses: (B, primary, pose).
            activations: (B, primary), 0 to 1.

        Returns:
            (B, decisions) logits, and (B, primary, decisions) contributions: activation × routing coefficient. The coefficients of
            a primary capsule sum to 1.
        """
        votes = torch.einsum("bip,ijpq->bijq", poses, self.votes)
        concepts = self.dropout(votes.sum(1) / votes.shape[2])  # the authors apply dropout to the first concepts, too
        for _ in range(self.iterations):
            agreement = (votes * concepts[:, None]).sum(-1) * votes.shape[-1] ** -0.5
            contributions = activations[..., None] * agreement.softmax(-1)
            concepts = self.dropout((contributions[..., None] * votes).sum(1))
        return (concepts * self.decisions).sum(-1), contributions


class MR(Head):
    """Multimodal Routing: text, audio and their interaction are routed to each label by their agreement with it."""

    Options = MROptions
    takes_more = True

    def __init__(self, options: MROptions, dims: Mapping[str, int], task: str, labels: LabelSet = MOSEI_LABELS) -> None:
        """Raise InputError when text or audio is missing or an option is out of range."""
        super().__init__(dims, task, labels)
        expect(BIMODAL, options.bimodal, "bimodal capsule")
        self.expect_modalities("mr", dims)
        modalities = ("text", "audio", *(modality for modality in dims if modality not in ("text", "audio")))
        self.groups = crossmodal_groups(modalities, options.bimodal)
        self.convolutions = nn.ModuleDict({m: TemporalConvolution(dims[m], options.width, 1) for m in modalities})
        self.unimodal = nn.ModuleDict({m: _stack(options, max(options.layers, LEAST_UNIMODAL_LAYERS)) for m in modalities})
        self.crossmodal = nn.ModuleDict(
            {_name(d): _stack(options, options.layers) for directions in self.groups.values() for d in directions}
        )
        self.joints = nn.ModuleDict(
            {name: nn.Linear(len(group) * options.width, options.width) for name, group in self.groups.items() if len(group) > 1}
        )
        self.primary = nn.ModuleDict({name: nn.Linear(options.width, options.pose + 1) for name in (*modalities, *self.groups)})
        self.routings = nn.ModuleDict(
            {
                task: Routing(len(self.primary), self.widths[task], options.pose, options.iterations, options.routing_dropout)
                for task in self.tasks
            }
        )

    def forward(self, batch: Batch) -> HeadOutput:
        found = self._features(batch)
        capsules = torch.stack([layer(found[name]) for name, layer in self.primary.items()], 1)
        poses, activations = capsules[..., :-1], capsules[..., -1].sigmoid()
        routed = {task: routing(poses, activations) for task, routing in self.routings.items()}
        contributions = {
            f"{task}/{name}": value
            for task, (_, contribution) in routed.items()
            for name, value in zip(self.primary, contribution.unbind(1), strict=True)
        }
        return predictions({task: logits for task, (logits, _) in routed.items()}, Aux(routing=contributions))

    def _features(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the input (B, d) of each primary capsule, by its name."""
        streams = {m: layer(batch.features[m], batch.masks[m]) for m, layer in self.convolutions.items()}
        found = {m: last_step(stack(*streams[m]), streams[m][1]) for m, stack in self.unimodal.items()}
        for name, directions in self.groups.items():
            read = [last_step(self._read(streams, direction), streams[direction[0]][1]) for direction in directions]
            found[name] = self.joints[name](torch.cat(read, -1)) if len(read) > 1 else read[0]
        return found

    def _read(self, streams: Mapping[str, tuple[Tensor, Tensor]], direction: Direction) -> Tensor:
        target, source = direction
        return self.crossmodal[_name(direction)](*streams[target], *streams[source])


def crossmodal_groups(modalities: tuple[str, ...], bimodal: str) -> dict[str, list[Direction]]:
    """List the primary capsules of several modalities, each with the directions (target, source) that it is made of.

    Three modalities give one capsule per pair, for one direction, and one capsule of the three remaining directions. Two modalities
    leave only one direction over: it is left out, or joins the only capsule.

    Args:
        modalities: Names of two or three modalities.
        bimodal: One of `BIMODAL`; with two modalities, "both" adds the remaining direction to the capsule.

    Raises:
        InputError: There are more than three modalities.
    """
    if len(modalities) > 3:
        raise InputError(f"mr routes two or three modalities, got {len(modalities)}: {', '.join(modalities)}.")
    pairs = list(zip(modalities, modalities[1:] + modalities[:1], strict=True))
    if len(modalities) == 2:
        return {"_".join(modalities): pairs if bimodal == "both" else pairs[:1]}
    return {"_".join(pair): [pair] for pair in pairs} | {"_".join(modalities): [(source, target) for target, source in pairs]}


def _name(direction: Direction) -> str:
    return "{}_from_{}".format(*direction)


def _stack(options: MROptions, layers: int) -> CrossModalStack:
    return CrossModalStack(
        options.width, StackOptions(layers=layers, heads=options.heads, causal=options.causal, positions=options.positions)
    )
