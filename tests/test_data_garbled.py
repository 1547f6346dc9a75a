"""Texts that a wrong encoding has damaged are recognised; texts of any language are left alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpora import read_corpus
from data.garbled import garbling


@pytest.mark.parametrize(
    ("meant", "found"),
    [
        ("It\u2019s \u201cfine\u201d", "\u2019"),
        ("wait\u2014what\u2026", "\u2014"),
        ("A café", "é"),
        ("über Größe", "ü"),
        ("ÉCOLE", "É"),
        ("À LA CARTE", "À"),
        ("30 °C for £5", "°"),
        ("so happy 😊", "😊"),
        ("Привет", "Привет"),
        ("你好", "你好"),
    ],
)
@pytest.mark.parametrize("codec", ["cp1252", "latin-1"])
def test_utf8_read_in_another_encoding_is_named_with_what_was_meant(meant, found, codec):
    misread = "".join(bytes([byte]).decode(codec, errors="ignore") or chr(byte) for byte in meant.encode())
    said = garbling(misread)
    assert said.endswith("in UTF-8 that was read as Windows-1252")
    assert f" is {found!r} in UTF-8" in said
    assert garbling(meant) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("I\x92m here", "control character U+0092"),
        ("wait\x85", "control character U+0085"),
        ("a\x00b", "control character U+0000"),
        ("\x1b[1mbold", "control character U+001B"),
        ("don\ufffdt", "U+FFFD stands for a lost character"),
    ],
)
def test_control_characters_and_lost_characters_are_named(text, said):
    assert garbling(text) == said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Line\nbreak\tand tab\r\n",
        "«Voilà…» — a café’s “menu”",
        "CAFÉ” and FIANCÉ’S, MAÇÃ»",
        "São Paulo, AMANHÃ, Âncora",
        "Đây là tiếng Việt: Âm thanh, Ấn",
        "Ærø, Ðað, þú; naïve, Zoë’s",
        "«Привет», сказал он… — Да!",
        "你好，世界！こんにちは 안녕",
        "😊👍🏽 zero\u200dwidth \ufeff and 50\u00a0%",
        "ça va « très » bien : l’été à 30 °C, 5 £",
    ],
)
def test_texts_of_any_language_are_left_alone(text):
    assert garbling(text) == ""


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=0xC0, max_codepoint=0x151)))
def test_letters_alone_are_never_garbled(text):
    assert garbling(text) == ""


def test_a_corpus_reports_each_text_with_its_line_and_keeps_it(tmp_path):
    header = "Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID"
    rows = ["A tram.,Bo,joy,positive,0,0", "I\x92m late.,Bo,joy,positive,0,1"]
    (tmp_path / "dev_sent_emo.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    corpus = read_corpus("meld", tmp_path)
    assert [(f.where, f.message) for f in corpus.findings if f.kind == "garbled"] == [
        ("valid/dia0_utt1", "dev_sent_emo.csv:3: control character U+0092")
    ]
    assert corpus.utterances["text"].tolist() == ["A tram.", "I\x92m late."]


@pytest.mark.parametrize("reader", ["folder", "mosi", "mosei"])
def test_a_text_of_label_csv_is_named_by_its_line(tmp_path, reader):
    rows = ["v,1,A tram.,2,train", "v,2,No\x00 tram.,-2,train"]
    (tmp_path / "label.csv").write_text("\n".join(["video_id,clip_id,text,label,mode", *rows]) + "\n", encoding="utf-8")
    found = [(f.where, f.message) for f in read_corpus(reader, tmp_path).findings if f.kind == "garbled"]
    assert found == [("v[2]", "label.csv:3: control character U+0000")]


def test_a_line_of_a_transcript_is_named(tmp_path):
    folder = tmp_path / "Session2" / "dialog" / "transcriptions"
    folder.mkdir(parents=True)
    lines = ["M: [LAUGHTER]", "Ses02F_impro09_F000 [001.0000-002.0000]: Itâ€™s late."]
    (folder / "Ses02F_impro09.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = [(f.where, f.message) for f in read_corpus("iemocap", tmp_path).findings if f.kind == "garbled"]
    said = "Ses02F_impro09.txt:2: 'â€™' is '’' in UTF-8 that was read as Windows-1252"
    assert found == [("Ses02F_impro09_F000", said)]
