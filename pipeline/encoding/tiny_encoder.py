"""Makes the bundled audio encoder: a Data2Vec in miniature, its weights seeded and untrained.

Run by a developer, never by a build: `python -m pipeline.encoding.tiny_encoder` writes `data/sample/tiny-data2vec/`, which is in the
repository. Its front end has the kernels and strides of facebook/data2vec-audio-base and so makes as many frames of a clip
(96,000 samples: 299). Its features follow the signal, but nobody taught them what speech is.
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
    "initializer_range": 0.1,  # features of neighbouring frames are then more alike than at the usual 0.02: 0.7, not 0.55
}
"""What differs from the real model; 94,592 weights, so that the folder stays below 400 KB."""


def write_tiny_encoder(folder: Path) -> None:
    """Writes `config.json`, `model.safetensors` and `preprocessor_config.json`."""
    torch.manual_seed(SEED)
    model = transformers.Data2VecAudioModel(transformers.Data2VecAudioConfig(**SIZES))
    model.save_pretrained(folder)
    extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=SAMPLE_RATE_HZ, do_normalize=True, return_attention_mask=True)
    extractor.save_pretrained(folder)


if __name__ == "__main__":
    write_tiny_encoder(SAMPLE / "tiny-data2vec")
