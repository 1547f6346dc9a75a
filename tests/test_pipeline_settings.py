"""Every setting is checked once, with a message that lists the allowed values."""

from pathlib import Path

import pytest

from data.errors import InputError
from pipeline.settings import CorpusSettings, EncoderSettings, Settings

CLIPS = CorpusSettings("clips", "folder", Path("clips"))


def settings(**changed) -> Settings:
    encoder = EncoderSettings("some-model")
    usual = {"cache": Path("cache"), "corpora": (CLIPS,), "text": encoder, "audio": encoder, "sentence": encoder}
    return Settings(**usual | changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dtype": "bfloat16"}, "Unknown [build] dtype 'bfloat16'. Did you mean 'float16'? Available: float16, float32."),
        ({"precision": "float16"}, "Unknown [build] precision 'float16'. Did you mean 'bfloat16'? Available: float32, bfloat16."),
        ({"on_bad_media": "skip"}, "Unknown [build] on_bad_media 'skip'."),
        ({"device": "gpu"}, "Unknown [build] device 'gpu'."),
        ({"modalities": ("text", "video")}, "Unknown modality in [corpora] modalities: 'video'."),
        ({"shard_clips": 0}, "[build] shard_clips is 0, expected at least 1."),
        ({"players": "linked"}, "Unknown [build] players 'linked'. Did you mean 'link'? Available: link, embed, none."),
        ({"decoders": -1}, "[build] decoders is -1, expected 0 (automatic) or at least 1."),
        ({"corpora": ()}, "No corpus is configured."),
        ({"corpora": (CLIPS, CLIPS)}, "Corpus name 'clips' is used twice. Give every corpus a name of its own."),
        ({"features": ("clip",)}, "Unknown corpus in [corpora] features: 'clip'. Did you mean 'clips'? Available: clips."),
        ({"donors": ("mosei",)}, "Unknown corpus in [pseudo_labels] donors: 'mosei'."),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(changed, message):
    with pytest.raises(InputError) as caught:
        settings(**changed)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"case": "Lower"}, "Unknown text case 'Lower'. Did you mean 'lower'? Available: sentence, lower, keep."),
        ({"pooling": "max"}, "Unknown pooling 'max'. Available: auto, mean, cls, pooler."),
        ({"max_tokens": 2}, "max_tokens is 2, expected 0 (as many as the model takes) or at least 3."),
        ({"max_tokens": -1}, "max_tokens is -1, expected 0"),
        ({"context_s": -1.0}, "context_s is -1, expected 0 (none) or 0.1 to 60 seconds."),
        ({"context_s": 0.01}, "context_s is 0.01, expected"),
        ({"context_s": 61.0}, "context_s is 61, expected"),
        ({"context_s": float("nan")}, "context_s is nan, expected"),
        ({"context": -1}, "context is -1, expected 0 (none) or a number of previous utterances."),
    ],
)
def test_an_encoder_setting_that_is_not_allowed_is_refused(changed, message):
    with pytest.raises(InputError) as caught:
        EncoderSettings("some-model", **changed)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["my clips", "a/b", "..", "", ".hidden"])
def test_a_corpus_name_that_cannot_name_a_file_is_refused(name):
    with pytest.raises(InputError, match="names files: expected letters, digits"):
        CorpusSettings(name, "folder", Path("clips"))


def test_an_unknown_reader_is_refused():
    with pytest.raises(InputError, match=r"Unknown corpus reader 'mossi'\. Did you mean 'mosi'\?"):
        CorpusSettings("mine", "mossi", Path("clips"))


def test_each_modality_has_its_own_encoder():
    chosen = {modality: EncoderSettings(modality) for modality in ("text", "audio", "sentence")}
    assert {modality: settings(**chosen).encoder(modality) for modality in chosen} == chosen
