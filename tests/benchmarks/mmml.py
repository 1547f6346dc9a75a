"""MMML's way of feeding a head, for benchmarks: full-size encoders with random weights, run on padded batches again and again.

Written from its description: every text padded to 96 tokens, every clip cut or padded to 6 s, batches of 8, attention weights computed
and returned. Speed does not depend on the weights' values.
"""

from collections.abc import Mapping
from pathlib import Path

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


def make_checkpoints(folder: Path) -> dict[str, Path]:
    """Full-size encoders with random weights, as folders that `pipeline.encoding.encoders` loads."""
    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoints._minilm_folder())
    text = transformers.RobertaModel(transformers.RobertaConfig(pad_token_id=tokenizer.pad_token_id, max_position_embeddings=514))
    audio = transformers.Data2VecAudioModel(transformers.Data2VecAudioConfig())
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

    def encode(self, root: Path, batch: pd.DataFrame) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """{modality: (B, T, 768)} and {modality: (B, T)} of clips, from files to features: T = 96 and 299 for all."""
        (text, text_mask), (audio, audio_mask) = self.encode_texts(batch), self.encode_speech(root, batch)
        return {"text": text, "audio": audio}, {"text": text_mask, "audio": audio_mask}

    def encode_texts(self, batch: pd.DataFrame) -> tuple[Tensor, Tensor]:
        """(B, 96, 768) features and (B, 96) mask of the transcripts."""
        texts = [sentence_case(text) for text in batch["text"]]
        tokens = self.tokenizer(texts, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt").to(self.device)
        text = self.text(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
        return text, tokens["attention_mask"].bool()

    def encode_speech(self, root: Path, batch: pd.DataFrame) -> tuple[Tensor, Tensor]:
        """(B, 299, 768) features and (B, 299) mask of the clips' first six seconds."""
        samples = SECONDS * SAMPLE_RATE_HZ
        waves = [decode(root / media)[:samples] for media in batch["media"]]
        speech = self.extractor(
            waves, sampling_rate=SAMPLE_RATE_HZ, padding="max_length", max_length=samples, truncation=True, return_tensors="pt"
        ).to(self.device)
        audio = self.audio(speech["input_values"], speech["attention_mask"], output_attentions=True).last_hidden_state
        steps = torch.arange(audio.shape[1], device=audio.device)
        return audio, steps < frames(speech["attention_mask"].sum(1, keepdim=True))


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
