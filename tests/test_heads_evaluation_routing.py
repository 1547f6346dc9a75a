"""The expert X-ray: exact numbers from gates made by hand."""

import json

import numpy as np
import pytest
import torch
from batches import random_batch

from data.errors import InputError
from data.labels import EMOTIONS
from heads.evaluation.routing import xray
from heads.models.mixtures.unitse import UniTSEOptions
from heads.models.mmolre import MMoLRE, MMoLREOptions
from heads.models.parts.fusion import FusionOptions

MSA = np.array([[0.5, 0.25, 0.0, 0.0], [0.5, 0.0, 0.25, 0.0]])
MER = np.array([[0.5, 0.25, 0.0, 0.0], [0.0, 0.25, 0.0, 0.75]])
HAPPY_AND_SAD = np.array([[1, 0, 0, 0, 0, np.nan], [0.5, 2, 0, 0, 0, np.nan]])


@pytest.fixture
def report():
    return xray({"text/block1/msa": MSA, "text/block1/mer": MER, "audio/block1/msa": MSA}, HAPPY_AND_SAD)


def test_load_is_the_mean_gate_and_a_dead_expert_is_never_selected(report):
    experts = report["experts"]["text/block1/msa"]
    assert experts["load"] == [0.5, 0.125, 0.125, 0.0]
    assert experts["selected"] == [1.0, 0.5, 0.5, 0.0]
    assert experts["dead"] == [3]
    assert report["experts"]["text/block1/mer"]["dead"] == [2]


def test_squared_variation_is_of_the_load(report):
    load = np.array([0.5, 0.125, 0.125, 0.0])
    assert report["experts"]["text/block1/msa"]["squared_variation"] == pytest.approx(load.var(ddof=1) / load.mean() ** 2)


def test_overlap_is_the_mean_jaccard_index_of_the_tasks(report):
    assert report["overlap"] == {"text/block1": pytest.approx((2 / 2 + 0 / 4) / 2)}


def test_gates_by_emotion_are_means_over_the_utterances_that_have_it(report):
    by_emotion = report["experts"]["text/block1/mer"]["by_emotion"]
    assert by_emotion["happiness"] == [0.25, 0.25, 0.0, 0.375]
    assert by_emotion["sadness"] == [0.0, 0.25, 0.0, 0.75]
    assert [by_emotion[emotion] for emotion in EMOTIONS[2:]] == [None] * 4
    assert report["emotions"] == {"happiness": 2, "sadness": 1, "anger": 0, "surprise": 0, "disgust": 0, "fear": 0}
    assert report["utterances"] == 2


def test_a_report_survives_json(report):
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_a_single_expert_has_an_even_load():
    assert xray({"text/block1/msa": np.ones((3, 1))}, np.zeros((3, 6)))["experts"]["text/block1/msa"]["squared_variation"] == 0.0


def test_a_head_without_routers_is_refused_by_name_of_one_that_has_them():
    with pytest.raises(InputError, match=r"no routers.*such as mmolre"):
        xray({}, np.zeros((3, 6)))


def test_the_routing_of_a_head_is_reported_for_each_modality_block_and_task():
    batch = random_batch()
    options = MMoLREOptions(
        mixture=UniTSEOptions(experts=4, rank=2, task_rank=2, top_k=3), fusion=FusionOptions(layers=1, heads=2, ffn=8), output=(4,)
    )
    head = MMoLRE(options, {"text": 8, "audio": 8}, "both").eval()
    with torch.inference_mode():
        report = xray({key: gates.numpy() for key, gates in head(batch).aux.routing.items()}, batch.emotions.numpy())
    assert report["utterances"] == 3
    assert set(report["experts"]) == {f"{m}/block{n}/{t}" for m in ("text", "audio") for n in (1, 2) for t in ("msa", "mer")}
    assert all(sum(part["selected"]) == pytest.approx(3) for part in report["experts"].values())
