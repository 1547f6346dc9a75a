"""Confusion of classes of sentiment, against the metrics and against counts made by hand."""

import numpy as np
import pytest

from heads.evaluation.confusion import of_classes, of_polarity
from heads.evaluation.metrics import sentiment_metrics

TRUTH = np.array([-3, -1.4, 0, 0.2, 2.6, 3, np.nan, -0.6])
PREDICTION = np.array([-9, 0.4, -0.1, 0.7, 2.4, 3.3, 2, -0.7])


def test_the_diagonal_is_what_acc7_and_acc5_count():
    metrics = sentiment_metrics(PREDICTION, TRUTH)
    for name, limit in (("acc7", 3), ("acc5", 2)):
        found = of_classes(PREDICTION, TRUTH, limit)
        assert found.counts.sum() == 7
        assert np.trace(found.counts) / 7 == pytest.approx(metrics[name])
    assert found.classes == ("−2", "−1", "0", "+1", "+2")
    assert of_classes(PREDICTION, TRUTH).counts[6].tolist() == [0, 0, 0, 0, 0, 1, 1]  # truths 2.6 and 3, predicted 2.4 and 3.3


def test_polarity_counts_signs_and_its_corners_are_acc2_non0():
    found = of_polarity(PREDICTION, TRUTH)
    assert found.counts.tolist() == [[2, 0, 1], [1, 0, 0], [0, 0, 3]]
    corners = found.counts[np.ix_([0, 2], [0, 2])]
    assert np.trace(corners) / corners.sum() == pytest.approx(sentiment_metrics(PREDICTION, TRUTH)["acc2_non0"])
    np.testing.assert_allclose(found.shares()[0], [2 / 3, 0, 1 / 3])


def test_nothing_labelled_has_no_shares():
    assert np.isnan(of_polarity(np.ones(2), np.full(2, np.nan)).shares()).all()
