"""MMML's way of feeding a head, for benchmarks: full-size encoders with random weights, run on padded batches again and again.

Written from its description: every text padded to 96 tokens, every clip cut or padded to 6 s, batches of 8, attention weights computed
and returned. Speed does not depend on the weights' values.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import transformers
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from data.corpora import read_corpus
from data.media import SAMPLE_RATE_HZ, decode
from data.probe import probe
from pipeline.encoding import checkpoints

TOKENS, SECONDS, BATCH = 96, 6, 8  # MMML's paddings and batch


class Recordings(NamedTuple):
    """Clips with texts, whose sound is read when it is needed."""

    texts: Sequence[str]
    seconds: np.ndarray  # (N,)
    wave: Callable[[int], np.ndarray]  # row → (S,) float32 at 16 kHz


def make_checkpoints(folder: Path, tokenizer: Any = None, text_config: Any = None, audio_config: Any = None) -> dict[str, Path]:
    """Encoders with random weights, as folders that `pipeline.encoding.encoders` loads; of full size unless configurations are given.

    Without a tokenizer, texts are read by the one of MiniLM.
    """
    torch.manual_seed(0)
    tokenizer = tokenizer or transformers.AutoTokenizer.from_pretrained(checkpoints._minilm_folder())
    usual = transformers.RobertaConfig(pad_token_id=tokenizer.pad_token_id, max_position_embeddings=514)
    text = transformers.RobertaModel(text_config or usual)
    audio = transformers.Data2VecAudioModel(audio_config or transformers.Data2VecAudioConfig())
    paths = {"text": folder / "roberta-base", "audio": folder / "data2vec-audio-base"}
    text.save_pretrained(paths["text"])
    tokenizer.save_pretrained(paths["text"])
    audio.save_pretrained(paths["audio"])
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(paths["audio"])
    return paths


def choose_clips(root: Path, count: int) -> tuple[Path, pd.DataFrame]:
    """`count` clips spread over a corpus in MOSI's layout, with their durations."""
    table = read_corpus("mosi", root).utterances
    table = table.iloc[np.linspace(0, len(table) - 1, count).round().astype(int)].reset_index(drop=True)
    return root, table.assign(duration_s=probe(root, table, 2)["duration_s"].to_numpy())


def in_files(root: Path, table: pd.DataFrame) -> Recordings:
    """Clips of a table; each is decoded whenever it is read."""
    paths = [root / media for media in table["media"]]
    return Recordings(table["text"].tolist(), table["duration_s"].to_numpy(), lambda row: decode(paths[row]))


def sentence_case(text: str) -> str:
    """MMML's treatment of a transcript."""
    return text[:1] + text[1:].lower()


def frames(samples: Tensor | int) -> Tensor | int:
    """Frames of Data2Vec for so many samples: a window of 400, every 320."""
    return (samples - 400) // 320 + 1


class Encoders:
    """The untouched models, as any user of transformers has them."""

    def __init__(self, paths: Mapping[str, Path], device: str, attention: str) -> None:
        load = transformers.AutoModel.from_pretrained
        self.text = load(paths["text"], attn_implementation=attention).eval().to(device)
        self.audio = load(paths["audio"], attn_implementation=attention).eval().to(device)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(paths["text"])
        self.extractor = transformers.AutoFeatureExtractor.from_pretrained(paths["audio"])
        self.device = device

    def encode(self, clips: Recordings, rows: Sequence[int]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """{modality: (B, T, D)} and {modality: (B, T)} of clips, from sound to features: T = 96 and 299 for all."""
        texts = [sentence_case(clips.texts[row]) for row in rows]
        tokens = self.tokenizer(texts, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt").to(self.device)
        text = self.text(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
        samples = SECONDS * SAMPLE_RATE_HZ
        waves = [clips.wave(row)[:samples] for row in rows]
        speech = self.extractor(
            waves, sampling_rate=SAMPLE_RATE_HZ, padding="max_length", max_length=samples, truncation=True, return_tensors="pt"
        ).to(self.device)
        audio = self.audio(speech["input_values"], speech["attention_mask"], output_attentions=True).last_hidden_state
        steps = torch.arange(audio.shape[1], device=audio.device)
        masks = {"text": tokens["attention_mask"].bool(), "audio": steps < frames(speech["attention_mask"].sum(1, keepdim=True))}
        return {"text": text, "audio": audio}, masks


def encoder_gflop(paths: Mapping[str, Path], modality: str, lengths: list[int]) -> list[float]:
    """Forward work of an encoder for one utterance of each length, in tokens or samples; counted on shapes alone."""
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(paths[modality])).eval()
    work = []
    for length in lengths:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            if modality == "audio":
                model(torch.empty(1, length, device="meta"))
            else:
                for layer in model.encoder.layer:
                    layer(torch.empty(1, length, model.config.hidden_size, device="meta"))
        work.append(counter.get_total_flops() / 1e9)
    return work
