"""Inputs of `gpu.py`: encoders with random weights, synthetic clips of MOSI's lengths, and caches of random features."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tiny_checkpoints
import transformers
from gpu_rows import Rows, Setting, figure
from mmml import Recordings, make_checkpoints
from random_cache import write_corpus
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from data.cache import CachedCorpus, open_corpus
from data.media import SAMPLE_RATE_HZ

MOSI = {"train": 1284, "valid": 229, "test": 686}
MOSEI = {"train": 16326, "valid": 1871, "test": 4659}
"""Split → clips of the corpora."""

DIM = 768
SMALL_DIM = 16

SMALL_MODEL: Mapping[str, Any] = {
    "dim": 16,
    "output": [16],
    "fusion": {"layers": 1, "heads": 2, "ffn": 16},
    "mixture": {"blocks": 1, "experts": 3, "top_k": 2, "rank": 2, "task_rank": 2},
}
"""Options that make mmolre small."""

WORDS = 50_261
"""Of the tokenizer: with its four special tokens, as many as RoBERTa has."""


def corpus_folder(setting: Setting) -> Path:
    return setting.folder / "corpus"


def write_corpora(setting: Setting) -> Rows:
    """Writes a cache of random features of MOSI's size."""
    began = time.perf_counter()
    counts = {"train": 16, "valid": 4, "test": 0} if setting.is_small else MOSI
    corpus = write_corpus(corpus_folder(setting), counts, dict.fromkeys(("text", "audio"), SMALL_DIM if setting.is_small else DIM))
    size = sum(path.stat().st_size for path in corpus.features.values()) / 1e9
    yield figure("random features are written", time.perf_counter() - began, "s", f"{sum(counts.values()):,} clips, {size:.2f} GB")


def opened_corpus(setting: Setting) -> CachedCorpus:
    """The corpus, which is written if that part was left out."""
    if not corpus_folder(setting).is_dir():
        list(write_corpora(setting))
    return open_corpus(corpus_folder(setting), "mosi")


def recordings(count: int) -> Recordings:
    """Clips of random words and noise whose pitch and loudness vary as in speech; 1 to 15 s, 4.2 s on average, as in CMU-MOSI."""
    random = np.random.default_rng(0)
    seconds = np.clip(random.gamma(3, 1.4, count), 1, 15)
    texts = [" ".join(f"word{word}" for word in random.integers(60, size=max(2, round(3 * length)))) for length in seconds]
    waves = [_wave(random, round(length * SAMPLE_RATE_HZ)) for length in seconds]
    return Recordings(texts, np.array([len(wave) / SAMPLE_RATE_HZ for wave in waves]), waves.__getitem__)


def _wave(random: np.random.Generator, samples: int) -> np.ndarray:
    """(S,) float32."""
    steps = np.arange(samples, dtype="f4") / SAMPLE_RATE_HZ
    tone = np.sin(2 * np.pi * random.uniform(90, 250) * steps) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * steps))
    return (0.3 * tone + 0.05 * random.standard_normal(samples, "f4")).astype("f4")


def checkpoints(setting: Setting) -> Mapping[str, Path]:
    """Encoders with random weights, of the size of RoBERTa-base and Data2Vec-audio-base or small, and a tokenizer of whole words."""
    folder = setting.folder / "encoders"
    names = ("text", "audio")
    if not folder.is_dir():
        tokenizer = _tokenizer(setting.small_or(60, WORDS))
        sizes: dict[str, Any] = dict(tiny_checkpoints.SIZES) if setting.is_small else {}
        narrow = {"conv_dim": (32,) * 7, "hidden_size": 64, "initializer_range": 0.1} if setting.is_small else {}
        text = transformers.RobertaConfig(
            vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, max_position_embeddings=514, **sizes
        )
        made = make_checkpoints(folder, tokenizer, text, transformers.Data2VecAudioConfig(**(sizes | narrow)))
        (folder / "paths").write_text("\n".join(str(made[name]) for name in names), encoding="utf-8")
    paths = (folder / "paths").read_text(encoding="utf-8").splitlines()
    return dict(zip(names, map(Path, paths), strict=True))


def _tokenizer(words: int) -> Any:
    """A tokenizer of whole words, "word0" and so on, with RoBERTa's special tokens."""
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    vocabulary = {token: number for number, token in enumerate([*special.values(), *(f"word{number}" for number in range(words))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, cls_token="<s>", sep_token="</s>", **special)
