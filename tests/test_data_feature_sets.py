"""Names of feature sets: composed, taken apart and refused."""

import pytest

from data.errors import InputError
from data.feature_sets import DEFAULT, expect_own_name, modality_of, set_of


@pytest.mark.parametrize(("own", "feature_set"), [("roberta", "text.roberta"), (DEFAULT, "text")])
def test_a_set_has_the_name_of_its_modality_and_its_own(own, feature_set):
    assert set_of("text", own) == feature_set
    assert modality_of(feature_set) == "text"


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ("default", r"^here: 'default' is the set without a name of its own\. Choose another name\.$"),
        ("a b", r"^here: 'a b' cannot name a set of features: expected letters, digits and '-'\.$"),
        ("", r"^here: '' cannot name"),
        ("a.b", r"^here: 'a\.b' cannot name"),
        ("-a", r"^here: '-a' cannot name"),
        ("a/b", r"^here: 'a/b' cannot name"),
    ],
)
def test_a_name_that_files_flags_and_heads_cannot_hold_is_refused(own, message):
    with pytest.raises(InputError, match=message):
        expect_own_name(own, "here")


def test_usual_names_are_allowed():
    for own in ("roberta", "DeBERTa-v3-large", "8", "l-9"):
        expect_own_name(own, "here")
