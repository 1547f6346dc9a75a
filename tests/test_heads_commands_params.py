"""`python -m heads params` prints the tables of `heads.commands._sizes`, whose numbers are checked in test_heads_commands_sizes."""

import re

from command_line import call, printed


def test_params_prints_the_sizes_of_the_paper(capsys):
    status, out, _ = call(capsys, "params")
    assert status == 0
    assert printed(out, "")["whole UniTSE, r = 128"]["parameters"] == "28,300,408"
    assert printed(out, "")["whole standard MoE, r = 768"]["parameters"] == "162,037,368"
    assert re.search(r"^mmolre, r = 128 .* 220,490,879$", out, re.MULTILINE)
