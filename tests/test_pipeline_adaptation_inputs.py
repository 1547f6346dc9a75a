"""What an encoder learns from: an utterance with its context, of which the own rows count; not how its features are stored."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from adaptations import CORPUS, run, weights
from projects import Project, read_rows
from tiny_checkpoints import AUDIO, WORDS, write_audio_checkpoint, write_text_checkpoint

from data.errors import InputError
from data.feature_store import FeatureStore
from data.media import decode
from pipeline import steps
from pipeline.adaptation import training
from pipeline.adaptation.checkpoint import read_record
from pipeline.adaptation.clips import Clips, in_memory, on_disk, shortened
from pipeline.adaptation.model import TaskModel
from pipeline.adaptation.recipe import Recipe
from pipeline.encoding import encoders
from pipeline.plan import AdaptationPlan, Plan
from pipeline.report.page import AdaptationSummary, BuildReport, render_report
from pipeline.settings import AdaptSettings, EncoderSettings

HOP = 320


def planned(project: Project, modality: str = "text", **settings: object) -> Plan:
    """Plans a build whose encoder of one modality learns from the clips; some settings of the encoder changed."""
    model = str(project.encoder) if modality == "text" else "tiny-data2vec"
    adapt = AdaptSettings(**{**CORPUS, "modalities": (modality,), "epochs": 1})
    return project.plan(adapt=adapt, **{modality: EncoderSettings(model, **settings)})


def key(project: Project, modality: str = "text", **settings: object) -> str:
    return planned(project, modality, **settings).adaptations[modality].key


def learned_weights(plan: Plan) -> bytes:
    return weights(run(plan, plan.adaptations["text"]))


def shown(adaptation: AdaptationPlan) -> str:
    """The section of a report about an encoder."""
    summary = AdaptationSummary(adaptation.name, adaptation.folder.name, read_record(adaptation.folder))
    return render_report(BuildReport("Features", (), (), (), {}, (), (), "cache", 1.0, "0.1", [summary]))


def trainable(source, modality: str, **settings: object) -> TaskModel:
    """A model that learns sentiment from inputs with context."""
    encoder = encoders.make(modality, source, EncoderSettings(str(source.folder), **settings), trainable=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TaskModel(encoder, Recipe.of(AdaptSettings(), modality))
    model.train(False)
    return model


def words(count: int, seed: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, size=count))


@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet", "xlnet"])
def test_the_own_tokens_of_texts_in_context_are_pooled_and_no_others(tmp_path, architecture):
    source = write_text_checkpoint(tmp_path / architecture, architecture)
    learner = trainable(source, "text", context=2, case="keep")
    texts = [(words(5, 0), [words(4, 1), words(2, 2)]), (words(3, 3), []), (words(9, 4), [words(1, 5)])]
    batch = [learner.encoder.prepare(*text) for text in texts]
    hidden, own = learner.encoder.states(batch)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.folder)
    model = transformers.AutoModel.from_pretrained(source.folder).eval()
    pooled = []
    for row, (text, context) in enumerate(texts):
        tokens = tokenizer(*([" ".join(context)] if context else []), text, return_tensors="pt", return_token_type_ids=True)
        part_of = tokens.sequence_ids()
        first, last = (part_of.index(0), len(part_of) - part_of[::-1].index(1) - 1) if context else (0, 0)
        expected = [not context or part == 1 or place < first or place > last for place, part in enumerate(part_of)]
        assert own[row].tolist() == expected + [False] * (hidden.shape[1] - len(expected))
        assert sum(expected) == len(tokenizer(text)["input_ids"])
        if architecture not in ("bert", "xlnet"):
            del tokens["token_type_ids"]
        with torch.no_grad():
            pooled.append(model(**tokens).last_hidden_state[0][torch.tensor(expected)].mean(0))
    with torch.no_grad():
        found = learner.predict(batch, "float32")["msa"]
        torch.testing.assert_close(found, learner.heads["msa"](torch.stack(pooled))[:, 0], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("architecture", AUDIO)
def test_the_own_frames_of_speech_in_context_are_pooled_and_cut_after_the_context(tmp_path, architecture):
    source = write_audio_checkpoint(tmp_path / architecture, architecture)
    learner = trainable(source, "audio", context_s=0.5)
    noise = np.random.default_rng(0)
    before, clip = noise.normal(0, 0.1, 9 * HOP + 7).astype(np.float32), noise.normal(0, 0.1, 9_000).astype(np.float32)
    short = learner.encoder.prepare(clip[:4_000], before[:0])
    items = list(shortened(learner.encoder, [(0, learner.encoder.prepare(clip, before)), (1, short)], 0.3))
    assert items[1][1] is short
    with on_disk(tmp_path / "clips", items) as stored:
        batch = list(stored)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(source.folder)
    model = transformers.AutoModel.from_pretrained(source.folder).eval()
    whole = extractor(np.concatenate([before[7:], clip]), sampling_rate=16_000, return_tensors="pt")["input_values"]
    values = whole[:, : 9 * HOP + 4_800]
    np.testing.assert_array_equal(batch[0].values, values[0].numpy())
    with torch.no_grad():
        frames = model(values).last_hidden_state[0]
        own = learner.encoder.frames(4_800)
        _, mask = learner.encoder.states(batch[:1])
        assert mask[0].tolist() == [False] * (len(frames) - own) + [True] * own
        assert (batch[0].length, batch[0].cost, batch[0].truncated) == (own, len(frames), True)
        expected = learner.heads["msa"](frames[len(frames) - own :].mean(0))
        torch.testing.assert_close(learner.predict(batch[:1], "float32")["msa"], expected, rtol=1e-4, atol=2e-5)


def learned_from(plan: Plan, adaptation: AdaptationPlan, monkeypatch) -> dict[str, Clips]:
    """Returns the clips that an adaptation would learn from, by split."""
    found: dict[str, Clips] = {}

    def keep(job, encoder, train, valid, advance, say) -> None:
        for split, clips in (("train", train), ("valid", valid)):
            found[split] = Clips(clips.ids, in_memory(enumerate(clips.items)), clips.labels, clips.costs)

    with monkeypatch.context() as patched:
        patched.setattr(training, "adapt", keep)
        run(plan, adaptation)
    return found


def test_an_encoder_learns_texts_behind_the_texts_before_them(project, monkeypatch):
    project.split_by_video()
    project.medium("video3_1").unlink()  # it does not teach, but the text after it is read with it, as it is for features
    plan = planned(project, context=1)
    found = learned_from(plan, plan.adaptations["text"], monkeypatch)
    tokenizer = transformers.AutoTokenizer.from_pretrained(project.encoder)
    texts = {str(row["id"]): str(row["text"])[:1] + str(row["text"])[1:].lower() for row in read_rows(project.clips / "label.csv")}
    for split, videos in (("train", (0, 3, 6)), ("valid", (1, 4, 7))):
        names = [f"video{video}_{number}" for video in videos for number in range(3) if (video, number) != (3, 1)]
        assert found[split].ids == tuple(f"clips/{name}" for name in names)
        for name, item in zip(names, found[split].items, strict=True):
            video, number = name.split("_")
            before = [texts[f"{video}_{int(number) - 1}"]] if number != "0" else []
            assert item.values.tolist() == tokenizer(*before, texts[name])["input_ids"]


def test_an_encoder_learns_speech_behind_the_speech_before_it(project, monkeypatch):
    project.split_by_video()
    plan = planned(project, "audio", context_s=0.4)
    found = learned_from(plan, plan.adaptations["audio"], monkeypatch)["train"]
    extractor = transformers.AutoFeatureExtractor.from_pretrained(plan.adaptations["audio"].base.folder)
    clip, before = decode(project.medium("video3_1")), decode(project.medium("video3_0"))[-6_400:]
    joined = np.concatenate([before[len(before) % HOP :], clip])
    item = found.items[found.ids.index("clips/video3_1")]
    np.testing.assert_array_equal(item.values, extractor(joined, sampling_rate=16_000, return_tensors="np")["input_values"][0])
    assert item.own is not None
    assert item.own.tolist() == list(range(len(before) // HOP, (len(joined) - 400) // HOP + 1))


def test_context_is_part_of_what_an_encoder_has_learned(project):
    project.split_by_video()
    project.medium("video3_1").unlink()  # so its text is nothing but context
    keys = key(project), key(project, context=1), key(project, context=2)
    assert len(set(keys)) == 3
    learned = learned_weights(planned(project, context=1))
    project.edit("video3_1", text="Nobody cried in our row.")
    assert key(project) == keys[0]
    assert key(project, context=1) != keys[1]
    changed = planned(project, context=1)
    assert learned_weights(changed) != learned
    assert "<dt>reads.context</dt><dd>1</dd>" in shown(changed.adaptations["text"])
    project.edit("video2_1", text="A test clip, and its context.")
    assert key(project, context=1) == changed.adaptations["text"].key


def test_previous_speech_is_part_of_what_an_encoder_has_learned(project):
    project.split_by_video()
    assert len({key(project, "audio"), key(project, "audio", context_s=0.4), key(project, "audio", context_s=0.5)}) == 3


def test_a_context_that_would_cross_splits_is_refused(project):
    with pytest.raises(InputError, match=r"^clips: video 'video0' is in several splits \(train, valid, test\), so context would bring"):
        planned(project, context=1)


def test_what_is_stored_of_the_output_changes_nothing_of_what_an_encoder_learns(project):
    last, several = planned(project), planned(project, layers="0,1")
    assert several.adaptations["text"].key == last.adaptations["text"].key == key(project, layers="mean(all)")
    assert last.features["clips", "text"].key != several.features["clips", "text"].key
    assert key(project, "audio") == key(project, "audio", layers="all", frame_rate_hz=12.5)


def test_sets_that_differ_in_what_is_stored_alone_share_an_encoder(project):
    usual = EncoderSettings(str(project.encoder))
    sets = {"text.first": replace(usual, layers="0"), "text.lower": replace(usual, case="lower")}
    plan = project.plan(adapt=AdaptSettings(**{**CORPUS, "epochs": 1}), sets=sets)
    assert plan.adaptations["text.first"] is plan.adaptations["text"]
    assert [one.feature_set for one in plan.distinct_adaptations()] == ["text", "text.lower"]
    served = {output.name: set(output.serves) for output in plan.outputs() if output.kind == "encoder"}
    shards = {name: {shard.path for shard in plan.features["clips", name].shards} for name in ("text", *sets)}
    assert served == {"clips text": shards["text"] | shards["text.first"], "clips text.lower": shards["text.lower"]}
    models = {name: plan.encoder_settings(plan.features["clips", name]).model for name in shards}
    assert models["text"] == models["text.first"] == str(plan.adaptations["text"].folder) != models["text.lower"]


def test_an_encoder_with_several_layers_learns_as_with_one_and_then_gives_all_of_them(project):
    learned = learned_weights(planned(project))
    plan = planned(project, layers="0,1")
    (folder,) = (project.cache / "encoders").glob("*-adapted-*")
    assert plan.adaptations["text"].folder == folder
    assert learned_weights(plan) == learned
    features = plan.features["clips", "text"]
    for shard in features.shards:
        steps.make_shard(plan, features, shard, "cpu", 1, lambda count: None)
    steps.merge_shards(plan, features)
    tokenizer, model = transformers.AutoTokenizer.from_pretrained(folder), transformers.AutoModel.from_pretrained(folder).eval()
    with FeatureStore.open(features.path) as store, torch.no_grad():
        assert (store.dim, store.attrs["identity"]["layers"]) == (64, [0, 1])
        text = next(str(row["text"]) for row in read_rows(project.clips / "label.csv") if row["id"] == "video2_1")
        tokens = tokenizer(text[:1] + text[1:].lower(), return_tensors="pt")
        expected = torch.cat(model(**tokens, output_hidden_states=True).hidden_states, -1)[0]
        np.testing.assert_allclose(store["video2_1"], expected.numpy(), atol=1e-5, rtol=0)
