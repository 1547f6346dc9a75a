"""What every head is made with."""

import pytest

from data.errors import InputError
from heads.models.base import Head


class TextOnly(Head):
    needs = ("text",)


class More(Head):
    takes_more = True


@pytest.mark.parametrize(
    ("head", "dims", "message"),
    [
        (Head, {"text": 8}, r"^mtl needs text and audio features, got text\.$"),
        (Head, {"audio": 8}, r"^mtl needs text and audio features, got audio\.$"),
        (TextOnly, {"audio": 8, "vision": 2}, r"^mtl needs text features, got audio and vision\.$"),
        (More, {}, r"^mtl needs text and audio features, got none\.$"),
        (
            Head,
            {"text": 8, "audio": 8, "vision": 2},
            r"^mtl reads text and audio only, got text and audio and vision\. Use --modalities text audio\.$",
        ),
        (TextOnly, {"text": 8, "audio": 8}, r"^mtl reads text only, got text and audio\. Use --modalities text\.$"),
    ],
)
def test_a_modality_that_is_missing_or_not_read_is_named(head, dims, message):
    with pytest.raises(InputError, match=message):
        head.expect_modalities("mtl", dims)


def test_heads_take_what_they_need_and_more_if_they_say_so():
    Head.expect_modalities("mtl", {"text": 8, "audio": 8})
    TextOnly.expect_modalities("mtl", {"text": 8})
    More.expect_modalities("mtl", {"audio": 8, "vision": 2, "text": 8})


@pytest.mark.parametrize("name", ["items", "type", "training", "copy"])
def test_a_name_that_no_part_of_a_head_can_have_is_refused(name):
    with pytest.raises(InputError, match=rf"^Heads cannot read features named '{name}'\. Import them under another name"):
        Head({"text": 8, name: 2}, "msa")
