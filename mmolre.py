"""The command `mmolre`: one front door to the commands of `pipeline`, `data` and `heads`.

It imports nothing but the package whose command it runs. The commands themselves, and the prescribed ways to call them
(`luigi --module pipeline BuildFeatures`, `python -m data …`, `python -m heads …`), are in those packages.
"""

import importlib
import sys
from collections.abc import Mapping
from types import MappingProxyType

COMMANDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "pipeline": {
            "build": "compute features and pseudo-labels once, as luigi.cfg says",
            "explain": "print what a build would compute, and why",
            "encode": "features of clips with the encoders of a run",
            "transcribe": "write the texts of clips with a local Whisper checkpoint",
        },
        "data": {
            "doctor": "check a corpus before any encoder runs",
            "table": "write the label.csv of a corpus whose file names say everything",
            "info": "show what a feature file or a table holds",
            "verify": "compare the checksums of feature files",
            "ls": "list what lies in a cache, and what uses it",
            "gc": "remove what the index of a cache does not use",
            "forget": "remove a corpus or imported features from the index of a cache",
            "export": "write features and labels for another tool",
            "import": "read features of another tool into a cache",
        },
        "heads": {
            "list": "heads, presets and options",
            "params": "parameters of heads",
            "layers": "which layer of an encoder says most",
            "fit": "train a head",
            "sweep": "train a grid of configurations",
            "tables": "the paper's tables beside ours",
            "evaluate": "metrics of finished runs",
            "predict": "predictions of a run",
            "report": "a page about runs: curves, errors, calibration, every clip",
            "score": "metrics of another tool's predictions",
            "check": "does a head of your own keep the contract of heads?",
            "compare": "is one of two runs better, clip by clip?",
        },
    }
)
"""Package → its commands, each with what it is for."""


def main(argv: list[str] | None = None) -> int | None:
    """Run one command and return its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    command, rest = arguments[0], arguments[1:]
    if command == "build":
        sys.argv = ["luigi", "--module", "pipeline", "BuildFeatures", *rest]  # Luigi reads it while it is imported
        return importlib.import_module("pipeline.luigi_command").main()
    package = next((package for package, commands in COMMANDS.items() if command in commands), None)
    if package is None:
        print(f"error: unknown command {command!r}.{_suggestion(command)} mmolre --help lists all.", file=sys.stderr)
        return 2
    return importlib.import_module(f"{package}.__main__").main([command, *rest], prog="mmolre")


def _help() -> str:
    blocks = ["usage: mmolre COMMAND …", "mmolre COMMAND --help says what a command takes."]
    for package, commands in COMMANDS.items():
        width = max(len(name) for names in COMMANDS.values() for name in names)
        blocks.append("\n".join([f"{package}:", *(f"  {name:<{width}}  {words}" for name, words in commands.items())]))
    return "\n\n".join(blocks)


def _suggestion(command: str) -> str:
    from data.lookup import nearest

    near = nearest(command, [name for names in COMMANDS.values() for name in names])
    return f" Did you mean {near!r}?" if near else ""


if __name__ == "__main__":
    sys.exit(main())
