"""Checkpoints of real architectures in miniature: hidden size 32, two layers, random weights, saved as a user's folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from data.media import SAMPLE_RATE_HZ
from pipeline.encoding.checkpoints import Source

WORDS = [f"word{number}" for number in range(60)]
POSITIONS = 40
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_SPECIAL = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
_VOCABULARY = {token: number for number, token in enumerate([*_SPECIAL.values(), *WORDS])}
_TEXT = {"vocab_size": len(_VOCABULARY), "max_position_embeddings": POSITIONS, "pad_token_id": 0}
_GROUPS = {"num_conv_pos_embedding_groups": 4}
_BERT = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
_ROBERTA = ("[CLS] $A [SEP]", "[CLS] $A [SEP] [SEP] $B [SEP]")
_OF_WHISPER = ("endoftext", "startoftranscript", "en", "de", "translate", "transcribe", "nospeech", "notimestamps")
_TEMPLATES = {
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "mpnet": _ROBERTA,
    "xlnet": ("$A [SEP] [CLS]:2", "$A [SEP] $B:1 [SEP]:1 [CLS]:2"),
}
"""Architecture → its encoding of a text and of a pair, as transformers' own tokenizers have it; all others have BERT's."""

TEXT: Mapping[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**SIZES, **_TEXT),
    "roberta": lambda: transformers.RobertaConfig(**SIZES, **_TEXT | {"pad_token_id": 1}),
    "distilbert": lambda: transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, **_TEXT),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**SIZES, **_TEXT | {"pad_token_id": 1}),
    "electra": lambda: transformers.ElectraConfig(embedding_size=16, **SIZES, **_TEXT),
    "albert": lambda: transformers.AlbertConfig(embedding_size=16, **SIZES, **_TEXT),
    "modernbert": lambda: transformers.ModernBertConfig(
        **SIZES, **_TEXT, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2, local_attention=8
    ),
    "deberta-v2": lambda: transformers.DebertaV2Config(
        **SIZES, **_TEXT, relative_attention=True, position_biased_input=False, pos_att_type=["p2c", "c2p"], position_buckets=8,
        share_att_key=True, norm_rel_ebd="layer_norm", conv_kernel_size=3, conv_act="gelu",
    ),
    "mpnet": lambda: transformers.MPNetConfig(**SIZES, **_TEXT | {"pad_token_id": 1}),
    "xlnet": lambda: transformers.XLNetConfig(vocab_size=len(_VOCABULARY), d_model=32, n_layer=2, n_head=2, d_inner=64),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=len(_VOCABULARY), n_embd=32, n_layer=2, n_head=2, n_positions=POSITIONS),
    "roformer": lambda: transformers.RoFormerConfig(**SIZES, **_TEXT),
    "ibert": lambda: transformers.IBertConfig(**SIZES, **_TEXT | {"pad_token_id": 1}),
    "fnet": lambda: transformers.FNetConfig(
        vocab_size=len(_VOCABULARY), hidden_size=32, num_hidden_layers=2, intermediate_size=64, max_position_embeddings=POSITIONS
    ),
    "convbert": lambda: transformers.ConvBertConfig(embedding_size=32, **SIZES, **_TEXT),
}  # fmt: skip
"""Text architectures. Attention in the last two mixes padding into the words beside it, so they cannot be batched."""

AUDIO: Mapping[str, Callable[[], Any]] = {
    "data2vec-audio": lambda: transformers.Data2VecAudioConfig(
        **SIZES | {"hidden_size": 64}, conv_dim=(32,) * 7, initializer_range=0.1
    ),
    "wav2vec2-group-norm": lambda: transformers.Wav2Vec2Config(**SIZES, **_GROUPS, conv_dim=(16,) * 7),
    "wav2vec2-layer-norm": lambda: transformers.Wav2Vec2Config(
        **SIZES, **_GROUPS, conv_dim=(16,) * 7, feat_extract_norm="layer", do_stable_layer_norm=True
    ),
    "hubert": lambda: transformers.HubertConfig(**SIZES, **_GROUPS, conv_dim=(16,) * 7),
    "wavlm": lambda: transformers.WavLMConfig(**SIZES, **_GROUPS, conv_dim=(16,) * 7),
    "unispeech-sat": lambda: transformers.UniSpeechSatConfig(**SIZES, **_GROUPS, conv_dim=(16,) * 7),
    "sew": lambda: transformers.SEWConfig(**SIZES, **_GROUPS, conv_dim=(16,) * 13),
}
"""Speech architectures. Data2Vec is wider than the others: with fewer channels its layer norms amplify rounding so much that
transformers' own float32 is 1.4e-5 off its float64."""


def write_text_checkpoint(folder: Path, architecture: str) -> Source:
    """Writes a text encoder with a tokenizer of whole words."""
    source = write_model(folder, TEXT[architecture]())
    write_tokenizer(folder, *_TEMPLATES.get(architecture, _BERT))
    return source


def write_audio_checkpoint(folder: Path, architecture: str) -> Source:
    """Writes a speech encoder with its feature extractor."""
    source = write_model(folder, AUDIO[architecture]())
    write_extractor(folder)
    return source


def write_model(folder: Path, config: Any) -> Source:
    """Writes config.json and model.safetensors of a model with seeded random weights."""
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    return Source(folder.name, folder, "", True)


def write_tokenizer(folder: Path, single: str = _BERT[0], pair: str | None = _BERT[1]) -> None:
    """Writes tokenizer.json and tokenizer_config.json, with the templates of a text and of a pair."""
    tokenizer = Tokenizer(models.WordLevel(_VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_SPECIAL).save_pretrained(folder)


def write_extractor(folder: Path) -> None:
    """Writes preprocessor_config.json."""
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=SAMPLE_RATE_HZ, do_normalize=True, return_attention_mask=True).save_pretrained(
        folder
    )


def write_whisper(folder: Path) -> None:
    """Writes a Whisper with a tokenizer of bytes, for English and German, that writes eleven tokens about any 30 s."""
    tokenizer = transformers.WhisperTokenizer({sign: number for number, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))})
    tokenizer.add_tokens([f"<|{name}|>" for name in _OF_WHISPER], special_tokens=True)
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in _OF_WHISPER}
    end, start = ids["endoftext"], ids["startoftranscript"]
    common = {"pad_token_id": end, "bos_token_id": end, "eos_token_id": end, "decoder_start_token_id": start}
    sizes = {f"{part}_{name}": 2 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(
        transformers.WhisperConfig(
            vocab_size=len(tokenizer), d_model=32, encoder_ffn_dim=32, decoder_ffn_dim=32, max_target_positions=20, init_std=0.5,
            suppress_tokens=None, begin_suppress_tokens=None, **sizes, **common,
        )
    )  # fmt: skip
    model.generation_config = transformers.GenerationConfig(
        is_multilingual=True,
        lang_to_id={f"<|{name}|>": ids[name] for name in ("en", "de")},
        task_to_id={name: ids[name] for name in ("transcribe", "translate")},
        no_timestamps_token_id=ids["notimestamps"], suppress_tokens=[end], max_length=15, **common,
    )  # fmt: skip
    model.save_pretrained(folder)
    transformers.WhisperProcessor(transformers.WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)
