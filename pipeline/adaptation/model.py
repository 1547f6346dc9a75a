"""The model that learns: an encoder, the mean over an utterance's own rows, and one linear layer per task; and its losses."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from data.errors import InputError
from data.labels import MOSEI_LABELS, LabelSet
from pipeline.adaptation.recipe import Recipe
from pipeline.encoding.encoder import Prepared


class TaskModel:
    """An encoder of text or of speech, loaded as trainable, with the linear layers of its tasks.

    What the configuration says while it learns is not saved: `merged` puts back the one of the base.

    Args:
        encoder: Its model is changed in place: weights that do not learn lose their gradients, and with LoRA it gets adapters.
        recipe: The method and the tasks. The caller seeds torch before.
        labels: What the clips are labelled with.
    """

    def __init__(self, encoder: Any, recipe: Recipe, labels: LabelSet = MOSEI_LABELS) -> None:
        self.encoder, self.recipe, self.labels = encoder, recipe, labels
        self._peft: Any = None
        self._config = copy.deepcopy(encoder.model.config)
        _prepare(encoder, recipe)
        if recipe.settings.method == "lora":
            self._peft = _with_adapters(encoder.model, recipe)
        self.heads = nn.ModuleDict({task: nn.Linear(encoder.dim, labels.widths[task]) for task in recipe.tasks}).to(encoder.device)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yields the parameters that learn, in a fixed order."""
        yield from ((f"encoder.{name}", one) for name, one in self.encoder.model.named_parameters() if one.requires_grad)
        yield from ((f"heads.{name}", one) for name, one in self.heads.named_parameters())

    def state(self) -> dict[str, Tensor]:
        """Returns copies of the parameters that learn, on the CPU."""
        return {name: one.detach().to("cpu", copy=True) for name, one in self.named_parameters()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Sets the parameters that learn to what `state` returned."""
        with torch.no_grad():
            for name, one in self.named_parameters():
                one.copy_(state[name])

    def train(self, learns: bool = True) -> None:
        """Switches dropout on or off."""
        self.encoder.model.train(learns)
        self.heads.train(learns)

    def predict(self, batch: Sequence[Prepared], precision: str) -> dict[str, Tensor]:
        """Computes {"msa": sentiments (B,), "mer": logits (B, C)} in float32; the encoder in `precision` by autocast."""
        kind = torch.device(self.encoder.device).type
        with torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16"):
            hidden, own = self.encoder.states(batch)
        weights = own[:, :, None].float()
        pooled = (hidden.float() * weights).sum(1) / weights.sum(1)
        found = {task: layer(pooled) for task, layer in self.heads.items()}
        return {task: values[:, 0] if task == "msa" else values for task, values in found.items()}

    def merged(self) -> dict[str, Tensor]:
        """Returns the weights of the encoder as its checkpoint names them, adapters merged; the model can learn no more."""
        if self._peft is not None:
            self.encoder.model, self._peft = self._peft.merge_and_unload(), None
        self.encoder.model.config = self._config
        return self.encoder.model.state_dict()


def row_losses(outputs: Mapping[str, Tensor], sentiment: Tensor, emotions: Tensor, has_classes: bool = False) -> dict[str, Tensor]:
    """Computes the loss of each clip, task → (B,): L1 of the sentiment; mean binary cross-entropy of the emotions, or cross-entropy of
    classes. 0 if unlabelled.

    Source: Eq. 5 of MMoLRE, and Eq. 6 with the term for absent emotions, as heads have them.
    """
    losses = {}
    if "msa" in outputs:
        labelled = ~sentiment.isnan()
        losses["msa"] = torch.where(labelled, (outputs["msa"] - torch.where(labelled, sentiment, 0)).abs(), 0)
    if "mer" in outputs:
        labelled = ~emotions.isnan().any(-1)
        truth = torch.where(labelled[:, None], emotions, 0)
        if has_classes:
            each = -(truth * functional.log_softmax(outputs["mer"], -1)).sum(-1)
        else:
            each = functional.binary_cross_entropy_with_logits(outputs["mer"], truth, reduction="none").mean(-1)
        losses["mer"] = torch.where(labelled, each, 0)
    return losses


def _prepare(encoder: Any, recipe: Recipe) -> None:
    model = encoder.model
    model.requires_grad_(recipe.settings.method == "full")
    if recipe.settings.method == "last_n":
        for block in _blocks(encoder)[-recipe.settings.last_blocks :]:
            block.requires_grad_(True)
    if recipe.modality == "audio":
        model.feature_extractor.requires_grad_(False)
        # SpecAugment would refuse clips that are shorter than one of its masks, and its vector may be missing in the checkpoint.
        model.config.apply_spec_augment = False
    if recipe.settings.gradient_checkpointing:
        if not model.supports_gradient_checkpointing:
            raise InputError(
                f"{encoder.source.folder}: a {model.config.model_type} model has no gradient checkpointing. Set"
                " gradient_checkpointing = false in luigi.cfg, section [adapt]."
            )
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable  # its older name
        enable({"use_reentrant": False})


def _blocks(encoder: Any) -> nn.ModuleList:
    count, wanted = encoder.config.num_hidden_layers, encoder.model.config.model_type
    found = [part for part in encoder.model.modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    if not found:
        raise InputError(
            f"{encoder.source.folder}: a {wanted} model has no list of {count} blocks. Set method = full or lora in luigi.cfg, [adapt]."
        )
    return found[0]


def _with_adapters(model: Any, recipe: Recipe) -> Any:
    from peft.tuners.lora import LoraConfig, LoraModel  # takes a second to import

    settings = recipe.settings
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        fan_in_fan_out=any(isinstance(part, Conv1D) for part in model.modules()),  # GPT-2 keeps its weights transposed
    )
    return LoraModel(model, config, "default")
