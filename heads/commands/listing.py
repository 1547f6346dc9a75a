"""What `python -m heads list` says of every head. What a head is, is in `heads.models.registry`; what is said of a row of the
paper's tables, in `heads.tables.rows`."""

from heads.commands.parameters import count
from heads.models.registry import HEADS, Entry

HEADER = ("head", "paper", "published", "learns", "context", "packable", "reproduction", "what it is", "parameters")

_WORDS = {True: "yes", False: "no"}


def rows() -> list[list[str]]:
    """A row for each head, in the order of `HEADER`.

    published: The tasks it was published for on CMU-MOSI or CMU-MOSEI, in whatever form; those that it learns beyond them are our
        extension. "–": on neither, as the mixtures that come from recommendation and vision.
    context: Whether it reads whole videos.
    packable: Whether many runs can be trained as one.
    reproduction: faithful; variant, if frozen features leave out a part that makes the method what it is; simple baseline.
    parameters: With default options, at features 768 wide.
    """
    return [_row(name, entry) for name, entry in HEADS.items()]


def _row(name: str, entry: Entry) -> list[str]:
    if entry.head is None:
        return [name, entry.source, "–", entry.task or "both", "no", "no", "simple baseline", entry.summary, "–"]
    tasks = entry.published or "–", entry.task or "both"
    can = _WORDS[entry.head.context], _WORDS[entry.packs]
    return [name, entry.source, *tasks, *can, entry.reproduction, entry.summary, f"{count(entry):,}"]
