"""The command `python -m data table`: a `label.csv` from the file names of a corpus, for the reader `data.corpora.folder`.

The naming schemes are in `data.corpora.file_names`. Media are not opened; `python -m data doctor` does that.
"""

import argparse
import csv
import io
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from data.atomic import atomic_path
from data.containers import MEDIA_SUFFIXES
from data.corpora.file_names import SCHEMES, Clip, Scheme
from data.corpora.media_files import list_all_media
from data.corpora.mmsa import LABEL_FILE
from data.errors import InputError
from data.lookup import expect
from data.schema import SPLITS

HELP = "write the label.csv of a corpus from its file names"
DESCRIPTION = (
    "Writes a label.csv with what the file names of a corpus say: emotion, speaker, sentence, intensity, sex; and a split by speakers."
    " Files whose names cannot be read are listed. Media are not opened."
)
_SHOWN = 5

_FIRST = ("id", "text", "emotion", "speaker", "split")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("corpus", choices=list(SCHEMES), help="the corpus, whose naming scheme is known")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="holds the media files, at any depth")
    words = f"the file to write, in FOLDER or above it (default: FOLDER/{LABEL_FILE})"
    parser.add_argument("--out", type=Path, metavar="FILE", help=words)
    words = "speakers of this split (default: stated in docs/labels.md); all others train"
    parser.add_argument("--valid", nargs="+", metavar="SPEAKER", help=words)
    parser.add_argument("--test", nargs="+", metavar="SPEAKER", help=words)
    parser.add_argument("--replace", action="store_true", help="write over a file that is there")


def run(args: argparse.Namespace) -> int:
    """Write the table, print what is in it and what could not be read, and return 1 if some names could not."""
    scheme: Scheme = SCHEMES[args.corpus]
    out: Path = args.out or args.folder / LABEL_FILE
    if out.exists() and not args.replace:
        raise InputError(f"{out}: exists already. Give --replace to write over it, or another --out.")
    clips, unread = read_names(scheme, args.folder)
    splits = _splits(scheme, {clip.speaker for clip in clips.values()}, args.valid, args.test)
    rows = _rows(clips, splits, args.folder, out)
    with atomic_path(out) as temporary:
        temporary.write_text(rows, encoding="utf-8")
    print(f"{out}: {len(clips):,} clips of {scheme.title}")
    print(f"  {'emotions':<9} {_counted(Counter(clip.emotion for clip in clips.values()))}")
    for split in SPLITS:
        speakers = sorted({clip.speaker for clip in clips.values() if splits[clip.speaker] == split})
        count = sum(splits[clip.speaker] == split for clip in clips.values())
        print(f"  {split:<9} {count:,} clips of {len(speakers):,} speakers: {_shortened(speakers)}")
    if unread:
        print(f"  not read  {len(unread):,} media files, whose names are not like {scheme.form}:")
        for file, why in list(unread.items())[:_SHOWN]:
            print(f"    {file}: {why}")
        if len(unread) > _SHOWN:
            print(f"    … and {len(unread) - _SHOWN:,} more")
    return int(bool(unread))


def read_names(scheme: Scheme, folder: Path) -> tuple[dict[PurePosixPath, Clip], dict[PurePosixPath, str]]:
    """Read the names of all media files below a folder.

    Returns:
        File → what its name says, in the order of paths; and file → why its name is not read. Of two files of one clip (a wav and a
        film), that whose suffix comes first in `MEDIA_SUFFIXES` counts.

    Raises:
        InputError: There is no such folder, no file in it has a name of this scheme, or two files are one clip.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected the media files of {scheme.title}.")
    clips, unread, files = dict[PurePosixPath, Clip](), dict[PurePosixPath, str](), dict[str, PurePosixPath]()
    ranks = {suffix: rank for rank, suffix in enumerate(MEDIA_SUFFIXES)}
    for file in sorted(list_all_media(folder), key=lambda file: (ranks[file.suffix.lower()], str(file))):
        found = scheme.read(file.stem)
        if isinstance(found, str):
            unread[file] = found
            continue
        first = files.setdefault(found.key, file)
        if first is file:
            clips[file] = found
        elif first.suffix.lower() == file.suffix.lower():
            raise InputError(f"{folder}: {first} and {file} are the same clip. Remove one of them, or give the folder of one.")
    if not clips:
        why = f" The first of {len(unread):,} media files, {next(iter(unread))}: {next(iter(unread.values()))}." if unread else ""
        raise InputError(f"{folder}: no media file in it has a name like {scheme.form} ({scheme.title}).{why}")
    return dict(sorted(clips.items())), dict(sorted(unread.items()))


def _splits(scheme: Scheme, speakers: Collection[str], valid: Sequence[str] | None, test: Sequence[str] | None) -> dict[str, str]:
    """Return speaker → split.

    Raises:
        InputError: A speaker that was asked for is not there, or is in two splits.
    """
    for name, given in (("--valid", valid), ("--test", test)):
        for speaker in given or ():
            expect(sorted(speakers), speaker, f"speaker in {name}:")
    chosen = {"valid": scheme.valid if valid is None else valid, "test": scheme.test if test is None else test}
    if twice := sorted(set(chosen["valid"]) & set(chosen["test"]) & set(speakers)):
        raise InputError(
            f"Speaker {twice[0]} is both in valid and in test, expected each speaker in one split. Give --valid and --test."
        )
    return {speaker: next((split for split, names in chosen.items() if speaker in names), "train") for speaker in speakers}


def _rows(clips: dict[PurePosixPath, Clip], splits: dict[str, str], folder: Path, out: Path) -> str:
    """Return the content of the table.

    Raises:
        InputError: The media are not below the folder of the table.
    """
    try:
        below = PurePosixPath(folder.resolve().relative_to(out.resolve().parent).as_posix())
    except ValueError:
        raise InputError(f"--out is {out}, expected a file in {folder} or in a folder above it, from where media are named.") from None
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    others = list(next(iter(clips.values())).others)
    writer.writerow([*_FIRST, *others, "media"])
    for file, clip in clips.items():
        own = [file.stem, clip.text, clip.emotion, clip.speaker, splits[clip.speaker]]
        writer.writerow([*own, *clip.others.values(), str(below / file)])
    return buffer.getvalue()


def _counted(found: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(found.items()))


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 2 * _SHOWN else f"{', '.join(names[:_SHOWN])}, …, {names[-1]}"
