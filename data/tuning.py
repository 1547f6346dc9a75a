"""What features owe to the task: their encoder is frozen, adapted (on what), or tuned elsewhere. Every report uses these words.

A feature file has the word in its attribute `encoder`, as `tuning`; where there is none, the features are frozen.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

FROZEN, ADAPTED, TUNED_ELSEWHERE = "frozen", "adapted on ", "tuned elsewhere"
"""The weights are those of a published model; they have learned the task in a build, on the corpora that follow; or they are in a
folder of the user that is not known as a published model. `adapted_on` joins two of the words."""

_SENTENCES = {
    FROZEN: "{} frozen: the encoders ran once and learn nothing further. The paper fine-tunes its encoders, so these results are those"
    " of another experiment.",
    ADAPTED: "{} {}: the encoder learned the task once, on the training split, chose its epoch by the validation split, and learns"
    " nothing further. The paper fine-tunes its encoders together with each head.",
    TUNED_ELSEWHERE: "{} {}: the weights were in a folder of the user. What they had learned there, and from which clips, is not known"
    " here.",
}


def tuning_of(facts: Any) -> str:
    """Return the word for an attribute `encoder`: `FROZEN`, `TUNED_ELSEWHERE`, or `ADAPTED` and the names of corpora."""
    return str(facts.get("tuning", FROZEN)) if isinstance(facts, Mapping) else FROZEN


def adapted_on(corpora: str, before: str = FROZEN) -> str:
    """Return the word for an encoder that learned the task on some corpora, and began with weights for which another word holds."""
    if before == FROZEN:
        return ADAPTED + corpora
    return f"{before}, then on {corpora}" if ADAPTED in before else f"{before}, then {ADAPTED}{corpora}"


def encoder_words(facts: Any) -> str:
    """Return the name of an encoder, with what sets it apart in brackets: "minilm", "x (tuned elsewhere)", "y (untrained)"."""
    if not isinstance(facts, Mapping):
        return str(facts)
    apart = [*(["untrained"] if facts.get("trained") is False else []), *({tuning_of(facts)} - {FROZEN})]
    return " ".join([str(facts.get("name")), *([f"({', '.join(apart)})"] if apart else [])])


def tunings(encoders: Iterable[str]) -> dict[str, list[str]]:
    """Group encoders, as `encoder_words` writes them, by the word for them; frozen ones first."""
    found: dict[str, list[str]] = {}
    for words in encoders:
        match = re.fullmatch(rf"(.*) \((?:untrained, )?((?:{ADAPTED}|{TUNED_ELSEWHERE}).*)\)", words)
        name, word = (match[1], match[2]) if match else (words, FROZEN)
        found.setdefault(word, []).append(name)
    return dict(sorted(found.items(), key=lambda pair: (pair[0] != FROZEN, pair[0])))


def note(encoders: Iterable[str]) -> str:
    """Return what a reader of results on these encoders' features must know; encoders as `encoder_words` writes them."""
    groups = tunings(encoders) or {FROZEN: []}
    said = []
    for word, names in groups.items():
        subject = "The features are" if len(groups) == 1 else f"The features of {', '.join(names)} are"
        sentence = next(text for start, text in _SENTENCES.items() if word.startswith(start))
        said.append(sentence.format(subject, word))
    return " ".join(said)
