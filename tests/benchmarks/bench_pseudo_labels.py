"""What pseudo labels cost, beside the published way, in one run: encoding sentence by sentence and cosine pair by pair.

Without arguments it needs no corpus: random embeddings at the real size (CMU-MOSI against CMU-MOSEI and MELD), and the sentences
of the bundled sample for the encoder. With corpora it embeds their sentences with the bundled encoder and searches among those.

    python tests/benchmarks/bench_pseudo_labels.py
    python tests/benchmarks/bench_pseudo_labels.py --texts sentences.txt
    python tests/benchmarks/bench_pseudo_labels.py --targets mosi=ROOT --donors mosei=ROOT --donors meld=ROOT

The published way is UniMSE's (https://github.com/LeMei/UniMSE): SciPy's cosine in two Python loops over sentences of one polarity.
It is timed on a part of the pairs, and of the sentences where there are many, and extrapolated; the table says so.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import cosine

from data.corpora import read_corpus
from data.labels import EMOTIONS, POLARITIES
from data.schema import COLUMNS, TEXT_COLUMNS, validate
from pipeline.encoding import checkpoints, encoders, extract
from pipeline.pseudo_labels.neighbours import nearest
from pipeline.pseudo_labels.rule import Rule, donor_pool, polarities, transfer
from pipeline.settings import SAMPLE, EncoderSettings

ROUNDS = 5
PAIRS = 20_000  # timed pair by pair in each round
SENTENCES = 2000  # timed in batches in each round, evenly from all
SENTENCES_ALONE = 200  # timed one by one in each round, evenly from those
REAL_SIZE = {"mosi": 2199, "mosei": 20_000, "meld": 10_000}
DIM = 384
ENCODER = EncoderSettings("minilm", case="keep")


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", metavar="READER=ROOT", help="corpus that gets labels")
    parser.add_argument("--donors", metavar="READER=ROOT", action="append", default=[], help="corpus that gives them; repeatable")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="sentences for the encoder, one a line")
    parser.add_argument("--device", default="cpu", help="where ours runs (torch's name)")
    options = parser.parse_args()
    if bool(options.targets) != bool(options.donors):
        parser.error("--targets and --donors go together")
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads, ours on "
          f"{options.device}; median (least – most) of {ROUNDS} interleaved rounds")  # fmt: skip
    encoder = encoders.load("sentence", ENCODER, options.device, "float32")
    if options.targets:
        corpora = [_read(options.targets), *(_read(given).query("split == 'train'") for given in options.donors)]
        embedded = [(table, embed(encoder, table["text"])) for table in corpora]
        source = "sentences of the corpora"
    else:
        embedded, source = _random_corpora(np.random.default_rng(0)), "random embeddings"
    texts = _texts(options.texts, [table for table, _ in embedded] if options.targets else None)
    bench_search(embedded[0], embedded[1:], options.device, source)
    bench_encoder(encoder, texts)


def bench_search(target: tuple[pd.DataFrame, np.ndarray], donors: Sequence[tuple], device: str, source: str) -> None:
    """Nearest donor of the same polarity: all pairs of one polarity, in every way."""
    rule = Rule()
    pool, (targets, embeddings) = donor_pool(donors, rule), target
    names, given = polarities(targets, rule), pool.table["polarity"].to_numpy()
    groups = [(embeddings[names == name], pool.embeddings[given == name]) for name in POLARITIES]
    pairs = sum(len(rows) * len(others) for rows, others in groups)
    largest = max(groups, key=lambda group: len(group[0]) * len(group[1]))

    def pair_by_pair() -> None:
        rows, others = largest
        for number in range(PAIRS):
            1 - cosine(rows[number % len(rows)], others[number % len(others)])

    seconds = _time(
        {
            "pair by pair": pair_by_pair,
            "matrix": lambda: [_matrix(rows, others) for rows, others in groups],
            "search": lambda: [nearest(rows, others, 2, rule.tie_tolerance, device=device) for rows, others in groups],
            "ledger": lambda: transfer(targets, embeddings, pool, rule, device),
        }
    )
    scale = pairs / PAIRS
    published = [second * scale for second in seconds["pair by pair"]]
    print(f"\nSearch: {len(targets):,} targets, {len(pool.table):,} donors, {source}, {pairs:,} pairs of one polarity")
    _row(f"SciPy pair by pair ({statistics.median(published) / pairs * 1e6:.1f} µs a pair, EXTRAPOLATED from {PAIRS:,})", published)
    _row("one float32 matrix per polarity, argmax (no rule for ties, memory of all pairs)", seconds["matrix"], published)
    _row("ours: exact search, ties decided in float64", seconds["search"], published)
    _row("ours: search and ledger", seconds["ledger"], published)


def bench_encoder(encoder: encoders.SentenceEncoder, texts: Sequence[str]) -> None:
    """Sentence embeddings: one by one, and in batches of like lengths."""
    texts = _evenly(texts, SENTENCES)
    some = _evenly(texts, SENTENCES_ALONE)
    alone = _one_by_one(encoder, some)
    error = float(np.abs(embed(encoder, some) - np.stack([alone(text) for text in some])).max())
    seconds = _time({"one": lambda: [alone(text) for text in some], "batches": lambda: embed(encoder, texts)})
    published = [second * len(texts) / len(some) for second in seconds["one"]]
    each = statistics.median(published) / len(texts) * 1e3
    extrapolated = f", EXTRAPOLATED from {len(some):,}" if len(some) < len(texts) else ""
    print(f"\nEncoder: {len(texts):,} sentences, all-MiniLM-L6-v2, mean over tokens; largest difference {error:.1e}")
    _row(f"one by one ({each:.2f} ms a sentence{extrapolated})", published)
    _row(
        f"ours: batches of like lengths ({len(texts) / statistics.median(seconds['batches']):.0f} a second)",
        seconds["batches"],
        published,
    )


def embed(encoder: encoders.SentenceEncoder, texts: Sequence[str]) -> np.ndarray:
    """(N, D) float32 embeddings, as the pipeline makes them."""
    embeddings = np.empty((len(texts), encoder.dim), dtype=np.float32)

    def write(index: int, embedding: np.ndarray) -> None:
        embeddings[index] = embedding[0]

    names = [f"sentence {i}" for i in range(len(texts))]
    extract.extract(encoder, extract.prepare(encoder, enumerate(texts), names), write)
    return embeddings


def _one_by_one(encoder: encoders.SentenceEncoder, texts: Sequence[str]) -> Callable[[str], np.ndarray]:
    """A plain transformers model and the loop body that people write around it."""
    import transformers

    model = transformers.AutoModel.from_pretrained(checkpoints.locate("sentence", ENCODER).folder, local_files_only=True).eval()

    def one(text: str) -> np.ndarray:
        with torch.no_grad():
            inputs = encoder.tokenizer(text, return_tensors="pt", truncation=True, max_length=encoder.max_tokens)
            return model(**inputs).last_hidden_state[0].mean(dim=0).numpy()

    one(texts[0])
    return one


def _matrix(rows: np.ndarray, others: np.ndarray) -> torch.Tensor:
    unit = [torch.nn.functional.normalize(torch.from_numpy(part), dim=1) for part in (rows, others)]
    return (unit[0] @ unit[1].T).argmax(dim=1)


def _random_corpora(rng: np.random.Generator) -> list[tuple[pd.DataFrame, np.ndarray]]:
    corpora = []
    for name, count in REAL_SIZE.items():
        table = pd.DataFrame({**dict.fromkeys(COLUMNS, np.nan), **dict.fromkeys(TEXT_COLUMNS, "")}, index=range(count))
        table = table.assign(utterance_id=[f"{i:05}" for i in range(count)], corpus=name, split="train", position=0)
        table = table.assign(sentiment=rng.integers(-1, 2, count).astype(float), **dict.fromkeys(EMOTIONS, 0.0))
        corpora.append((validate(table, name), rng.normal(size=(count, DIM)).astype(np.float32)))
    return corpora


def _read(given: str) -> pd.DataFrame:
    reader, _, root = given.partition("=")
    return read_corpus(reader, Path(root)).utterances


def _evenly(texts: Sequence[str], count: int) -> list[str]:
    return list(texts[:: max(1, -(-len(texts) // count))])


def _texts(path: Path | None, tables: Sequence[pd.DataFrame] | None) -> list[str]:
    if path is not None:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if tables is None:
        tables = [pd.read_csv(file, keep_default_na=False) for file in sorted((SAMPLE / "sentences").glob("*.csv"))]
    return [text for table in tables for text in table["text"]]


def _time(ways: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of each way in each round; the rounds are interleaved, so that a slow moment of the machine meets all."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _row(name: str, seconds: Sequence[float], published: Sequence[float] | None = None) -> None:
    middle = statistics.median(seconds)
    ratio = f"{statistics.median(published) / middle:9,.1f} ×" if published else " " * 11
    print(f"  {name:<86} {middle:9.3f} s ({min(seconds):.3f} – {max(seconds):.3f}) {ratio}")


if __name__ == "__main__":
    main()
