"""Encoders of text: features of tokens, or one sentence embedding. torch is imported on use, as in `pipeline.encoding.encoder`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from data.errors import InputError
from pipeline.encoding import pretrained, trial
from pipeline.encoding.checkpoints import Source, pooling
from pipeline.encoding.context import pair_layout, text_inputs
from pipeline.encoding.encoder import BaseEncoder, Prepared
from pipeline.settings import EncoderSettings

if TYPE_CHECKING:
    import torch

_RELATIVE_TYPES = "xlnet"
"""The text architecture that compares the types of two tokens, so that its config.json states no number of types."""


class TextEncoder(BaseEncoder):
    """Token features (T, D) of a text, special tokens included."""

    reads, expects = "input_ids", "an encoder of texts, like BERT or RoBERTa"

    def __init__(self, source: Source, settings: EncoderSettings, device: str, precision: str, trainable: bool = False) -> None:
        self.context = settings.context
        super().__init__(source, settings, device, precision, trainable)
        positions = self._trial.positions or sys.maxsize
        self.max_tokens = min(settings.max_tokens or positions, positions)
        self.case = settings.case
        self.budget = 1024 if device == "cpu" else 32768  # on two cores, larger batches fall out of the cache
        if not self._trial.batches_exactly:
            self.budget = 0

    def _prepare_inputs(self) -> None:
        self._rows = self.model.get_input_embeddings().weight.shape[0]
        self.tokenizer = pretrained.load_tokenizer(self.source.folder, self._rows)
        padding = (self.tokenizer.pad_token_id, self.config.pad_token_id, 0)
        self._padding_id = next(token for token in padding if token is not None and 0 <= token < self._rows)
        self._has_types = False
        if self.context:
            self._layout = pair_layout(self.tokenizer, str(self.source.folder))
            self._has_types = self._takes_types()

    def _takes_types(self) -> bool:
        """Tells whether the model distinguishes the two texts of a pair by token types.

        It then gets the tokenizer's types for every text, also for one that has no context. Without the setting no text has types: to
        BERT this is the same as types 0, to XLNet it is not.
        """
        if "token_type_ids" not in inspect.signature(self.model.forward).parameters:
            return False
        if self.config.model_type == _RELATIVE_TYPES:
            return True
        pair = self.tokenizer("a", "a", return_token_type_ids=True)
        return max(pair["token_type_ids"]) < getattr(self.config, "type_vocab_size", 0)

    def _try(self) -> None:
        self._trial = trial.try_text(self.source.folder, self.model, self._tried)
        self.dim = self._trial.width

    def _tried(self, ids: list[list[int]]) -> torch.Tensor:
        hidden, output = self._run([self._prepared(np.asarray(one), False) for one in ids])
        trial.expect_rows(self.source.folder, self.model, hidden.shape, len(ids[-1]))
        trial.expect_finite(self.source.folder, hidden[-1], self.erased)
        self._expect_pooler(output)
        return hidden

    def _expect_pooler(self, output: Any) -> None:
        """Checks that the output has what the pooling needs; for token features nothing."""

    def prepare(self, text: str, context: Sequence[str] = ()) -> Prepared:
        """Tokenises a text, with the texts before it where the setting `context` is not 0.

        A text longer than `max_tokens` is cut and marked as truncated; see `pipeline.encoding.context` for its context.
        """
        text = self._cased(text)
        if self.context:
            return self._prepared_in_context(text, [self._cased(one) for one in context])
        ids = self.tokenizer(text, verbose=False)["input_ids"]
        truncated = len(ids) > self.max_tokens
        if truncated:
            ids = self.tokenizer(text, truncation=True, max_length=self.max_tokens)["input_ids"]
        self._expect_tokens(ids)
        return self._prepared(np.asarray(ids, dtype=np.int64), truncated)

    def _cased(self, text: str) -> str:
        if self.case == "lower":
            return text.lower()
        return text[:1] + text[1:].lower() if self.case == "sentence" else text

    def _expect_tokens(self, ids: Sequence[int]) -> None:
        if not ids:
            raise InputError(f"the tokenizer of {self.source.name} makes no token of this text")
        if max(ids) >= self._rows:
            token = self.tokenizer.convert_ids_to_tokens(max(ids))
            raise InputError(f"the text holds the token {token!r}, for which the embedding of {self.source.name} has no row")

    def _prepared_in_context(self, text: str, context: Sequence[str]) -> Prepared:
        made = text_inputs(self.tokenizer, self._layout, text, context, self.max_tokens)
        self._expect_tokens(made.ids.tolist() if len(made.own) else [])
        types = made.types if self._has_types else None
        return Prepared(made.ids, len(made.own), len(made.ids), made.is_cut, made.own, types, made.is_context_cut)

    def _prepared(self, ids: np.ndarray, truncated: bool) -> Prepared:
        return Prepared(ids, len(ids), len(ids), truncated)

    def encode(self, batch: Sequence[Prepared]) -> list[np.ndarray]:
        """Computes the features of each utterance, (T, D) float32."""
        import torch

        if self._runs_alone(batch):
            return [rows for item in batch for rows in self.encode([item])]
        with torch.inference_mode():
            hidden, _ = self._run(batch)
            hidden = hidden.float().cpu().numpy()
        return [item.own_rows(rows) for item, rows in zip(batch, hidden, strict=True)]

    def _runs_alone(self, batch: Sequence[Prepared]) -> bool:
        """Tells whether each text of a batch has to run by itself, because padding would change its features."""
        return len(batch) > 1 and not self._trial.batches_exactly

    def _states(self, batch: Sequence[Prepared]) -> torch.Tensor:
        return self._run(batch)[0]

    def _run(self, batch: Sequence[Prepared]) -> Any:
        import torch

        longest = max(len(item.values) for item in batch)
        ids = np.full((len(batch), longest), self._padding_id, dtype=np.int64)
        mask = np.zeros((len(batch), longest), dtype=np.int64)
        for row, item in enumerate(batch):
            ids[row, : len(item.values)] = item.values
            mask[row, : len(item.values)] = 1
        self._mask = torch.from_numpy(mask).to(self.device)
        inputs = {"input_ids": torch.from_numpy(ids).to(self.device), "attention_mask": self._mask}
        if self._has_types:
            inputs["token_type_ids"] = torch.from_numpy(self._types(batch, longest)).to(self.device)
        return self._hidden(self.model, **inputs)

    def _types(self, batch: Sequence[Prepared], longest: int) -> np.ndarray:
        types = np.zeros((len(batch), longest), dtype=np.int64)
        for row, item in enumerate(batch):
            if item.types is not None:
                types[row, : len(item.types)] = item.types
        return types


class SentenceEncoder(TextEncoder):
    """One embedding (1, D) of a text."""

    def __init__(self, source: Source, settings: EncoderSettings, device: str, precision: str, trainable: bool = False) -> None:
        self.pooling = pooling(settings, source)
        super().__init__(source, replace(settings, context=0), device, precision, trainable)

    def _expect_pooler(self, output: Any) -> None:
        if self.pooling != "pooler":
            return
        if getattr(output, "pooler_output", None) is None:
            kind = self.config.model_type
            raise InputError(f"{self.source.folder}: a {kind} model has no pooler. Set pooling = mean or cls in luigi.cfg, [sentence].")
        trial.expect_finite(self.source.folder, output.pooler_output, self.erased, ", or another pooling")

    def _prepared(self, ids: np.ndarray, truncated: bool) -> Prepared:
        return Prepared(ids, 1, len(ids), truncated)

    def encode(self, batch: Sequence[Prepared]) -> list[np.ndarray]:
        """Computes the embedding of each utterance, (1, D) float32."""
        import torch

        if self._runs_alone(batch):
            return [rows for item in batch for rows in self.encode([item])]
        with torch.inference_mode():
            hidden, output = self._run(batch)
            if self.pooling == "mean":
                weights = self._mask[:, :, None].float()
                pooled = (hidden.float() * weights).sum(1) / weights.sum(1)
            else:
                pooled = hidden[:, 0] if self.pooling == "cls" else output.pooler_output
            return list(pooled.float().cpu().numpy()[:, None, :])
