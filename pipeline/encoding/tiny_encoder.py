"""Makes the bundled audio encoder: a small Data2Vec whose weights are seeded and untrained.

A developer runs `python -m pipeline.encoding.tiny_encoder`, a build never does. It writes `data/sample/tiny-data2vec/`, which is in the
repository. The front end has the kernels and strides of facebook/data2vec-audio-base and therefore gives the same number of frames
(96,000 samples: 299). The features follow the signal, but the weights have never been trained on speech.
"""

from pathlib import Path

import torch
import transformers

from data.media import SAMPLE_RATE_HZ
from pipeline.settings import SAMPLE

SEED = 0

SIZES = {
    "conv_dim": (32,) * 7,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "initializer_range": 0.1,  # makes neighbouring frames more alike than the usual 0.02 does: 0.7, not 0.55
}
"""Sizes that differ from the real model. They give 94,592 weights, so that the folder stays below 400 KB."""


def write_tiny_encoder(folder: Path) -> None:
    """Writes `config.json`, `model.safetensors` and `preprocessor_config.json`."""
    torch.manual_seed(SEED)
    model = transformers.Data2VecAudioModel(transformers.Data2VecAudioConfig(**SIZES))
    model.save_pretrained(folder)
    extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=SAMPLE_RATE_HZ, do_normalize=True, return_attention_mask=True)
    extractor.save_pretrained(folder)


if __name__ == "__main__":
    write_tiny_encoder(SAMPLE / "tiny-data2vec")
