"""IEMOCAP: turns, categories, speakers and sessions, with the irregular lines of the release."""

import numpy as np
import pytest

from data.corpora import read_corpus
from data.errors import InputError
from data.labels import EMOTIONS

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"


def put(root, path, text="", encoding="utf-8"):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding=encoding)


def dialog(root, session, name, lines, codes, encoding="utf-8"):
    put(root, f"Session{session}/dialog/transcriptions/{name}.txt", "".join(f"{line}\n" for line in lines), encoding)
    blocks = [
        f"[6.2901 - 8.2357]\t{utterance}\t{code}\t[2.5000, 2.5000, 2.5000]\n"
        f"C-E2:\tNeutral;\t()\nC-F1:\tNeutral; Other;\t(curious)\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"
        for utterance, code in codes.items()
    ]
    put(root, f"Session{session}/dialog/EmoEvaluation/{name}.txt", HEADER + "".join(blocks))


def column(corpus, name):
    return corpus.utterances[name].tolist()


def found(corpus, kind):
    return [finding.where for finding in corpus.findings if finding.kind == kind]


def small(root):
    dialog(
        root,
        1,
        "Ses01F_impro01",
        [
            "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse us.",
            "M: [LAUGHTER]",
            "Ses01F_impro01_M000 [007.5712-010.4750]: Sure — why not?",
            "Ses01F_impro01_FXX3 [011.0000-011.5000]: Oh.",
        ],
        {"Ses01F_impro01_M000": "exc", "Ses01F_impro01_F000": "neu", "Ses01F_impro01_M099": "sad"},
    )


def test_turns_have_speaker_category_times_and_what_is_irregular_is_reported(tmp_path):
    small(tmp_path)
    corpus = read_corpus("iemocap", tmp_path)
    assert column(corpus, "utterance_id") == ["Ses01F_impro01_F000", "Ses01F_impro01_M000", "Ses01F_impro01_FXX3"]
    assert column(corpus, "video_id") == ["Ses01F_impro01"] * 3
    assert column(corpus, "clip_id") == ["F000", "M000", "FXX3"]
    assert column(corpus, "speaker") == ["Ses01F", "Ses01M", "Ses01F"]
    assert column(corpus, "text") == ["Excuse us.", "Sure — why not?", "Oh."]
    assert column(corpus, "category") == ["neu", "exc", ""]
    assert column(corpus, "label_source") == ["EmoEvaluation", "EmoEvaluation", ""]
    np.testing.assert_array_equal(corpus.utterances[list(EMOTIONS)], [[0] * 6, [1, 0, 0, 0, 0, 0], [np.nan] * 6])
    assert corpus.utterances[["sentiment", "start_s"]].isna().all(axis=None)
    np.testing.assert_allclose(column(corpus, "duration_s"), [1.9456, 2.9038, 0.5])
    assert set(column(corpus, "polarity")) == {""}
    assert found(corpus, "unlabelled") == ["Ses01F_impro01_FXX3"]
    assert found(corpus, "unused") == ["Ses01F_impro01.txt:2"]
    assert found(corpus, "unmatched") == ["Ses01F_impro01.txt:13"]
    assert found(corpus, "overlap") == ["Ses01F_impro01"]
    assert found(corpus, "missing") == ["Session2", "Session3", "Session4", "Session5"]
    assert column(corpus, "excluded") == [""] * 3


def test_codes_without_counterpart_have_a_category_but_no_emotions(tmp_path):
    name = "Ses02M_script01_1"
    lines = [f"{name}_F00{n} [00{n}.0000-00{n}.5000]: Words." for n in range(4)]
    dialog(tmp_path, 2, name, lines, dict(zip([f"{name}_F00{n}" for n in range(4)], ["fru", "xxx", "ang", "oth"], strict=True)))
    corpus = read_corpus("iemocap", tmp_path)
    assert column(corpus, "category") == ["fru", "xxx", "ang", "oth"]
    np.testing.assert_array_equal(column(corpus, "anger"), [np.nan, np.nan, 1, np.nan])
    assert found(corpus, "unlabelled") == []


def test_sessions_are_held_apart_by_split(tmp_path):
    for session in range(1, 6):
        name = f"Ses0{session}F_impro05b"
        dialog(tmp_path, session, name, [f"{name}_M012 [001.0000-002.0000]: Words."], {f"{name}_M012": "hap"})
    corpus = read_corpus("iemocap", tmp_path)
    assert column(corpus, "split") == ["train", "train", "train", "valid", "test"]
    assert corpus.findings == ()
    assert len(corpus.sources) == 10


def test_turns_are_in_the_order_of_their_starts(tmp_path):
    name = "Ses01F_impro02"
    lines = [f"{name}_M001 [009.0-010.0]: Later.", f"{name}_F000 [001.0-002.0]: First.", f"{name}_M000 [001.0-002.5]: Second."]
    dialog(tmp_path, 1, name, lines, {})
    assert column(read_corpus("iemocap", tmp_path), "text") == ["First.", "Second.", "Later."]


def test_latin1_bytes_are_read_and_folders_and_dot_files_beside_are_not(tmp_path):
    name = "Ses01F_impro03"
    dialog(tmp_path, 1, name, [f"{name}_F000 [001.0-002.0]: A café."], {f"{name}_F000": "hap"}, encoding="latin-1")
    for beside in ("Attribute", "Categorical", "Self-evaluation"):
        put(tmp_path, f"Session1/dialog/EmoEvaluation/{beside}/{name}_e1.txt", "[not a label")
    put(tmp_path, f"Session1/dialog/EmoEvaluation/._{name}.txt", "[not a label")
    put(tmp_path, f"Session1/dialog/transcriptions/._{name}.txt", "Ses nothing")
    corpus = read_corpus("iemocap", tmp_path)
    assert column(corpus, "text") == ["A café."]
    assert column(corpus, "happiness") == [1.0]
    assert len(corpus.sources) == 2


def test_audio_is_found_by_session_dialog_and_turn(tmp_path):
    small(tmp_path)
    dialog(tmp_path, 5, "Ses05M_impro01", ["Ses05M_impro01_F000 [001.0-002.0]: Hm."], {"Ses05M_impro01_F000": "neu"})
    put(tmp_path, "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav")
    put(tmp_path, "Session1/sentences/wav/Ses01F_impro01/._Ses01F_impro01_M000.wav")
    put(tmp_path, "Session5/sentences/wav/Ses05M_impro01/Ses05M_impro01_F000.flac")
    put(tmp_path, "Session5/sentences/wav/Ses05M_impro01/Ses05M_impro01_F777.wav")
    corpus = read_corpus("iemocap", tmp_path)
    assert column(corpus, "media") == [
        "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav",
        "",
        "",
        "Session5/sentences/wav/Ses05M_impro01/Ses05M_impro01_F000.flac",
    ]
    expected = "missing media: expected Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav"
    assert column(corpus, "excluded")[1] == expected
    assert "Session5/sentences/wav/Ses05M_impro01/Ses05M_impro01_F777.wav" in found(corpus, "unused")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Ses01F_impro01_F001 006.2-008.2: Words.", r"Ses01F_impro01\.txt:1: line is 'Ses01F_impro01_F001 006"),
        ("Ses01F_impro01_X001 [006.2-008.2]: Words.", "expected 'Ses01F_impro01_<F or M><number>"),
        ("Ses01F_impro02_F001 [006.2-008.2]: Words.", "expected 'Ses01F_impro01_<F or M><number>"),
        ("Ses01F_impro01_F001 [006.2.1-008.2]: Words.", r"txt:1: time is '006\.2\.1', expected seconds"),
    ],
)
def test_a_bad_turn_is_named(tmp_path, line, message):
    dialog(tmp_path, 1, "Ses01F_impro01", [line], {})
    with pytest.raises(InputError, match=message):
        read_corpus("iemocap", tmp_path)


def test_a_repeated_turn_without_category_is_reported_and_its_first_line_read(tmp_path):
    name = "Ses01F_impro01"
    lines = [f"{name}_FXX3 [001.0-002.0]: First.", f"{name}_M000 [003.0-004.0]: Then.", f"{name}_FXX3 [005.0-006.0]: Last."]
    dialog(tmp_path, 1, name, [*lines, f"{name}_FXX3 [005.0-006.0]: Last."], {f"{name}_M000": "neu"})
    corpus = read_corpus("iemocap", tmp_path)
    assert column(corpus, "text") == ["First.", "Then."]
    assert found(corpus, "duplicate") == [f"{name}.txt:3", f"{name}.txt:4"]
    assert found(corpus, "unlabelled") == [f"{name}_FXX3"]


@pytest.mark.parametrize("turn", ["M000", "MXX0"])
def test_a_repeated_turn_with_category_is_named(tmp_path, turn):
    name = "Ses01F_impro01"
    dialog(tmp_path, 1, name, [f"{name}_{turn} [003.0-004.0]: Then."] * 2, {f"{name}_{turn}": "neu"})
    with pytest.raises(
        InputError, match=rf"Ses01F_impro01\.txt:2: turn '{name}_{turn}' is in the file already, .* each utterance once"
    ):
        read_corpus("iemocap", tmp_path)


def test_a_repeated_turn_is_named(tmp_path):
    dialog(tmp_path, 1, "Ses01F_impro01", ["Ses01F_impro01_F001 [006.2-008.2]: Words."] * 2, {})
    with pytest.raises(InputError, match=r"Ses01F_impro01\.txt:2: .*each utterance once"):
        read_corpus("iemocap", tmp_path)


def test_a_bad_category_line_is_named(tmp_path):
    dialog(tmp_path, 1, "Ses01F_impro01", ["Ses01F_impro01_F001 [006.2-008.2]: Words."], {"Ses01F_impro01_F001": "hpa"})
    with pytest.raises(InputError, match=r"Unknown emotion code in .*EmoEvaluation/Ses01F_impro01\.txt:3: 'hpa'\. Did you mean"):
        read_corpus("iemocap", tmp_path)
    put(tmp_path, "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt", HEADER + "[6.2 - 8.2] Ses01F_impro01_F001 hap\n")
    with pytest.raises(InputError, match=r"Ses01F_impro01\.txt:3: line is '\[6\.2 - 8\.2\] Ses01.*<tab><code>"):
        read_corpus("iemocap", tmp_path)


def test_a_folder_without_sessions_says_what_was_expected(tmp_path):
    with pytest.raises(InputError, match="Give the folder that holds Session1 to Session5"):
        read_corpus("iemocap", tmp_path)
