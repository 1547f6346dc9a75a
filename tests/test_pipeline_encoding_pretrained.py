"""A folder that lacks a part, holds another model's part or holds code is refused in one line; whole ones of every kind load."""

import ast
import contextlib
import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_checkpoints import (
    AUDIO,
    TEXT,
    WORDS,
    write_audio_checkpoint,
    write_extractor,
    write_model,
    write_text_checkpoint,
    write_tokenizer,
)

from data.errors import InputError
from pipeline.encoding import encoders, pretrained
from pipeline.encoding.checkpoints import Source
from pipeline.settings import CHECKOUT, EncoderSettings

SETTINGS = EncoderSettings("x")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_checkpoint(tmp_path_factory.mktemp("whole") / "bert", "bert").folder


@pytest.fixture
def folder(bert: Path, tmp_path: Path) -> Path:
    """A copy of a whole BERT, to be damaged."""
    return shutil.copytree(bert, tmp_path / "bert")


def features(folder: Path) -> torch.Tensor:
    encoder = encoders.make("text", Source(folder.name, folder, "", True), SETTINGS)
    return torch.from_numpy(encoder.encode([encoder.prepare(" ".join(WORDS[:7]))])[0])


def refusal(folder: Path, modality: str = "text") -> str:
    with pytest.raises(InputError) as caught:
        encoders.make(modality, Source(folder.name, folder, "", True), SETTINGS)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "xlm-roberta", "mpnet", "modernbert", "deberta-v2", "xlnet"])
def test_a_model_that_was_saved_without_its_tokenizer_is_refused(tmp_path, architecture):
    write_model(tmp_path, TEXT[architecture]())
    assert re.search("no tokenizer.json (or complete vocabulary files|\\(or .*\\)): the tokenizer is missing", refusal(tmp_path))


def test_settings_of_a_tokenizer_are_no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"tokenizer_class": "BertTokenizer"}))
    assert "no tokenizer.json (or vocab.txt): the tokenizer is missing, and without it all texts look alike" in refusal(folder)


def test_half_of_a_tokenizer_is_refused(tmp_path):
    write_model(tmp_path, TEXT["roberta"]())
    (tmp_path / "vocab.json").write_text(
        json.dumps({word: number for number, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])})
    )
    assert "no tokenizer.json or complete vocabulary files: the tokenizer is missing" in refusal(tmp_path)


def test_a_tokenizer_with_special_tokens_only_is_refused(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {token: number for token, number in vocabulary.items() if token.startswith("[")}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert "its tokenizer has no vocabulary" in refusal(folder)


@pytest.mark.parametrize(("rows", "written"), [(63, "63"), (5_000, "5,000")], ids=["too large", "too small"])
def test_the_tokenizer_of_another_model_is_refused(tmp_path, rows, written):
    write_model(tmp_path, transformers.BertConfig(vocab_size=rows, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    write_tokenizer(tmp_path)
    message = refusal(tmp_path)
    assert f"its tokenizer has 64 tokens with ids up to 63, but the model's embedding has {written} rows" in message


def test_a_tokenizer_to_which_all_words_are_alike_is_refused(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(content | {"normalizer": {"type": "Prepend", "prepend": "x"}}))
    assert "its tokenizer gives the same tokens for all words of its vocabulary. Copy the tokenizer's files" in refusal(folder)


def test_a_vocabulary_in_files_of_its_own_is_enough(folder):
    """BERT's vocab.txt without tokenizer.json, as old checkpoints have it."""
    tokens = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    encoder = encoders.make("text", Source("bert", folder, "", True), EncoderSettings("x", case="keep"))
    assert encoder.prepare("word0 word59").values.tolist() == [1, 4, 63, 2]
    with pytest.raises(InputError, match=r"the text holds the token '\[MASK\]', for which the embedding of bert has no row"):
        encoder.prepare("[MASK]")


def test_a_sentencepiece_vocabulary_is_enough(tmp_path):
    """DeBERTa-v3 comes with spm.model alone."""
    import sentencepiece

    config = TEXT["deberta-v2"]()
    write_model(tmp_path, config)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS)] * 9), model_prefix=str(tmp_path / "spm"), vocab_size=20, minloglevel=2,
        pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]",
    )  # fmt: skip
    encoder = encoders.make("text", Source("deberta", tmp_path, "", True), SETTINGS)
    assert encoder.tokenizer.convert_ids_to_tokens(encoder.prepare("word0").values)[:2] == ["[CLS]", "▁word"]


@pytest.mark.parametrize("prefix", ["module.", "model.", "bert.", "module.bert.", "model.bert.", "module.model.bert."])
def test_prefixes_that_wrappers_put_before_the_names_of_weights_are_understood(bert, folder, prefix):
    weights = load_file(folder / "model.safetensors")
    save_file({prefix + name: weight for name, weight in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(features(folder), features(bert))


def test_a_pickle_in_parts_is_the_same_model(bert, folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, place = sorted(weights), {}
    for part in (0, 1):
        file = f"pytorch_model-0000{part + 1}-of-00002.bin"
        torch.save({name: weights[name] for name in names[part::2]}, folder / file)
        place |= dict.fromkeys(names[part::2], file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))
    assert torch.equal(features(folder), features(bert))


def test_a_pickle_with_code_is_refused_and_the_code_does_not_run(folder):
    (folder / "model.safetensors").unlink()
    ran = folder / "ran"
    torch.save({"weight": _Attack(ran)}, folder / "pytorch_model.bin")
    assert "pytorch_model.bin: damaged, or it holds more than tensors. Code in a pickle is never run" in refusal(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Attack(ran)))
    assert "pytorch_model.bin: damaged, or it holds more than tensors" in refusal(folder)
    assert not ran.exists()


class _Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("part", ["config.json", "preprocessor_config.json", "tokenizer_config.json"])
def test_code_in_a_folder_never_runs_whatever_is_on_standard_input(tmp_path, monkeypatch, part):
    ran = tmp_path / "ran"
    source = (write_text_checkpoint if part == "tokenizer_config.json" else write_audio_checkpoint)(
        tmp_path / "m", "bert" if part == "tokenizer_config.json" else "hubert"
    )
    (source.folder / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Own: pass\n")
    content = json.loads((source.folder / part).read_text())
    kinds = ("AutoConfig", "AutoModel", "AutoFeatureExtractor", "AutoTokenizer")
    content["auto_map"] = {kind: ["own.Own", "own.Own"] if kind == "AutoTokenizer" else "own.Own" for kind in kinds}
    content |= {"model_type": "own"} if part == "config.json" else {"feature_extractor_type": "Own", "tokenizer_class": "Own"}
    (source.folder / part).write_text(json.dumps(content))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with contextlib.suppress(InputError):
        encoders.make("text" if part == "tokenizer_config.json" else "audio", source, SETTINGS)
    assert not ran.exists()


def test_weights_that_inference_does_not_read_are_not_required(tmp_path):
    """wav2vec2-base-960h lacks `masked_spec_embed`, which replaces frames in training."""
    source = write_audio_checkpoint(tmp_path, "wav2vec2-group-norm")
    whole = encoders.make("audio", source, SETTINGS)
    _without(tmp_path, "masked_spec_embed")
    partial = encoders.make("audio", source, SETTINGS)
    assert partial.model.masked_spec_embed.isnan().all()  # so that its use would be noticed
    waveform = torch.linspace(-1, 1, 9_000).sin().numpy()
    first, second = (encoder.encode([encoder.prepare(waveform)])[0] for encoder in (whole, partial))
    assert (first == second).all()


def test_weights_that_inference_reads_are_required(tmp_path):
    source = write_audio_checkpoint(tmp_path, "wav2vec2-group-norm")
    _without(tmp_path, "encoder.layers.1.attention.k_proj.weight")
    assert "lacks weights of its own architecture (encoder.layers.1.attention.k_proj.weight…); they would be random" in refusal(
        source.folder, "audio"
    )


def _without(folder: Path, name: str) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_weights_that_are_not_finite_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.bias"][3] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "its weights give values that are not finite" in refusal(folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "unheard-of"}', '{"model_type": 5}', "{}", '{"model_type": "bert"}'])
def test_a_configuration_that_says_too_little_is_refused(folder, content):
    (folder / "config.json").write_text(content)
    message = refusal(folder)
    assert (
        "transformers cannot load this checkpoint (" in message or "its weights have other shapes than its config.json says" in message
    )


@pytest.mark.parametrize(
    ("architecture", "name"), [("bert", "num_attention_heads"), ("distilbert", "n_heads"), ("distilbert", "n_layers")]
)
def test_sizes_that_no_weight_shows_must_be_stated(tmp_path, architecture, name):
    """Otherwise transformers takes 12 heads and some number of layers."""
    config = {"dim": 48, "n_layers": 6, "n_heads": 4} if architecture == "distilbert" else {"hidden_size": 48, "num_hidden_layers": 1}
    kind = transformers.DistilBertConfig if architecture == "distilbert" else transformers.BertConfig
    write_model(tmp_path, kind(vocab_size=64, **config | ({"num_attention_heads": 4} if architecture == "bert" else {})))
    write_tokenizer(tmp_path)
    stated = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({key: value for key, value in stated.items() if key != name}))
    assert f"config.json: no {name}. Download the checkpoint again." in refusal(tmp_path)


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_blocks_that_the_configuration_does_not_know_are_not_left_out(folder, prefix):
    weights = load_file(folder / "model.safetensors")
    save_file({prefix + name: weight for name, weight in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    stated = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(stated | {"num_hidden_layers": 1}))
    assert "encoder.layer.1.attention.output.LayerNorm.bias, which a model of this config.json does not have" in refusal(folder)


def test_the_head_of_a_finetuned_model_is_left_out(bert, folder):
    model = transformers.BertForSequenceClassification.from_pretrained(folder)
    model.save_pretrained(folder)
    assert torch.equal(features(folder), features(bert))


def test_a_speech_model_without_its_feature_extractor_is_refused(tmp_path):
    write_model(tmp_path, AUDIO["hubert"]())
    message = refusal(tmp_path, "audio")
    assert "preprocessor_config.json: no such file; it says how the waveform is scaled for the model" in message


@pytest.mark.parametrize("missing", ["do_normalize", "sampling_rate"])
def test_a_feature_extractor_that_says_too_little_is_refused(tmp_path, missing):
    write_audio_checkpoint(tmp_path, "hubert")
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != missing}))
    assert f"states no {missing}; it says how the waveform is scaled" in refusal(tmp_path, "audio")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_normalize": "maybe"}, "do_normalize is 'maybe', expected true or false"),
        ({"sampling_rate": "16000"}, "sampling_rate is '16000', expected 16000"),
        (
            {"feature_extractor_type": "WhisperFeatureExtractor"},
            "a WhisperFeatureExtractor, which makes input_features; expected is one that makes waveforms (input_values)",
        ),
    ],
)
def test_a_feature_extractor_with_another_setting_is_refused(tmp_path, change, message):
    write_audio_checkpoint(tmp_path, "hubert")
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert message in refusal(tmp_path, "audio")


def test_weights_of_another_width_are_refused_by_name(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))
    assert "its weights have other shapes than its config.json says" in refusal(folder)


@pytest.mark.parametrize(("modality", "architecture"), [("text", "bert"), ("audio", "data2vec-audio")])
def test_weights_that_are_all_zero_are_refused(tmp_path, modality, architecture):
    {"text": write_text_checkpoint, "audio": write_audio_checkpoint}[modality](tmp_path, architecture)
    path = tmp_path / "model.safetensors"
    save_file({name: 0 * weight for name, weight in load_file(path).items()}, path, metadata={"format": "pt"})
    assert "its weights give the same features for all inputs. Download the checkpoint again" in refusal(tmp_path, modality)


def test_another_sampling_rate_is_refused(tmp_path):
    write_model(tmp_path, AUDIO["hubert"]())
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8_000).save_pretrained(tmp_path)
    assert "expects 8000 Hz, but the pipeline decodes to 16000 Hz" in refusal(tmp_path, "audio")


def test_the_feature_extractor_inside_a_processor_counts(tmp_path):
    """Since transformers 5, processors save their feature extractor as a part of processor_config.json."""
    write_model(tmp_path, AUDIO["hubert"]())
    write_extractor(tmp_path)
    inner = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "processor_config.json").write_text(json.dumps({"feature_extractor": inner}))
    assert pretrained.load_extractor(tmp_path).do_normalize is True


def test_no_other_module_opens_a_checkpoint():
    """`from_pretrained` with other arguments could run code of a folder or ask the network."""
    callers = {
        str(path.relative_to(CHECKOUT))
        for package in ("data", "pipeline", "heads")
        for path in (CHECKOUT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute | ast.Name | ast.Constant)
        and getattr(node, "attr", getattr(node, "id", getattr(node, "value", ""))) in ("from_pretrained", "pipeline_from_pretrained")
    }
    assert callers == {"pipeline/encoding/pretrained.py"}
    text = (CHECKOUT / "pipeline/encoding/pretrained.py").read_text(encoding="utf-8")
    assert text.count(".from_pretrained(") == 1
    assert '"trust_remote_code": False' in text
    assert '"local_files_only": True' in text
