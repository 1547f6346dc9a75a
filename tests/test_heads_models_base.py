"""What every head is made with."""

import pytest

from data.errors import InputError
from heads.models.base import require_modalities


@pytest.mark.parametrize(
    ("dims", "needed", "message"),
    [
        ({"text": 8}, ("text", "audio"), r"^mtl needs text and audio features, got text\.$"),
        ({"audio": 8, "vision": 2}, ("text",), r"^mtl needs text features, got audio and vision\.$"),
        ({}, ("audio",), r"^mtl needs audio features, got none\.$"),
    ],
)
def test_a_missing_modality_is_named(dims, needed, message):
    with pytest.raises(InputError, match=message):
        require_modalities("mtl", dims, needed)


def test_text_and_audio_are_needed_unless_said_otherwise():
    require_modalities("mtl", {"text": 8, "audio": 8, "vision": 2})
    require_modalities("mtl", {"text": 8}, ("text",))
    with pytest.raises(InputError, match=r"^mtl needs text and audio features, got audio\.$"):
        require_modalities("mtl", {"audio": 8})
