"""A finished checkpoint: what is in its folder, who can load it, and damage that makes it count as missing."""

import json

import numpy as np
import pytest
import torch
import transformers
from adaptations import adapted, plan_adaptation, record, run, weights
from tiny_checkpoints import AUDIO, TEXT, write_audio_checkpoint, write_text_checkpoint

from data.errors import InputError
from data.fingerprint import file_digest
from pipeline import outputs, steps
from pipeline.adaptation import checkpoint
from pipeline.adaptation.model import TaskModel
from pipeline.adaptation.recipe import Recipe
from pipeline.encoding import encoders
from pipeline.encoding.checkpoints import locate
from pipeline.settings import AdaptSettings, EncoderSettings


def test_transformers_loads_it_and_its_features_are_those_of_the_cache(project):
    plan, adaptation = plan_adaptation(project)
    folder = run(plan, adaptation)
    features = plan.features["clips", "text"]
    for shard in features.shards:
        steps.make_shard(plan, features, shard, "cpu", 1, lambda count: None)
    steps.merge_shards(plan, features)
    tokenizer, model = transformers.AutoTokenizer.from_pretrained(folder), transformers.AutoModel.from_pretrained(folder)
    text = plan.corpora["clips"].corpus.utterances.set_index("utterance_id")["text"]
    with steps.FeatureStore.open(features.path) as store:
        for name in store.ids[::7]:
            tokens = tokenizer(text[name][:1] + text[name][1:].lower(), return_tensors="pt")
            with torch.no_grad():
                expected = model(**tokens).last_hidden_state[0].numpy()
            np.testing.assert_allclose(store[name], expected, atol=1e-5, rtol=0)
        assert store.attrs["encoder"] == {
            "name": folder.name,
            "revision": "",
            "trained": True,
            "tuning": "tuned elsewhere, then adapted on clips",
        }
        assert store.attrs["identity"]["adapted"]["train"] == record(folder)["parts"]["train"]
    assert folder.name.startswith("tiny-bert-adapted-")


def test_it_states_its_files_recipe_and_clips(project):
    plan, adaptation = plan_adaptation(project)
    folder = run(plan, adaptation)
    made = record(folder)
    assert made["files"] == {path.name: file_digest(path) for path in folder.iterdir() if path.name != "adapt.json"}
    assert {"config.json", "model.safetensors", "heads.safetensors", "tokenizer.json", "tokenizer_config.json"} <= made["files"].keys()
    assert made["parts"] == json.loads(json.dumps(adaptation.parts))
    assert made["parts"]["recipe"]["lr"] == 1e-3
    assert (made["train"]["clips"], made["valid"]["clips"]) == (8, 8)
    assert made["key"] == adaptation.key == folder.name.rpartition("-")[2]
    assert outputs.exists(adaptation.record)


@pytest.mark.parametrize(
    ("name", "damage"),
    [("model.safetensors", "changed"), ("config.json", "changed"), ("adapt.json", "changed"), ("tokenizer.json", "deleted")],
)
def test_a_damaged_checkpoint_counts_as_missing_and_is_made_again(project, name, damage):
    plan, adaptation = plan_adaptation(project, epochs=1)
    path = run(plan, adaptation) / name
    expected = weights(path.parent)
    if damage == "deleted":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x01
        path.write_bytes(content)
    assert not outputs.exists(adaptation.record)
    if name == "adapt.json":
        with pytest.raises(
            InputError, match=r"adapt.json: missing or damaged. Delete tiny-bert-adapted-\w+ and run BuildFeatures again"
        ):
            checkpoint.read_record(path.parent)
    run(plan, adaptation)
    assert outputs.exists(adaptation.record)
    assert weights(path.parent) == expected


def test_an_encoder_is_needed_only_while_a_shard_is_missing(project):
    plan, adaptation = plan_adaptation(project)
    assert "encoder" in [output.kind for output in outputs.missing(plan)]
    folder = run(plan, adaptation)
    features = plan.features["clips", "text"]
    for shard in features.shards:
        steps.make_shard(plan, features, shard, "cpu", 1, lambda count: None)
    (folder / "adapt.json").unlink()
    assert "encoder" not in [output.kind for output in outputs.missing(plan)]
    features.shards[0].path.unlink()
    assert "encoder" in [output.kind for output in outputs.missing(plan)]


def test_the_next_adaptation_may_start_from_it(project):
    first = adapted(project, epochs=1)
    assert locate("text", EncoderSettings(str(first))).tuning == "tuned elsewhere, then adapted on clips"
    again = adapted(type(project)(project.root, first), epochs=1)
    assert again.name.startswith(f"{first.name}-adapted-")
    assert record(again)["base"] == {"name": first.name, "revision": "", "tuning": "tuned elsewhere, then adapted on clips"}
    assert locate("text", EncoderSettings(str(again))).tuning == "tuned elsewhere, then adapted on clips, then on clips"


@pytest.mark.parametrize(
    ("architecture", "method"),
    [*((name, "full") for name in (*TEXT, *AUDIO)), ("mpnet", "lora"), ("gpt2", "lora"), ("wavlm", "lora"), ("data2vec-audio", "lora")],
)
def test_every_architecture_is_saved_as_what_it_has_learned(tmp_path, architecture, method):
    modality = "text" if architecture in TEXT else "audio"
    write = write_text_checkpoint if modality == "text" else write_audio_checkpoint
    base = write(tmp_path / architecture, architecture)
    settings = EncoderSettings(str(base.folder))
    encoder = encoders.make(modality, base, settings, trainable=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TaskModel(encoder, Recipe.of(AdaptSettings(method=method, lora_dropout=0.0), modality))
    item = encoder.prepare("word1 word5 word9" if modality == "text" else np.random.default_rng(0).normal(0, 0.1, 8_000).astype("f4"))
    encoder.states([item])[0].sum().backward()
    with torch.no_grad():
        for name, one in model.named_parameters():
            if one.grad is None:  # WavLM reads the weights of its attention, not the layers, so that adapters there learn nothing
                continue
            one.add_(torch.randn(one.shape, generator=torch.Generator().manual_seed(len(name))), alpha=0.01)
    model.train(False)
    expected = encoder.states([item])[0][0].detach().numpy()
    checkpoint.write(tmp_path / "made", base, model, {"corpora": ["mosi"]})
    found = encoders.make(modality, locate(modality, EncoderSettings(str(tmp_path / "made"))), settings)
    np.testing.assert_allclose(found.encode([item])[0], expected, atol=2e-5, rtol=1e-4)
    assert np.abs(encoders.make(modality, base, settings).encode([item])[0] - expected).max() > 1e-3
    assert checkpoint.is_whole(tmp_path / "made")
