"""The model that learns: its losses are those of heads, its inputs those of extraction, and merged adapters change nothing."""

import numpy as np
import pytest
import torch
from tiny_checkpoints import AUDIO, TEXT, WORDS, write_audio_checkpoint, write_text_checkpoint

from data.errors import InputError
from heads.models.losses import emotion_loss, sentiment_loss
from pipeline.adaptation.model import TaskModel, row_losses
from pipeline.adaptation.recipe import Recipe
from pipeline.encoding import encoders
from pipeline.settings import AdaptSettings, EncoderSettings


def trainable(folder, modality: str, architecture: str, **settings: object) -> TaskModel:
    write = write_text_checkpoint if modality == "text" else write_audio_checkpoint
    source = write(folder, architecture)
    encoder = encoders.make(modality, source, EncoderSettings(str(folder)), trainable=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TaskModel(encoder, Recipe.of(AdaptSettings(tasks="both", **settings), modality))


def inputs(model: TaskModel) -> list:
    if model.recipe.modality == "text":
        return [model.encoder.prepare(" ".join(WORDS[:count])) for count in (3, 9, 1)]
    noise = np.random.default_rng(0)
    return [model.encoder.prepare(noise.normal(0, 0.1, 1_600 * count).astype(np.float32)) for count in (3, 5)]


def test_losses_are_those_of_heads():
    nan = float("nan")
    outputs = {"msa": torch.tensor([0.5, -2.0, 1.0]), "mer": torch.randn(3, 6, generator=torch.Generator().manual_seed(0))}
    sentiment = torch.tensor([1.0, nan, 3.0])
    emotions = torch.tensor([[0.0, 1, 0, 0, 1, 0], [1, 1, 1, 0, 0, 0], [0, nan, 0, 0, 0, 0]])
    losses = row_losses(outputs, sentiment, emotions)
    assert losses["msa"].tolist() == [0.5, 0.0, 2.0]
    assert losses["msa"].sum() / 2 == sentiment_loss(outputs["msa"], sentiment)
    torch.testing.assert_close(losses["mer"].sum() / 2, emotion_loss(outputs["mer"], emotions))


def test_the_loss_of_classes_is_cross_entropy():
    logits, truth = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), torch.eye(4)[[2, 0, 1]]
    truth[1] = torch.nan
    losses = row_losses({"mer": logits}, torch.zeros(3), truth, has_classes=True)["mer"]
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([2, -100, 1]), reduction="none")
    torch.testing.assert_close(losses, expected)


@pytest.mark.parametrize("architecture", TEXT)
def test_texts_pool_the_features_that_extraction_gives(tmp_path, architecture):
    _expect_features(trainable(tmp_path / architecture, "text", architecture))


@pytest.mark.parametrize("architecture", AUDIO)
def test_speech_pools_the_features_that_extraction_gives(tmp_path, architecture):
    _expect_features(trainable(tmp_path / architecture, "audio", architecture))


def _expect_features(model: TaskModel) -> None:
    """Compares predictions with the linear layers on the mean of extracted features, and asks for gradients."""
    model.train(False)
    folder = model.encoder.source.folder
    extracting = encoders.make(model.recipe.modality, model.encoder.source, EncoderSettings(str(folder)))
    items = inputs(model)
    groups = [items] if model.encoder.budget else [[item] for item in items]
    found = [model.predict(group, "float32") for group in groups]
    for task in ("msa", "mer"):
        pooled = torch.tensor(np.stack([extracting.encode([item])[0].mean(0) for item in items]))
        expected = model.heads[task](pooled)
        actual = torch.cat([one[task] for one in found]).reshape(expected.shape)
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=2e-5)
    model.train()
    torch.stack(
        [values.sum() for one in [model.predict(group, "float32") for group in groups] for values in one.values()]
    ).sum().backward()
    learning = [name for name, one in model.named_parameters() if one.grad is not None and one.grad.abs().sum() > 0]
    assert len(learning) > 8


def test_merged_adapters_predict_what_the_separate_ones_did(tmp_path):
    model = trainable(tmp_path / "mpnet", "text", "mpnet", method="lora", lora_dropout=0.0)
    optimizer = torch.optim.SGD([one for _, one in model.named_parameters()], 5.0)
    names = set(model.encoder.model.state_dict())
    for _ in range(2):  # the first step moves one of the two matrices of each adapter, which was 0
        model.predict(inputs(model), "float32")["msa"].sum().backward()
        optimizer.step()
    model.train(False)
    before = model.predict(inputs(model), "float32")["msa"]
    merged = model.merged()
    assert len(merged) < len(names)
    assert not [name for name in merged if "lora" in name]
    torch.testing.assert_close(model.predict(inputs(model), "float32")["msa"], before, rtol=1e-4, atol=1e-5)


def test_blocks_that_are_shared_cannot_be_the_last_ones(tmp_path):
    with pytest.raises(InputError, match=r"an? albert model has no list of 2 blocks. Set method = full or lora in luigi.cfg"):
        trainable(tmp_path / "albert", "text", "albert", method="last_n")
