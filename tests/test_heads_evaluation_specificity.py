"""What experts are specific to, against utterances that are repeated as often as their gates say."""

import numpy as np
import pytest

from heads.evaluation.specificity import experts


def test_traits_are_means_over_repeated_utterances_in_standard_deviations():
    gates = np.array([[0, 3, 1, 2], [1, 1, 1, 1], [0, 0, 0, 0]]).T
    sentiment, anger = np.array([-2.0, 1, 3, 0]), np.array([0, 1, np.nan, 1])
    first, second = experts({"text/block1/msa": gates}, {"sentiment": sentiment, "anger": anger, "constant": np.ones(4)})
    assert [first.number, second.number] == [0, 1]
    assert (first.load, first.utterances) == (1.5, 6**2 / (9 + 1 + 4))
    traits = {trait.name: trait for trait in first.traits}
    repeated = np.repeat(sentiment, gates[:, 0])
    assert traits["sentiment"].mean == pytest.approx(repeated.mean())
    assert traits["sentiment"].effect == pytest.approx((repeated.mean() - sentiment.mean()) / sentiment.std())
    assert traits["anger"].mean == 1  # 3 and 2 times with, and the utterance without has a gate of 0
    assert traits["anger"].effect == pytest.approx((1 - 2 / 3) / np.std([0, 1, 1]))
    assert [trait.name for trait in first.traits] == ["anger", "sentiment"]
    assert [trait.effect for trait in second.traits] == [0, 0]


def test_experts_of_few_utterances_come_last_however_specific_they_seem():
    sentiment = np.linspace(-3, 3, 60)
    gates = np.stack([sentiment > 0, np.arange(60) == 59, np.ones(60)], 1).astype(float)
    found = experts({"audio/block1/mer": gates}, {"sentiment": sentiment})
    assert [(one.number, one.is_certain, round(one.utterances)) for one in found] == [(0, True, 30), (2, True, 60), (1, False, 1)]
    assert experts({"audio/block1/mer": gates}, {})[0].traits == ()
