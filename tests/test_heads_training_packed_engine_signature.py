"""Signatures: the runs that can be trained in one pack, and the independence from padding that this needs."""

from dataclasses import replace

import pytest
import torch
from batches import pad, random_batch
from feature_sets import add_set
from small_heads import TRAINED
from small_packs import TOGETHER, make_cache_for_packs, run, signature_of, unlike

from data.errors import InputError
from heads.models import options
from heads.models.parts.randomness import drawing_from
from heads.models.registry import HEADS
from heads.runs.config import make_config
from heads.training.loop import Run

OTHER = {
    "preset": ("paper-mosi", True),
    "seed": (9, True),
    "data.emotions": ("pseudo", True),
    "data.minimum_similarity": (0.5, True),
    "loss.sentiment_weight": (0.5, True),
    "loss.emotion_weight": (0.5, True),
    "train.lr": (0.5, True),
    "train.weight_decay": (0.5, True),
    "train.warmup": (0.5, True),
    "train.schedule": ("linear", True),
    "train.plateau_patience": (3, True),
    "train.plateau_factor": (0.7, True),
    "train.clip_norm": (0.5, True),
    "train.clip_value": (0.5, True),
    "train.average": (0.5, True),
    "train.max_epochs": (77, True),
    "train.patience": (77, True),
    "train.select": ("mae", True),
    "train.keep": (["corr"], True),
    "train.reset_optimizer": (True, True),
    "model.input_dropout": (0.45, True),
    "model.output_dropout": (0.45, True),
    "model.fusion.dropout": (0.45, True),
    "model.fusion.attention_dropout": (0.45, True),
    "model.mixture.dropout": (0.45, True),
    "model.mixture.top_k": (1, True),
    "model.mixture.init_scale": (0.5, True),
    "corpus": ("mosei", False),
    "task": ("msa", False),
    "data.modalities": (["text"], False),
    "data.text_limit": (4, False),
    "data.audio_limit": (None, False),
    "data.like_lengths": (False, False),
    "data.text": ("b", False),
    "data.audio": ("b", False),
    "data.layers.text": ([12], False),
    "data.layers.audio": ([6, 3], False),
    "loss.sentiment": ("mse", False),
    "loss.emotion": ("literal", False),
    "loss.emotion_reduction": ("sum", False),
    "train.batch_size": (4, False),
    "train.accumulate": (2, False),
    "train.optimizer": ("adam", False),
    "train.precision": ("bfloat16", False),
    "train.length_multiple": (4, False),
    "train.modality_dropout": (0.2, True),
    "train.step": ("graphed", False),
    "model.dim": (16, False),
    "model.audio_pool": (2, False),
    "model.adapter": ("none", False),
    "model.share_modalities": (True, False),
    "model.output": ([5], False),
    "model.unimodal_losses": (True, False),
    "model.fusion.layers": (2, False),
    "model.fusion.heads": (4, False),
    "model.fusion.ffn": (9, False),
    "model.fusion.share_directions": (True, False),
    "model.mixture.experts": (4, False),
    "model.mixture.rank": (3, False),
    "model.mixture.task_rank": (3, False),
    "model.mixture.blocks": (2, False),
    "model.mixture.kernel2": (3, False),
    "model.mixture.activation": ("gelu", False),
    "model.mixture.block_post": ("mlore", False),
    "model.mixture.residual": (False, False),
    "model.mixture.router": ("A", False),
    "model.mixture.renormalise": (True, False),
    "model.mixture.noise": (0.4, False),
    "model.mixture.balance": (0.4, False),
}
"""Option of mmolre → another value, and whether a run with it can stand beside one with the usual value."""

OF_THE_HEAD = ("head", "head_source")
"""What cannot be another one with the same head; `test_only_runs_of_one_head_stand_together` is about heads."""

ON = {name: 0.1 for name in OTHER if name.endswith("dropout")}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    loaded = make_cache_for_packs(folder, layers={"text": (8, 12), "audio": (3, 6)})
    for name in ("text.b", "audio.b"):
        add_set(folder, name, dim=5, seed=1)
    return loaded


@pytest.mark.parametrize("name", [name for name, _ in options.flat(make_config("mmolre", "mosi")) if name not in OF_THE_HEAD])
def test_options_that_may_differ_in_a_pack(loaded, name):
    """A preset is a name; the options that it sets are compared one by one."""
    value, may = OTHER[name]
    same = {"data.emotions": "annotated"} | (
        {"train.modality_dropout": 0.0} if name == "data.modalities" else {}
    )  # one cannot be missing
    usual = run(loaded, "mmolre", ON | same)
    if name == "preset":
        other = Run(replace(usual.config, preset=value), usual.tensors, usual.folder)
    else:
        other = run(loaded, "mmolre", ON | same | {name: value})
    assert dict(options.flat(usual.config))[name] != dict(options.flat(other.config))[name]
    assert (signature_of(usual) == signature_of(other)) == may


def test_only_runs_of_one_head_stand_together(loaded):
    assert signature_of(run(loaded, "pre-fusion")) != signature_of(run(loaded, "mmml"))
    assert signature_of(run(loaded, "pre-fusion")) == signature_of(run(loaded, "pre-fusion", {"seed": 3}))


@pytest.mark.parametrize("name", sorted(ON))
def test_a_run_without_dropout_does_not_stand_beside_one_with_it(loaded, name):
    """A run without dropout draws no random numbers, so the others would draw different ones."""
    assert signature_of(run(loaded, "mmolre", ON)) != signature_of(run(loaded, "mmolre", ON | {name: 0.0}))


def test_runs_on_other_rows_do_not_stand_together(loaded):
    """A head for emotions alone is trained on rows with labelled emotions only."""
    points = [{"task": "mer", "data.emotions": "pseudo", "data.minimum_similarity": least} for least in (-1.0, -1.0, 0.5)]
    found = [signature_of(run(loaded, changes=point)) for point in points]
    assert found[0] == found[1] != found[2]


def test_top_k_that_decides_widths_may_not_differ(loaded):
    """An expert of Mod-Squad is as wide as its share of a transformer's layer, unless its width is given."""

    def of(top_k: int, hidden: int | None) -> object:
        return signature_of(run(loaded, "mod-squad", {"model.mixture.top_k": top_k, "model.mixture.hidden": hidden}))

    assert of(1, 4) == of(2, 4)
    assert of(1, None) != of(2, None)


@pytest.mark.parametrize("head", [name for name in TRAINED if name not in TOGETHER])
def test_heads_that_keep_something_between_batches_or_read_videos_are_trained_alone(loaded, head):
    assert signature_of(run(loaded, head)) is None


@pytest.mark.parametrize("head", ["mmolre", "self-mm"])
def test_an_option_out_of_its_range_is_refused_before_anything_is_trained(loaded, head):
    name = "model.output_dropout" if head == "mmolre" else "model.dropout"
    with pytest.raises(InputError, match=r"^A dropout rate is 1\.5, expected 0 to below 1\.$"):
        signature_of(run(loaded, head, {name: 1.5}))


@pytest.mark.parametrize("head", TOGETHER)
def test_what_is_drawn_for_an_utterance_does_not_depend_on_the_padding(loaded, head):
    """In a pack a batch is padded to the longest utterance of all runs."""
    config = run(loaded, head, unlike(head)[2]).config
    torch.manual_seed(0)
    trained, batch = HEADS[head].head(config.model, {"text": 8, "audio": 8}, config.task).train(), random_batch()
    outputs = []
    for one in (batch, pad(batch, 3, 1.0)):
        with drawing_from(torch.tensor(5)):
            outputs.append(trained(one))
    for field in ("sentiment", "emotion_logits"):
        if (values := [getattr(output, field) for output in outputs])[0] is not None:
            torch.testing.assert_close(values[1], values[0], rtol=1e-4, atol=1e-5)
