"""The nearest command or value is suggested, by all three command lines."""

import pytest

import data.__main__
import heads.__main__
import pipeline.__main__


@pytest.mark.parametrize(
    ("main", "line", "near"),
    [
        (data.__main__.main, "dcotor corpus", "doctor"),
        (data.__main__.main, "export cache mosi --format msa --out x", "mmsa"),
        (heads.__main__.main, "fitt --corpus mosi", "fit"),
        (heads.__main__.main, "score a.csv --corpus mosi --split tset", "test"),
        (pipeline.__main__.main, "explian", "explain"),
    ],
)
def test_the_nearest_choice_is_suggested(main, line, near, capsys):
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    assert capsys.readouterr().err.rstrip().endswith(f"). Did you mean '{near}'?")


def test_nothing_is_suggested_for_what_is_like_no_choice(capsys):
    with pytest.raises(SystemExit):
        heads.__main__.main(["xyzzy"])
    assert capsys.readouterr().err.rstrip().endswith("'compare')")
