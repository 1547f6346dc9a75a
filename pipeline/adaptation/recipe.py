"""The recipe of an adaptation: the settings of section [adapt] for one modality, with their defaults filled in.

Sources of the defaults. Text: chosen on CMU-MOSI's validation split with all-mpnet-base-v2 (L1 loss, mean pooling, one linear layer).
Audio: MMML (https://github.com/zehuiwu/MMML) and MMoLRE (arXiv 2505.14143): learning rate 1e-5, batches of 8, 6 s of each clip,
patience of 8 epochs, a front end that does not learn. LoRA: ten times the learning rate, because its matrices start at zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.settings import ADAPT_TASKS, AdaptSettings

REVISION = 1
"""Revision of the computations, part of every key. Increase it when the same recipe and clips give other weights."""

_DEFAULTS: Mapping[str, Mapping[str, float]] = {
    "text": {"lr": 3e-5, "epochs": 5, "patience": 3, "batch_size": 16},
    "audio": {"lr": 1e-5, "epochs": 20, "patience": 8, "batch_size": 8},
}
_LORA_FACTOR = 10
_OF_METHOD = {"full": (), "last_n": ("last_blocks",), "lora": ("lora_rank", "lora_alpha", "lora_dropout")}
_OF_MODALITY = {"text": ("batch_tokens",), "audio": ("batch_seconds", "max_seconds")}
_COMMON = (
    "method", "epochs", "patience", "batch_size", "accumulation", "lr", "weight_decay", "warmup", "clip_norm", "seed", "precision",
    "gradient_checkpointing",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """The recipe by which the encoder of one modality learns. `settings` has no default left in it."""

    modality: str
    settings: AdaptSettings

    @classmethod
    def of(cls, settings: AdaptSettings, modality: str) -> Recipe:
        """Fills in the defaults of a modality."""
        defaults = dict(_DEFAULTS[modality])
        if settings.method == "lora":
            defaults["lr"] *= _LORA_FACTOR
        given = {name: getattr(settings, name) or default for name, default in defaults.items()}
        return cls(modality, AdaptSettings(**{**vars(settings), **given}))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the encoder learns: "msa" (sentiment), "mer" (emotions) or both."""
        return ADAPT_TASKS[self.settings.tasks]

    @property
    def step_size(self) -> int:
        """Clips of an optimiser step."""
        return self.settings.batch_size * self.settings.accumulation

    def parts(self) -> dict[str, Any]:
        """Returns exactly the settings that determine the weights, JSON-able."""
        names = (*_COMMON, *_OF_METHOD[self.settings.method], *_OF_MODALITY[self.modality])
        return {"tasks": self.settings.tasks} | {name: getattr(self.settings, name) for name in names}


def lr_factor(step: int, steps: int, warmup: float) -> float:
    """Returns the share of the learning rate at a step from 0: a linear warm-up, then a linear decay to 0.

    Source: `get_linear_schedule_with_warmup` of transformers.
    """
    rising = round(warmup * steps)
    if step < rising:
        return step / rising
    return max(0.0, (steps - step) / max(1, steps - rising))
