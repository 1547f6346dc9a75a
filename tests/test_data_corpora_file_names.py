"""File names of acted speech: every name of a scheme is read as its parts say, and no other text is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.corpora.file_names import SCHEMES, Clip, read_cremad, read_emodb, read_ravdess

RAVDESS = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]
CREMAD = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness"}
EMODB = {"W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral"}
FEMALE = {"08", "09", "13", "14", "16"}


@given(st.sampled_from(["01", "03"]), st.integers(1, 8), st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), st.integers(1, 24))
def test_names_of_ravdess(modality, emotion, intensity, sentence, repetition, actor):
    found = read_ravdess(f"{modality}-01-{emotion:02d}-{intensity:02d}-{sentence:02d}-{repetition:02d}-{actor:02d}")
    if emotion == intensity - 1 == 1:
        assert found == "strong intensity, which neutral has not"
        return
    assert isinstance(found, Clip)
    assert (found.emotion, found.speaker) == (RAVDESS[emotion - 1], f"actor{actor:02d}")
    assert found.text.startswith(["Kids are talking", "Dogs are sitting"][sentence - 1])
    assert found.others == {
        "intensity": ["normal", "strong"][intensity - 1],
        "statement": f"{sentence:02d}",
        "repetition": f"{repetition:02d}",
        "sex": ["female", "male"][actor % 2],
    }
    assert found.key == f"01-{emotion:02d}-{intensity:02d}-{sentence:02d}-{repetition:02d}-{actor:02d}"


@given(
    st.integers(1001, 1091),
    st.sampled_from(["IEO", "DFA", "WSI"]),
    st.sampled_from(sorted(CREMAD)),
    st.sampled_from(["LO", "MD", "HI", "XX", "X"]),
)
def test_names_of_crema_d(actor, sentence, emotion, level):
    found = read_cremad(f"{actor}_{sentence}_{emotion}_{level}")
    assert isinstance(found, Clip)
    assert (found.emotion, found.speaker) == (CREMAD[emotion], str(actor))
    assert (
        found.text
        == {"IEO": "It's eleven o'clock", "DFA": "Don't forget a jacket", "WSI": "We'll stop in a couple of minutes"}[sentence]
    )
    levels = {"LO": "low", "MD": "medium", "HI": "high"}
    assert found.others == {"intensity": levels.get(level, "unspecified"), "statement": sentence}


@given(
    st.sampled_from(["03", "08", "09", "10", "11", "12", "13", "14", "15", "16"]),
    st.sampled_from(["a01", "a07", "b10"]),
    st.sampled_from(sorted(EMODB)),
    st.sampled_from("abcdef"),
)
def test_names_of_emodb(speaker, sentence, emotion, version):
    found = read_emodb(f"{speaker}{sentence}{emotion}{version}")
    assert isinstance(found, Clip)
    assert (found.emotion, found.speaker) == (EMODB[emotion], speaker)
    assert found.text.split()[0] == {"a01": "Der", "a07": "In", "b10": "Die"}[sentence]
    assert found.others == {"statement": sentence, "repetition": version, "sex": "female" if speaker in FEMALE else "male"}


@given(
    st.sampled_from(sorted(SCHEMES)),
    st.one_of(st.text(max_size=24), st.from_regex(r"[0-9]{2}(-[0-9]{2}){5,7}|[0-9a-zA-Z_]{1,20}", fullmatch=True)),
)
def test_any_other_text_is_refused_with_a_reason(scheme, name):
    found = SCHEMES[scheme].read(name)
    assert isinstance(found, str) or name.isprintable()
    if isinstance(found, str):
        assert found
        assert "\n" not in found or "\n" in name


@pytest.mark.parametrize(
    ("scheme", "name", "why"),
    [
        ("ravdess", "03-02-06-01-02-01-12", "song; only speech is read"),
        ("ravdess", "02-01-06-01-02-01-12", "a film without sound"),
        ("ravdess", "03-01-09-01-02-01-12", "emotion is 09, expected 01 to 08"),
        ("ravdess", "03-01-06-01-02-01-25", "actor is 25, expected 01 to 24"),
        ("ravdess", "03-01-06-03-02-01-12", "intensity is 03, expected 01 or 02"),
        ("ravdess", "03-01-06-01-02-01", "expected seven numbers of two digits"),
        ("ravdess", "03-01-06-01-02-01-1٢", "expected seven numbers of two digits"),
        ("crema-d", "1092_DFA_ANG_XX", "actor is 1092, expected 1001 to 1091"),
        ("crema-d", "1001_DFA_CAL_XX", "emotion is CAL, expected one of ANG, DIS, FEA, HAP, NEU, SAD"),
        ("crema-d", "1001_DFA_ANG", "expected four parts"),
        ("emodb", "04a01Fa", "speaker is 04, expected one of 03, 08, 09, 10, 11, 12, 13, 14, 15, 16"),
        ("emodb", "03a01Xa", "emotion is X, expected one of W, L, E, A, F, T, N"),
        ("emodb", "03a01F", "expected seven characters"),
    ],
)
def test_what_is_wrong_is_said(scheme, name, why):
    assert SCHEMES[scheme].read(name) == why


def test_no_speaker_is_in_two_splits_and_an_example_is_read():
    for scheme in SCHEMES.values():
        assert isinstance(scheme.read(scheme.form), Clip)
        assert not set(scheme.valid) & set(scheme.test)
        assert len(scheme.valid) >= 2 <= len(scheme.test)
