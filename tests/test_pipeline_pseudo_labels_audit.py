"""The audit's figures against scikit-learn, and what it may and may not use."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score

from data.labels import EMOTIONS, POLARITIES
from data.schema import COLUMNS, TEXT_COLUMNS, validate
from pipeline.pseudo_labels.audit import METRICS, audit
from pipeline.pseudo_labels.rule import Rule, donor_pool, transfer


def corpus(name, count, seed):
    """Made-up utterances in all splits whose emotions go with their polarity and with the first half of the embedding."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(count, 6)).astype(np.float32)
    table = pd.DataFrame({column: [np.nan] * count for column in COLUMNS})
    table[list(TEXT_COLUMNS)] = ""
    table["utterance_id"], table["corpus"], table["position"] = [f"{i:04}" for i in range(count)], name, range(count)
    table["split"] = rng.choice(["train", "valid", "test"], count)
    table["polarity"] = rng.choice(POLARITIES, count)
    for column, emotion in enumerate(EMOTIONS[:5]):
        table[emotion] = ((embeddings[:, column] + 0.3 * rng.normal(size=count)) > 0.5) * 1.5
    table["fear"] = 0.0
    return validate(table, "here"), embeddings


@pytest.fixture
def held_out():
    return corpus("meld", 240, seed=1)


@pytest.fixture
def others():
    return [corpus("mosei", 300, seed=2), corpus("iemocap", 100, seed=3)]


def sklearn_scores(present, guess):
    each = {
        emotion: {
            "accuracy": accuracy_score(present[:, i], guess[:, i]),
            "f1": f1_score(present[:, i], guess[:, i], zero_division=0),
            "weighted_f1": f1_score(present[:, i], guess[:, i], average="weighted", zero_division=0),
        }
        for i, emotion in enumerate(EMOTIONS)
    }
    return {**each, "mean": {metric: np.mean([each[emotion][metric] for emotion in EMOTIONS]) for metric in METRICS}}


def test_scores_are_those_of_scikit_learn(held_out, others):
    table, embeddings = held_out
    rule, rows = Rule(minimum_similarity=0.8), np.flatnonzero(held_out[0]["split"] == "test")
    result = audit(table, embeddings, donor_pool([held_out, *others], rule), rule)
    ledger = transfer(table.iloc[rows], embeddings[rows], donor_pool(others, rule), rule)
    labelled = (ledger["abstained"] == "").to_numpy()
    present = table[list(EMOTIONS)].to_numpy()[rows][labelled] > 0
    assert 0 < labelled.sum() < len(rows)
    assert result["num_utterances"] == labelled.sum()
    assert result["abstained"] == (~labelled).sum()
    assert result["positives"] == {emotion: present[:, i].sum() for i, emotion in enumerate(EMOTIONS)}
    ours, majority = ledger.loc[labelled, list(EMOTIONS)].to_numpy() > 0, np.tile(present.mean(axis=0) > 0.5, (len(present), 1))
    for method, guess in {"ours": ours, "majority": majority}.items():
        expected = sklearn_scores(present, guess)
        assert set(result[method]) == set(expected)
        for emotion, scores in expected.items():
            assert result[method][emotion] == pytest.approx(scores, abs=1e-12)
    assert result["ours"]["mean"]["f1"] > result["random"]["mean"]["f1"] + 0.1
    assert result["majority"]["fear"] == {"accuracy": 1.0, "f1": 0.0, "weighted_f1": 1.0}


def test_donors_are_the_training_splits_of_the_other_corpora(held_out, others):
    result = audit(*held_out, donor_pool([held_out, *others], Rule()), Rule())
    assert result["donors"] == {table["corpus"][0]: (table["split"] == "train").sum() for table, _ in others}
    own = held_out[0].copy()
    own.loc[own["split"] != "test", list(EMOTIONS)] = 3.0
    assert audit(own, held_out[1], donor_pool([(own, held_out[1]), *others], Rule()), Rule()) == result


def test_a_random_donor_has_the_polarity_of_the_target_and_is_fixed_by_the_seed(held_out, others):
    def told_by_polarity(table, embeddings):
        return table.assign(**dict.fromkeys(EMOTIONS, (table["polarity"] == "positive") * 1.0)), embeddings

    told = audit(*told_by_polarity(*held_out), donor_pool([told_by_polarity(*other) for other in others], Rule()), Rule())
    assert told["random"]["mean"]["accuracy"] == 1.0
    pool = donor_pool(others, Rule())
    results = [audit(*held_out, pool, Rule(), seed=seed) for seed in (4, 4, 5)]
    assert results[0] == results[1]
    assert results[0]["random"] != results[2]["random"]
    assert results[0]["ours"] == results[2]["ours"]


def test_result_is_json(held_out, others):
    result = audit(*held_out, donor_pool(others, Rule()), Rule(), seed=9)
    assert json.loads(json.dumps(result)) == result
    assert (result["corpus"], result["possible"], result["seed"], result["rule"]) == ("meld", True, 9, str(Rule()))


def test_without_donors_targets_or_an_answer_it_says_why(held_out, others):
    table, embeddings = held_out
    facts = {"corpus": "meld", "possible": False, "rule": str(Rule()), "seed": 0}
    own_only = audit(table, embeddings, donor_pool([held_out], Rule()), Rule())
    assert own_only == {**facts, "reason": "no donor from any other corpus"}
    unlabelled = audit(table.assign(fear=np.nan), embeddings, donor_pool(others, Rule()), Rule())
    assert unlabelled == {**facts, "reason": "no test utterance with all six emotions and a polarity"}
    strict = Rule(minimum_similarity=1.0)
    silent = audit(table, embeddings, donor_pool(others, strict), strict)
    assert silent == {**facts, "rule": str(strict), "reason": f"all {(table['split'] == 'test').sum()} targets abstained"}
