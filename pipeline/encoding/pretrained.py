"""Opens the parts of a checkpoint with transformers: the only module that calls `from_pretrained`, which a test holds.

Only files of the folder are read, code from it is never run, and a pickle may hold nothing but tensors. What a folder lacks,
transformers fills in: by an empty vocabulary, by default settings. Here such a folder is refused. Which weights a model can do without
is found out in `pipeline.encoding.trial`.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data.errors import InputError, reason, shown
from data.media import SAMPLE_RATE_HZ
from pipeline.encoding.checkpoints import preprocessor_file, weights_file

_SAFE = {"local_files_only": True, "trust_remote_code": False}
_WRAPPERS = {r"^(?:module\.|model\.)+": ""}  # prefixes that DataParallel and Lightning put before the names of weights
_SAMPLE = 100  # fewest words that a tokenizer is tried with, if it has as many
_FEWEST_TOKENS = 0.1
"""Smallest share of the embedding's rows that a vocabulary must fill. Models pad their embedding by a few percent at most; with the
tokenizer of another model most rows may be unused."""


def load_model(folder: Path) -> tuple[Any, list[str]]:
    """Loads a model in float32 on the CPU, in evaluation mode, and returns it with the names of weights that the checkpoint lacks.

    Attention is torch's scaled-dot-product kernel where the architecture has it, else transformers' own.

    Raises:
        InputError: transformers does not know the architecture, or the weights are damaged, hold code or have other shapes.
    """
    import torch

    model, info = _open(
        "AutoModel", folder, dtype=torch.float32, attn_implementation=None, key_mapping=_WRAPPERS, weights_only=True,
        use_safetensors="safetensors" in weights_file(folder), output_loading_info=True,
    )  # fmt: skip
    _expect_sizes(folder, model, info["unexpected_keys"])
    return model.eval().requires_grad_(False), sorted(info["missing_keys"])


def _expect_sizes(folder: Path, model: Any, left: Iterable[str]) -> None:
    """Checks what the shapes of the weights do not show: the number of heads is stated, and no block of the checkpoint is left out."""
    stated, names = json.loads((folder / "config.json").read_text(encoding="utf-8")), model.config.attribute_map
    for name in ("num_attention_heads", "num_hidden_layers"):
        if hasattr(model.config, name) and not {name, names.get(name, name)} & stated.keys():
            raise InputError(f"{folder / 'config.json'}: no {names.get(name, name)}. Download the checkpoint again.")
    own = {_without_numbers(name) for name in model.state_dict()}
    for name in sorted(left):
        if own & {_without_numbers(name), _without_numbers(name.partition(".")[2])}:
            raise InputError(
                f"{folder}: the checkpoint holds {name}, which a model of this config.json does not have: it has more blocks. Give the "
                "config.json of these weights; to use fewer blocks, set layers in luigi.cfg."
            )


def _without_numbers(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def load_tokenizer(folder: Path, rows: int) -> Any:
    """Loads the tokenizer of a model whose embedding has so many rows.

    Raises:
        InputError: The folder lacks files of the tokenizer, the vocabulary is empty, or it does not fit to the embedding.
    """
    try:
        tokenizer = _open("AutoTokenizer", folder)
    except InputError:
        if _has_any(folder, ("tokenizer.json", "*.model")):
            raise
        raise _no_tokenizer(folder, "tokenizer.json or complete vocabulary files") from None
    parts = [name for part, name in tokenizer.vocab_files_names.items() if part in ("vocab_file", "merges_file")]
    if parts and not _has_any(folder, ("tokenizer.json", "*.model")) and not all((folder / name).is_file() for name in parts):
        raise _no_tokenizer(folder, f"tokenizer.json (or {' and '.join(parts)})")
    vocabulary, special = tokenizer.get_vocab(), set(tokenizer.all_special_tokens)
    words = [number for token, number in vocabulary.items() if token not in special]
    if not words:
        raise InputError(f"{folder}: its tokenizer has no vocabulary. Copy the tokenizer's files from the original model.")
    _expect_different_tokens(folder, tokenizer, [token for token in vocabulary if token not in special])
    highest = max(*words, *tokenizer("")["input_ids"])  # special tokens that no text gets, like [MASK], may lie behind the embedding
    if highest >= rows or len(vocabulary) < _FEWEST_TOKENS * rows:
        raise InputError(
            f"{folder}: its tokenizer has {len(vocabulary):,} tokens with ids up to {highest:,}, but the model's embedding has "
            f"{rows:,} rows: it is another model's tokenizer. Copy the tokenizer's files from the original model."
        )
    return tokenizer


def _expect_different_tokens(folder: Path, tokenizer: Any, words: list[str]) -> None:
    """Checks that not all words of the vocabulary get the same ids, as with a vocabulary that the tokenizer cannot use."""
    texts = [tokenizer.convert_tokens_to_string([word]) for word in words[:: max(1, len(words) // _SAMPLE)]]
    if len(words) > 1 and len({tuple(tokenizer(text, verbose=False)["input_ids"]) for text in texts}) < 2:
        raise InputError(
            f"{folder}: its tokenizer gives the same tokens for all words of its vocabulary. Copy the tokenizer's files from the "
            "original model."
        )


def _has_any(folder: Path, patterns: tuple[str, ...]) -> bool:
    return any(next(folder.glob(pattern), None) for pattern in patterns)


def _no_tokenizer(folder: Path, names: str) -> InputError:
    return InputError(
        f"{folder}: no {names}: the tokenizer is missing, and without it all texts look alike. Copy its files from the original model."
    )


def load_extractor(folder: Path) -> Any:
    """Loads the feature extractor of a speech model, which scales its input.

    Raises:
        InputError: The folder has none, or it does not say whether the input is normalised, or the sampling rate is not ours.
    """
    path = preprocessor_file(folder)
    stated = {}
    if path.is_file():
        extractor = _open("AutoFeatureExtractor", folder)
        stated = json.loads(path.read_text(encoding="utf-8"))
        stated = stated.get("feature_extractor", stated)
    if missing := [name for name in ("sampling_rate", "do_normalize") if name not in stated]:
        raise InputError(
            f"{path}: {'states no ' + missing[0] if path.is_file() else 'no such file'}; it says how the waveform is scaled for the "
            "model. Copy it from the original model."
        )
    if not isinstance(stated["do_normalize"], bool):
        raise InputError(f"{path}: do_normalize is {shown(stated['do_normalize'])}, expected true or false.")
    if "input_values" not in extractor.model_input_names:
        raise InputError(
            f"{path}: a {type(extractor).__name__}, which makes {', '.join(extractor.model_input_names)}; expected is one that makes "
            "waveforms (input_values). Copy it from the original model."
        )
    if not isinstance(extractor.sampling_rate, int):
        raise InputError(f"{path}: sampling_rate is {shown(extractor.sampling_rate)}, expected {SAMPLE_RATE_HZ}.")
    if extractor.sampling_rate != SAMPLE_RATE_HZ:
        raise InputError(f"{path}: expects {extractor.sampling_rate} Hz, but the pipeline decodes to {SAMPLE_RATE_HZ} Hz.")
    return extractor


def load_whisper(folder: Path) -> tuple[Any, Any]:
    """Loads a Whisper checkpoint in float32 on the CPU, in evaluation mode: the model and its processor.

    Raises:
        InputError: The folder holds another kind of model, or lacks weights, the tokenizer or the feature extractor.
    """
    import torch

    for name in ("config.json", "generation_config.json", "preprocessor_config.json", weights_file(folder)):
        if not (folder / name).is_file() and not (name.startswith("preprocessor") and preprocessor_file(folder).is_file()):
            raise InputError(f"{folder}: no {name}; the folder of a Whisper checkpoint is expected, complete as the hub has it.")
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{folder / 'config.json'}: not JSON ({reason(error)}). Download the checkpoint again.") from error
    if kind != "whisper":
        raise InputError(f"{folder / 'config.json'}: a model of type {shown(kind)}; a Whisper checkpoint is expected.")
    model, info = _open(
        "WhisperForConditionalGeneration", folder, dtype=torch.float32, weights_only=True,
        use_safetensors="safetensors" in weights_file(folder), output_loading_info=True,
    )  # fmt: skip
    if missing := sorted(set(info["missing_keys"]) - {"proj_out.weight"}):  # tied to the embedding of the decoder
        raise InputError(f"{folder}: the checkpoint lacks weights, {missing[0]} for one. Download it again.")
    processor = _open("WhisperProcessor", folder)
    if len(processor.tokenizer) < 2 or not processor.tokenizer.get_vocab():
        raise _no_tokenizer(folder, "tokenizer.json (or vocab.json and merges.txt)")
    return model.eval().requires_grad_(False), processor


def _open(kind: str, folder: Path, **options: Any) -> Any:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        return getattr(transformers, kind).from_pretrained(folder, **_SAFE, **options)
    except Exception as error:  # a damaged or foreign folder raises any error
        if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
            raise InputError(
                f"{folder / weights_file(folder)}: damaged, or it holds more than tensors. Code in a pickle is never run: use a "
                "checkpoint in the safetensors format."
            ) from error
        if "ignore_mismatched_sizes" in str(error):
            raise InputError(
                f"{folder}: its weights have other shapes than its config.json says. Download the checkpoint again."
            ) from error
        raise InputError(f"{folder}: transformers cannot load this checkpoint ({reason(error)}).") from error
