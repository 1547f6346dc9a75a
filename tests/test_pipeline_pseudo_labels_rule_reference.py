"""The ledger against the rule read aloud in plain Python, and what must not change it."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import JOY, manifest, vectors

from data.labels import EMOTIONS
from pipeline.pseudo_labels.rule import Rule, donor_pool, transfer


def label(targets, embeddings, donors, rule, **options):
    return transfer(targets, embeddings, donor_pool(donors, rule), rule, **options)


@st.composite
def builds(draw):
    """Targets and two donor corpora of few sentences, so that the same sentence, ties and all polarities occur often."""
    sentences = draw(st.lists(st.tuples(*[st.integers(-2, 2)] * 3).filter(any), min_size=1, max_size=8))

    def corpus(name, least):
        row = st.fixed_dictionaries(
            {
                "sentiment": st.sampled_from([-1.0, 0.0, 2.0, np.nan]),
                "split": st.sampled_from(["train", "valid", "test", ""]),
                **dict.fromkeys(EMOTIONS, st.sampled_from([0.0, 0.0, 1.0, 2.5])),
                "fear": st.sampled_from([0.0, 1.0, np.nan]),
            }
        )
        rows = draw(st.lists(row, min_size=least, max_size=14))
        said = draw(st.lists(st.sampled_from(sentences), min_size=len(rows), max_size=len(rows)))
        return manifest(name, rows), np.array(said, dtype=np.float32).reshape(-1, 3)

    sure = (manifest("sure", [{"sentiment": 1.0, **JOY}]), vectors(sentences[0]))
    return corpus("mosi", 1), [corpus("mosi", 0), corpus("meld", 0), sure]


def read_aloud(target, said, donors, rule):
    """(donors in order, ties, abstained, emotions) of one target: the rule without a line of the code under test."""
    if np.isnan(target["sentiment"]):
        return [], 0, "no polarity", None
    left = {
        (donor["corpus"], donor["utterance_id"]): (max(-1.0, np.dot(said, heard) / np.linalg.norm(said) / np.linalg.norm(heard)), donor)
        for donor, heard in donors
        if donor["split"] in rule.donor_splits
        and not any(np.isnan(donor[emotion]) for emotion in EMOTIONS)
        and np.sign(donor["sentiment"]) == np.sign(target["sentiment"])
        and (donor["corpus"], donor["utterance_id"]) != (target["corpus"], target["utterance_id"])
    }
    order, tied = [], None
    while left:
        top = max(similarity for similarity, _ in left.values())
        near = [key for key, (similarity, _) in left.items() if similarity >= top - rule.tie_tolerance]
        tied = len(near) if tied is None else tied
        order.append((min(near), *left.pop(min(near))))
    if not order:
        return [], 0, "no donor of this polarity", None
    if order[0][1] < rule.minimum_similarity:
        return order, tied, f"similarity below {rule.minimum_similarity:g}", None
    voters = [donor for _, similarity, donor in order[: rule.neighbours] if similarity >= rule.minimum_similarity]
    having = {emotion: [v[emotion] for v in voters if v[emotion] > 0] for emotion in EMOTIONS}
    return order, tied, "", [sum(h) / len(h) if 2 * len(h) > len(voters) else 0.0 for h in having.values()]


@settings(max_examples=50, deadline=None)
@given(
    build=builds(),
    neighbours=st.integers(1, 4),
    minimum=st.sampled_from([-1.0, 0.3]),
    splits=st.sampled_from([("train",), ("train", "test")]),
    block=st.sampled_from([1, 7, 64]),
)
def test_ledger_equals_the_rule_read_aloud(build, neighbours, minimum, splits, block):
    (targets, said), corpora = build
    rule = Rule(neighbours=neighbours, minimum_similarity=minimum, donor_splits=splits)
    ledger = label(targets, said, corpora, rule, block=block)
    donors = [
        (row, vector.astype(float)) for table, heard in corpora for row, vector in zip(table.to_dict("records"), heard, strict=True)
    ]
    assert len(ledger) == len(targets)
    for row, target, vector in zip(ledger.to_dict("records"), targets.to_dict("records"), said.astype(float), strict=True):
        order, tied, abstained, labels = read_aloud(target, vector, donors, rule)
        names = [name for name, _, _ in order] + [("", "")] * 2
        values = [similarity for _, similarity, _ in order] + [np.nan] * 2
        assert (row["donor_corpus"], row["donor_id"]) == names[0]
        assert (row["runner_up_corpus"], row["runner_up_id"]) == names[1]
        assert [row["similarity"], row["runner_up_similarity"]] == pytest.approx(values[:2], abs=1e-12, nan_ok=True)
        assert row["margin"] == pytest.approx(values[0] - values[1], abs=1e-12, nan_ok=True)
        assert (row["tied"], row["abstained"]) == (tied, abstained)
        assert [row[emotion] for emotion in EMOTIONS] == pytest.approx(labels or [np.nan] * 6, nan_ok=True)


def test_ledger_does_not_depend_on_blocks_or_on_the_order_of_donors():
    rng = np.random.default_rng(11)

    def corpus(name, count):
        rows = [{"sentiment": float(s), "utterance_id": f"{i:03}", **JOY} for i, s in enumerate(rng.integers(-1, 2, count))]
        return manifest(name, rows), rng.choice(rng.normal(size=(60, 12)), count).astype(np.float32)

    (targets, said), mosei, meld = corpus("mosi", 50), corpus("mosei", 150), corpus("meld", 90)
    expected = label(targets, said, [mosei, meld], Rule(neighbours=3))
    assert Counter(expected["tied"] > 1)[True] > 10
    for block in (1, 7, 64):
        pd.testing.assert_frame_equal(label(targets, said, [mosei, meld], Rule(neighbours=3), block=block), expected, check_exact=True)
    order = rng.permutation(150)
    shuffled = (mosei[0].iloc[order], mosei[1][order])
    pd.testing.assert_frame_equal(label(targets, said, [meld, shuffled], Rule(neighbours=3)), expected, check_exact=True)
