"""Recipes have the defaults of their modality, and their parts are the settings that matter."""

import pytest
import torch
import transformers

from data.errors import InputError
from pipeline.adaptation.recipe import Recipe, lr_factor
from pipeline.settings import AdaptSettings


@pytest.mark.parametrize(
    ("modality", "method", "expected"),
    [
        ("text", "full", (3e-5, 5, 3, 16)),
        ("text", "lora", (3e-4, 5, 3, 16)),
        ("audio", "full", (1e-5, 20, 8, 8)),
        ("audio", "lora", (1e-4, 20, 8, 8)),
    ],
)
def test_zero_stands_for_the_default_of_modality_and_method(modality, method, expected):
    found = Recipe.of(AdaptSettings(method=method), modality).settings
    assert (found.lr, found.epochs, found.patience, found.batch_size) == pytest.approx(expected)
    given = Recipe.of(AdaptSettings(lr=0.5, epochs=2, patience=1, batch_size=3, accumulation=4), modality)
    assert (given.settings.lr, given.settings.epochs, given.step_size) == (0.5, 2, 12)


def test_the_parts_name_the_settings_of_modality_and_method_alone():
    text = Recipe.of(AdaptSettings(max_seconds=3.0, lora_rank=4), "text").parts()
    assert not {"max_seconds", "batch_seconds", "lora_rank", "last_blocks", "corpora", "modalities"} & text.keys()
    assert {"lora_rank", "lora_alpha", "lora_dropout", "batch_tokens"} < Recipe.of(AdaptSettings(method="lora"), "text").parts().keys()
    assert Recipe.of(AdaptSettings(max_seconds=3.0), "audio").parts()["max_seconds"] == 3.0


@pytest.mark.parametrize(("steps", "warmup"), [(40, 0.1), (3, 0.5), (5, 0.0), (1, 0.1)])
def test_the_learning_rate_follows_the_schedule_of_transformers(steps, warmup):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, round(warmup * steps), steps)
    expected = []
    for _ in range(steps):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert [lr_factor(step, steps, warmup) for step in range(steps)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "lorra"}, r"Unknown \[adapt\] method 'lorra'. Did you mean 'lora'\? Available: full, lora, last_n."),
        ({"tasks": "all"}, r"Unknown \[adapt\] tasks 'all'. Available: msa, mer, both."),
        ({"emotions": "true"}, r"Unknown \[adapt\] emotions 'true'"),
        ({"precision": "float16"}, r"Unknown \[adapt\] precision 'float16'"),
        ({"modalities": ("sentence",)}, r"Unknown modality in \[adapt\] modalities: 'sentence'. Available: text, audio."),
        ({"modalities": ()}, r"\[adapt\] modalities is \(\), expected at least one of text, audio."),
        ({"lr": -1.0}, r"\[adapt\] lr is -1.0, expected a number above 0 and up to 1, or 0 for the default."),
        ({"lr": float("nan")}, r"\[adapt\] lr is nan"),
        ({"epochs": -1}, r"\[adapt\] epochs is -1, expected at least 1, or 0 for the default."),
        ({"accumulation": 0}, r"\[adapt\] accumulation is 0, expected at least 1."),
        ({"warmup": 1.5}, r"\[adapt\] warmup is 1.5, expected a share from 0 to 1."),
        ({"max_seconds": float("inf")}, r"\[adapt\] max_seconds is inf, expected at least 0.1 s."),
    ],
)
def test_a_setting_out_of_its_range_is_refused(changed, message):
    with pytest.raises(InputError, match=message):
        AdaptSettings(**changed)
