"""The files of an encoder are found by name, hub id or folder; exactly the properties that change a feature identify it."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.numpy import load_file, save_file

from data.errors import InputError
from data.media import DECODER
from pipeline.encoding import checkpoints
from pipeline.encoding.checkpoints import ENCODERS, MODALITIES, Source
from pipeline.settings import SAMPLE, EncoderSettings

AUDIO = Source("tiny-data2vec", SAMPLE / "tiny-data2vec", "", False)


@pytest.fixture
def folder(tmp_path):
    """A folder with the names of a sharded checkpoint and of its tokenizer."""
    folder = tmp_path / "my-encoder"
    folder.mkdir()
    index = {"weight_map": {"b": "model-2.safetensors", "a": "model-1.safetensors", "c": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in ("config.json", "model-1.safetensors", "model-2.safetensors", "tokenizer.json", "vocab.txt", "README.md"):
        (folder / name).write_text("{}")
    return folder


def test_a_folder_is_an_encoder_by_its_name(folder):
    assert checkpoints.locate("text", EncoderSettings(str(folder))) == Source("my-encoder", folder, "", True, "tuned elsewhere")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("roberta-base", "frozen"), ("all-mpnet-base-v2", "frozen"), ("data2vec-audio-large-960h", "frozen"),
        ("bert-large-uncased", "frozen"), ("deberta-v3-large", "frozen"), ("wavlm-base-plus-sd", "tuned elsewhere"),
        ("roberta-base-mosi", "tuned elsewhere"), ("checkpoint-500", "tuned elsewhere"), ("bertha", "tuned elsewhere"),
    ],
)  # fmt: skip
def test_a_folder_with_the_name_of_a_published_model_is_frozen_and_any_other_tuned_elsewhere(folder, tmp_path, name, word):
    shutil.copytree(folder, tmp_path / name)
    assert checkpoints.locate("text", EncoderSettings(str(tmp_path / name))).tuning == word


def test_bundled_encoders_are_found_and_the_audio_encoder_is_untrained():
    assert checkpoints.locate("audio", EncoderSettings("tiny-data2vec")) == AUDIO
    found = checkpoints.locate("sentence", EncoderSettings("minilm"))
    assert (found.name, found.trained) == ("minilm", True)
    assert (found.folder / "model.safetensors").is_file()


def test_every_named_encoder_has_a_place_and_known_modalities():
    for name, profile in ENCODERS.items():
        assert bool(profile.hub_id) != bool(profile.find), name
        assert set(profile.modalities) <= set(MODALITIES)


def test_locate_names_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match=r"Unknown encoder .* 'roberta-bas'. Did you mean 'roberta-base'"):
        checkpoints.locate("text", EncoderSettings("roberta-bas"))
    with pytest.raises(InputError, match=r"'tiny-data2vec' is not a text encoder. Available for text: minilm"):
        checkpoints.locate("text", EncoderSettings("tiny-data2vec"))
    with pytest.raises(InputError, match=r"/nowhere/model: no such folder"):
        checkpoints.locate("text", EncoderSettings("/nowhere/model"))
    with pytest.raises(InputError, match=r"'a/b/c' is neither a folder nor a hub id"):
        checkpoints.locate("text", EncoderSettings("a/b/c"))
    with pytest.raises(InputError, match=r"no config.json; a folder with a transformers checkpoint is expected"):
        checkpoints.locate("text", EncoderSettings(str(tmp_path)))


def test_a_hub_model_is_asked_for_safetensors_first_and_remembers_its_commit(folder, monkeypatch):
    asked = []
    commit = folder.rename(folder.parent / "0123abc")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *hub_id, **options: asked.append((hub_id, options)) or str(commit))
    found = checkpoints.locate("text", EncoderSettings("roberta-base", revision="main"))
    assert found == Source("FacebookAI/roberta-base", commit, "0123abc", True)
    ((hub_id, options),) = asked
    assert (hub_id, options["revision"]) == (("FacebookAI/roberta-base",), "main")
    assert "model*.safetensors" in options["allow_patterns"]
    assert not [pattern for pattern in options["allow_patterns"] if pattern.endswith((".bin", ".py"))]


def test_a_hub_model_without_safetensors_is_asked_for_its_pickle(folder, monkeypatch):
    (folder / "model.safetensors.index.json").unlink()
    (folder / "pytorch_model.bin").touch()
    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda _, **options: asked.append(options) or str(folder))
    found = checkpoints.locate("text", EncoderSettings("owner/name"))
    assert [("pytorch_model.bin" in options["allow_patterns"]) for options in asked] == [False, True]
    assert folder / "pytorch_model.bin" in checkpoints.files("text", found)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LocalEntryNotFoundError("offline"), "Model 'owner/name' is not on this machine and could not be downloaded. Give the folder"),
        (OSError("disk"), "Model 'owner/name' is not on this machine and could not be downloaded. Give the folder"),
        ("unknown", "The hub has no model 'owner/name' at revision 'main'."),
    ],
    ids=["no answer", "disk", "unknown"],
)
def test_a_hub_that_does_not_give_the_model_is_one_message(monkeypatch, error, message):
    def fail(*_, **__):
        raise RepositoryNotFoundError.__new__(RepositoryNotFoundError) if error == "unknown" else error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(InputError) as caught:
        checkpoints.locate("text", EncoderSettings("owner/name"))
    assert str(caught.value).startswith(message)


def test_files_are_those_that_determine_the_output_in_a_fixed_order(folder):
    source = Source("my-encoder", folder, "", True)
    names = ["config.json", "model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"]
    assert [path.name for path in checkpoints.files("text", source)] == [*names, "tokenizer.json", "vocab.txt"]
    assert [path.name for path in checkpoints.files("audio", source)] == names
    shutil.copy(AUDIO.folder / "preprocessor_config.json", folder)
    assert [path.name for path in checkpoints.files("audio", source)] == [*names, "preprocessor_config.json"]


def test_safetensors_are_preferred_to_a_pickle(folder):
    (folder / "pytorch_model.bin").touch()
    (folder / "model.safetensors").touch()
    names = [path.name for path in checkpoints.files("text", Source("my-encoder", folder, "", True))]
    assert names == ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt"]


def test_identity_changes_with_everything_that_changes_a_feature_and_nothing_else(folder):
    source = Source("my-encoder", folder, "", True)
    digests = {path.name: "0" * 64 for path in checkpoints.files("text", source)}

    def identity(**changes) -> str:
        parts = checkpoints.identity("text", EncoderSettings("x", **changes), source, digests, "float16", "float32")
        return json.dumps(parts, sort_keys=True)

    assert identity() == identity(revision="abc", pooling="cls")  # a revision acts through the files; a text has no pooling
    assert len({identity(), identity(layers="1"), identity(case="keep"), identity(max_tokens=8)}) == 4


def test_identity_of_audio_names_the_decoder_and_that_of_a_sentence_its_pooling():
    audio = checkpoints.identity("audio", EncoderSettings("x"), AUDIO, {}, "float16", "float32")
    assert (audio["decoder"], audio["truncation"]) == (DECODER, "none")
    assert "case" not in audio
    sentence = checkpoints.identity("sentence", EncoderSettings("x"), AUDIO, {}, "float16", "bfloat16")
    assert (sentence["pooling"], sentence["precision"]) == ("mean", "bfloat16")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("sup-simcse-roberta-base", "pooler"), ("unsup-simcse-roberta-base", "cls"), ("all-MiniLM-L6-v2", "mean")],
)
def test_automatic_pooling_is_the_one_the_model_was_trained_with(name, expected):
    assert checkpoints.pooling(EncoderSettings("x"), Source(name, Path(), "", True)) == expected
    assert checkpoints.pooling(EncoderSettings("x", pooling="cls"), Source(name, Path(), "", True)) == "cls"


def test_a_trainers_checkpoint_one_level_down_is_found(folder, tmp_path):
    inner = tmp_path / "my-simcse" / "checkpoint-500"
    shutil.copytree(folder, inner)
    (inner.parent / "trainer_state.json").write_text("{}")
    found = checkpoints.locate("text", EncoderSettings(str(inner.parent)))
    assert found == Source("my-simcse-checkpoint-500", inner, "", True, "tuned elsewhere")


def test_of_several_checkpoints_one_must_be_named(folder, tmp_path):
    for step in (500, 1000):
        shutil.copytree(folder, tmp_path / "run" / f"checkpoint-{step}")
    with pytest.raises(InputError, match=r"run: several checkpoints \(checkpoint-1000, checkpoint-500\). Give the folder of one"):
        checkpoints.locate("text", EncoderSettings(str(tmp_path / "run")))


def test_the_parts_of_a_pickle_are_files_of_the_encoder(folder):
    (folder / "model.safetensors.index.json").unlink()
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": "part-1.bin", "b": "part-2.bin"}}))
    for number in (1, 2):
        (folder / f"part-{number}.bin").touch()
    found = checkpoints.locate("text", EncoderSettings(str(folder)))
    names = [path.name for path in checkpoints.files("text", found)]
    assert names == ["config.json", "pytorch_model.bin.index.json", "part-1.bin", "part-2.bin", "tokenizer.json", "vocab.txt"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight_map": {"a": "model-9.safetensors"}}, r"no model-9.safetensors, although model.safetensors.index.json names it"),
        ({"weight_map": {"a": "../model-1.safetensors"}}, r"names '../model-1.safetensors'; expected is the name of a file beside it"),
        ({"weight_map": {}}, r"no list of weights and their files \(weight_map\)"),
        ({"weight_map": {"a": 5}}, r"no list of weights and their files \(weight_map\)"),
        ([], r"index.json: not a JSON object"),
        ("{", r"index.json: not JSON"),
        ("version https://git-lfs.github.com/spec/v1\n", r"index.json: a git-lfs pointer, not the file itself"),
    ],
    ids=["missing", "outside", "empty", "no name", "list", "cut", "git-lfs"],
)
def test_an_index_of_parts_that_is_not_one_is_refused(folder, content, message):
    (folder / "model.safetensors.index.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match=message):
        checkpoints.files("text", Source("my-encoder", folder, "", True))


def test_the_extractor_inside_a_processor_is_the_one_that_counts(folder):
    shutil.copy(AUDIO.folder / "preprocessor_config.json", folder)
    (folder / "processor_config.json").write_text("{}")  # of the older kind, with nothing inside
    assert checkpoints.preprocessor_file(folder).name == "preprocessor_config.json"
    (folder / "processor_config.json").write_text('{"feature_extractor": {"do_normalize": true}}')
    assert checkpoints.files("audio", Source("my-encoder", folder, "", True))[-1].name == "processor_config.json"


@pytest.fixture
def whole(tmp_path):
    """A copy of the bundled audio encoder, to be damaged."""
    return Source("copy", shutil.copytree(AUDIO.folder, tmp_path / "copy"), "", True)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("model.safetensors", lambda content: POINTER.encode(), r"model.safetensors: a git-lfs pointer, not the file itself"),
        ("model.safetensors", lambda content: content[: len(content) // 2], r"model.safetensors: cut short or damaged .*Download it"),
        ("model.safetensors", lambda content: content[:6], r"model.safetensors: cut short or damaged"),
        ("model.safetensors", lambda content: b"", r"model.safetensors: the file is empty"),
        ("model.safetensors", lambda content: b"<!DOCTYPE html>...", r"model.safetensors: an HTML page"),
        ("config.json", lambda content: POINTER.encode(), r"config.json: a git-lfs pointer"),
        ("config.json", lambda content: content[:50], r"config.json: not JSON .*Download the checkpoint again"),
        ("preprocessor_config.json", lambda content: b"\xff\xfe", r"preprocessor_config.json: not JSON"),
    ],
)
def test_damaged_files_are_named_without_loading_them(whole, name, damage, message):
    path = whole.folder / name
    checkpoints.expect_whole(checkpoints.files("audio", whole))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=message) as caught:
        checkpoints.expect_whole(checkpoints.files("audio", whole))
    assert "\n" not in str(caught.value)


def test_weights_besides_those_of_the_key_are_refused(whole):
    paths = checkpoints.files("audio", whole)
    (whole.folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"adapter_config.json: an adapter, which would not be used. Merge it"):
        checkpoints.expect_whole(paths)
    (whole.folder / "adapter_config.json").unlink()
    (whole.folder / "shard-00000-model-00001-of-00001.safetensors").touch()
    with pytest.raises(InputError, match=r"would read 'shard-00000-model-00001-of-00001.safetensors', not model.safetensors"):
        checkpoints.expect_whole(paths)
    (whole.folder / "shard-00000-model-00001-of-00001.safetensors").unlink()
    config = json.loads((whole.folder / "config.json").read_text())
    (whole.folder / "config.json").write_text(json.dumps(config | {"transformers_weights": "other.safetensors"}))
    with pytest.raises(InputError, match=r"would read 'other.safetensors', not model.safetensors"):
        checkpoints.expect_whole(paths)


def test_quantised_weights_are_refused(whole):
    paths = checkpoints.files("audio", whole)
    path = whole.folder / "model.safetensors"
    weights = load_file(path)
    name = "encoder.layers.0.attention.k_proj.weight"
    save_file(weights | {name: (100 * weights[name]).astype(np.int8)}, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=rf"model.safetensors: {name} is quantised \(I8\). Give the checkpoint that was not quantised"):
        checkpoints.expect_whole(paths)
    save_file(weights, path, metadata={"format": "pt"})
    config = json.loads((whole.folder / "config.json").read_text())
    (whole.folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(InputError, match=r"config.json: a quantised checkpoint \(quantization_config\)"):
        checkpoints.expect_whole(paths)


def test_a_file_is_no_encoder(whole):
    path = whole.folder / "model.safetensors"
    with pytest.raises(InputError, match=r"model.safetensors: a file; a folder with a transformers checkpoint is expected"):
        checkpoints.locate("text", EncoderSettings(str(path)))
