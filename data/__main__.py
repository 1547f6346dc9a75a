"""The command line `python -m data`: examine corpora, feature files and tables, and exchange features with other tools.

Each command is one function here that prints what other modules of this package find out. The commands `doctor`, `table`, `export` and
`import` declare their own arguments, in `data.doctor`, `data.corpora.tabulate` and `data.interchange.commands`.
"""

import argparse
import datetime
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from data import doctor, inventory
from data.arguments import Parser, days
from data.cache import INDEX, forget_corpus, forget_features, open_corpus, read_cache
from data.corpora import tabulate
from data.errors import InputError, UnreadableError
from data.feature_store import PROVENANCE, DamagedFileError, FeatureStore
from data.files import read_head
from data.interchange import commands as interchange
from data.manifest import PARQUET_SIGNATURE, summarise
from data.reporting.numbers import size

_EXAMPLES = """examples:
  python -m data doctor ~/corpora/MOSI      check a corpus before any encoder runs
  python -m data table ravdess ~/RAVDESS    write its label.csv from its file names
  python -m data info cache/features/X.h5   show the number of utterances, the width and the encoder of a feature file
  python -m data verify cache               compare the checksums of every feature file below cache/
  python -m data ls cache                   list what lies in a cache, how large it is, and what uses it
  python -m data gc cache --dry-run         what could be removed: features of other settings, old reports
  python -m data forget cache mosi          remove a corpus from the index of a cache; its files stay
  python -m data export cache mosi --format mmsa --out mosi.pkl
                                            write the features and labels of a corpus as a file for MMSA
  python -m data import mosi.pkl --format mmsa --cache cache-mmsa --corpus mosi-mmsa
                                            read such a file into a cache, so that heads can train on it
  python -m data import openface --format npy --modality vision --cache cache --corpus mosi
                                            add one (T, D) array an utterance to a corpus of a cache

exit status: 0 no problem, 1 something is damaged or cannot be used, 2 the command failed, 130 interrupted
"""


def main(argv: list[str] | None = None, prog: str = "python -m data") -> int:
    """Run one command and return the exit status. `prog` is the name of the program in its help."""
    args = _parser(prog).parse_args(argv)
    try:
        status = args.run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader (such as `head`) closed the pipe; Python's flush at exit must not write to it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"error: not enough memory. {error}".rstrip(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted. No incomplete file is left behind.", file=sys.stderr)
        return 130


def _parser(prog: str) -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(
        prog=prog,
        description="Examine corpora, feature files and tables; exchange features with other tools.",
        epilog=_EXAMPLES,
        formatter_class=raw,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    words = (
        "Print the number of utterances and rows, the width, type and provenance of a feature file, or the columns and attributes of"
        " a table. The values are not read."
    )
    info = commands.add_parser("info", help="show what a feature file or a table holds, without reading its values", description=words)
    info.add_argument(
        "file", type=Path, metavar="FILE", help="a feature file (.h5), or a manifest or a table of pseudo-labels (.parquet)"
    )
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(run=_info)

    words = "Read whole feature files and list the utterances whose values differ from those that were written (exit status 1)."
    verify = commands.add_parser("verify", help="read whole feature files and list the damaged utterances", description=words)
    verify.add_argument(
        "path", type=Path, metavar="FILE|CACHE", help="a feature file, or a folder with feature files (.h5) at any depth"
    )
    verify.set_defaults(run=_verify)

    _add_housekeeping(commands)

    words = (
        "Remove a corpus, or features that were imported for it, from the index of a cache, so that no command knows them any more."
        " Their files stay; they are listed."
    )
    forget = commands.add_parser("forget", help="remove a corpus or imported features from the index of a cache", description=words)
    forget.add_argument("cache", type=Path, metavar="CACHE", help="the folder that a build or an import wrote to")
    forget.add_argument("corpus", metavar="CORPUS", help="name of the corpus in this cache")
    forget.add_argument("--modality", metavar="MODALITY", help="remove only these features, which were imported with --modality")
    forget.set_defaults(run=_forget)

    words = "Read a corpus and decode its media as a build would, without running an encoder, and print its contents and its problems."
    examine = commands.add_parser("doctor", help="check a corpus before any encoder runs", description=words)
    doctor.add_arguments(examine)
    examine.set_defaults(run=doctor.run)

    table = commands.add_parser("table", help=tabulate.HELP, description=tabulate.DESCRIPTION)
    tabulate.add_arguments(table)
    table.set_defaults(run=tabulate.run)

    interchange.add_commands(commands)
    return parser


def _add_housekeeping(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the commands about what lies in a cache: ls and gc."""
    words = "List the files of each corpus of a cache, and what else lies there: how large it is, and what uses it."
    ls = commands.add_parser("ls", help="list what lies in a cache, how large it is, and what uses it", description=words)
    ls.add_argument("cache", type=Path, metavar="CACHE", help="the folder that a build or an import wrote to")
    ls.add_argument("--json", action="store_true", help="print one JSON object per file or folder, one a line")
    ls.add_argument(
        "--paths", metavar="CORPUS", help="print only the paths, below CACHE, of what heads need of this corpus, one a line (for rsync)"
    )
    ls.set_defaults(run=_ls)

    words = (
        "Remove what the index of a cache does not use: features, manifests, shards and adapted encoders of other settings, and old"
        " reports. Not while a build runs. Runs that were trained on removed features cannot be evaluated any more."
    )
    gc = commands.add_parser("gc", help="remove what the index of a cache does not use", description=words)
    gc.add_argument("cache", type=Path, metavar="CACHE", help="the folder that a build or an import wrote to")
    gc.add_argument("--dry-run", action="store_true", help="print what would be removed, and remove nothing")
    gc.add_argument("--yes", action="store_true", help="remove without asking")
    gc.add_argument(
        "--shards",
        action="store_true",
        help="also the shards of features that are whole: a changed clip then costs its whole corpus again, not one shard",
    )
    gc.add_argument(
        "--older-than",
        type=days,
        default=1.0,
        metavar="DAYS",
        help="only what was written so long ago: younger files may be of a build that was stopped and goes on (default: 1)",
    )
    gc.set_defaults(run=_gc)


def _info(args: argparse.Namespace) -> int:
    is_table = read_head(args.file).startswith(PARQUET_SIGNATURE)
    facts = _table_facts(args.file) if is_table else _feature_facts(args.file)
    print(json.dumps(facts, indent=2, ensure_ascii=False) if args.json else "\n".join(_lines(facts)))
    return 0


def _feature_facts(path: Path) -> dict[str, Any]:
    with FeatureStore.open(path) as store:
        lengths = sorted(store.lengths.tolist())
        return {
            "kind": "features",
            "path": str(path),
            "utterances": len(store),
            "rows": int(store.offsets[-1]),
            "dim": store.dim,
            "dtype": store.dtype.name,
            "size_bytes": path.stat().st_size,
            "rows_per_utterance": {"min": lengths[0], "median": lengths[len(lengths) // 2], "max": lengths[-1]} if lengths else {},
            "attributes": store.attrs,
        }


def _table_facts(path: Path) -> dict[str, Any]:
    table = summarise(path)
    return {
        "kind": "table",
        "path": str(path),
        "rows": table.rows,
        "size_bytes": path.stat().st_size,
        "columns": list(table.columns),
        "attributes": table.attributes,
    }


def _lines(facts: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{name + ':':<20} {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _forget(args: argparse.Namespace) -> int:
    if args.modality is not None:
        path = forget_features(args.cache, args.corpus, args.modality)
        print(f"{args.cache}: the {args.modality} features of {args.corpus} are no longer in the index. Their file stays: {path}")
        return 0
    corpus = forget_corpus(args.cache, args.corpus)
    print(f"{args.cache}: {corpus.name} is no longer in the index. Its files stay and may be deleted:")
    for kind, path in corpus.files():
        print(f"  {kind:<20} {path}")
    return 0


def _ls(args: argparse.Namespace) -> int:
    if args.paths is not None:
        corpus = open_corpus(args.cache, args.paths)
        print("\n".join([INDEX, *(path.relative_to(args.cache).as_posix() for _, path in corpus.files())]))
        return 0
    entries = inventory.list_cache(args.cache)
    if args.json:
        print("\n".join(json.dumps(_described(entry, args.cache), ensure_ascii=False) for entry in entries))
        return 0
    for name, corpus in read_cache(args.cache).items():
        print(f"{name}: {corpus.origin or 'added'} {corpus.when}".rstrip())
    print("\n".join(_listed(entries, args.cache)))
    for state in (inventory.USED, inventory.SPARE, inventory.UNUSED):
        print(f"{state + ':':<8} {size(sum(entry.size_bytes for entry in entries if entry.state == state)):>9}")
    return 0


def _described(entry: inventory.Entry, cache: Path) -> dict[str, Any]:
    written = datetime.datetime.fromtimestamp(entry.written_s, datetime.UTC).isoformat(timespec="seconds")
    path = entry.path.relative_to(cache).as_posix()
    return {"path": path, "kind": entry.kind, "size_bytes": entry.size_bytes, "written": written, "state": entry.state,
            "used_by": list(entry.used_by)}  # fmt: skip


def _listed(entries: Iterable[inventory.Entry], cache: Path) -> Iterator[str]:
    for entry in entries:
        user = ", ".join(entry.used_by)
        yield f"  {entry.state:<7} {size(entry.size_bytes):>9}  {entry.path.relative_to(cache).as_posix()}" + (
            f"  ({user})" if user else ""
        )


def _gc(args: argparse.Namespace) -> int:
    inventory.expect_no_build(args.cache)
    entries = inventory.list_cache(args.cache)
    chosen = inventory.removable(entries, args.shards, args.older_than)
    kept = len(inventory.removable(entries, args.shards, 0.0)) - len(chosen)
    young = f" {kept:,} younger than {args.older_than:g} days stay (--older-than)." if kept else ""
    if not chosen:
        print(f"{args.cache}: nothing to remove.{young}")
        return 0
    print("\n".join(_listed(chosen, args.cache)))
    total = size(sum(entry.size_bytes for entry in chosen))
    if args.dry_run:
        print(f"{args.cache}: {len(chosen):,} would be removed, {total}.{young}")
        return 0
    if not args.yes and not _agreed(f"Remove these {len(chosen):,} from {args.cache}, {total}? [y/N] "):
        print("Nothing was removed.")
        return 1
    print(f"{args.cache}: removed {len(chosen):,}, {size(inventory.remove(chosen))}.{young}")
    return 0


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise InputError(
            "this command asks before it removes files, but there is no terminal. Give --yes, or --dry-run to see the list."
        )
    return input(question).strip().lower() in ("y", "yes")


def _verify(args: argparse.Namespace) -> int:
    if not args.path.is_dir():
        return int(_report(args.path, _problems(args.path)) != "ok")
    files = sorted(path for path in args.path.rglob("*.h5") if not _is_hidden(path.relative_to(args.path)))
    if not files:
        raise InputError(f"{args.path}: no feature file (.h5) in this folder or below it.")
    states = Counter(_report(path, _problems_in_folder(path)) for path in files)
    unread = f", cannot be read: {states['unread']:,}" if states["unread"] else ""
    print(f"feature files: {len(files):,}, damaged: {states['damaged']:,}{unread}")
    return int(states["ok"] < len(files))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _report(path: Path, problems: Iterator[str]) -> str:
    """Print the problems of one file, and return its state: "ok", "damaged" or "unread", if it cannot be read now."""
    found = []
    try:
        found.extend(problems)
        state = "damaged" if found else "ok"
    except UnreadableError as error:
        found.append(str(error).removeprefix(f"{path}: "))
        state = "unread"
    print("\n         ".join([f"{state:<8} {path}", *found]), flush=True)
    return state


def _problems(path: Path) -> Iterator[str]:
    try:
        with FeatureStore.open(path) as store:
            if missing := [name for name in PROVENANCE if name not in store.attrs]:
                yield f"does not say what made it: no attribute {', '.join(missing)}"
            for damage in store.verify():
                yield f"{damage.utterance_id}: {damage.problem}"
    except DamagedFileError as error:
        yield str(error).removeprefix(f"{path}: ")


def _problems_in_folder(path: Path) -> Iterator[str]:
    """Yield the problems of a file in a cache, where a file of another kind counts as damaged, too."""
    try:
        yield from _problems(path)
    except UnreadableError:
        raise
    except InputError as error:
        yield str(error).removeprefix(f"{path}: ")


if __name__ == "__main__":
    sys.exit(main())
