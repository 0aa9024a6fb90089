"""Turn the SummEval ratings into a CSV that `hyperdpo data convert` reads: one list an article, one row a summary.

The file has one JSON object a line, plain or compressed (.gz, .xz): `doc_id`, `src` (the article), `system`, `summary`
and `scores`, the annotators' coherence, consistency, fluency and relevance from 1 to 5 on average. SummEval's own file
instead holds every annotator (`expert_annotations`); they are averaged here.

    python recipes/summeval.py summeval_ratings.jsonl.xz summeval.csv
    hyperdpo data convert summeval.csv --text summary:article --main overall:shift=-1 \
        --objective coherence:shift=-1 --objective consistency:shift=-1 \
        --objective fluency:shift=-1 --objective relevance:shift=-1 --out data/summeval
    hyperdpo train rank --data data/summeval --out runs/summeval

The main label, `overall`, is the mean of the four scores: what a team has that asks people for one grade before it asks
which side of quality matters. The base then ranks by overall quality, the four sides are the objectives, and keeping
near the base means something to a reader, which staying near a heuristic (the lead, say) would not. Labels are gains,
so 1, the worst score, is shifted to 0. `name` is the system, shown to people and never a feature: it would let a model
learn which system is good instead of which summary is.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import lzma
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

SCORES = ("coherence", "consistency", "fluency", "relevance")
COLUMNS = ("query_id", "name", "summary", "article", *SCORES, "overall")


def records(file: Path) -> Iterator[tuple[int, Any]]:
    """(line number, object) of every line. Raises ValueError naming the line that is not JSON."""
    opener: Any = {".gz": gzip.open, ".xz": lzma.open}.get(file.suffix, open)
    stream: TextIO
    with opener(file, "rt", encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except ValueError as error:
                    raise ValueError(
                        f"{file.name}, line {number} is not JSON ({error}); copy the file again."
                    ) from None


def row(record: Any, place: str) -> list[str | float]:
    """The CSV row of one summary. Raises ValueError naming `place` and all that is missing."""
    record = record if isinstance(record, Mapping) else {}
    scores = record.get("scores") or _averaged(record.get("expert_annotations") or [])
    texts = {
        "doc_id or id": record.get("doc_id", record.get("id")),
        "summary or decoded": record.get("summary", record.get("decoded")),
    }
    missing = [name for name, text in texts.items() if not isinstance(text, str)]
    missing += [f"scores.{name}" for name in SCORES if not isinstance(scores.get(name), int | float)]
    if missing:
        raise ValueError(f"{place} lacks {', '.join(missing)}; give a file of SummEval ratings.")
    values = [round(float(scores[name]), 6) for name in SCORES]
    article = str(record.get("src", record.get("text", "")))
    system = str(record.get("system", record.get("model_id", "")))
    query, summary = map(str, texts.values())
    return [query, system, summary, article, *values, round(sum(values) / len(values), 6)]


def _averaged(annotations: list[Mapping[str, float]]) -> dict[str, float]:
    known = [name for name in SCORES if annotations and all(name in a for a in annotations)]
    return {name: sum(a[name] for a in annotations) / len(annotations) for name in known}


def convert(source: Path, target: Path) -> tuple[int, int]:
    """Write the CSV, articles in order of appearance; returns (articles, summaries). Raises ValueError."""
    lists: dict[str, list[list[str | float]]] = {}
    for number, record in records(source):
        found = row(record, f"{source.name}, line {number}")
        lists.setdefault(str(found[0]), []).append(found)
    if not lists:
        raise ValueError(f"{source.name} has no line; give a file of SummEval ratings.")
    with open(target, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows(line for rows in lists.values() for line in rows)
    return len(lists), sum(map(len, lists.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("source", type=Path, help="summeval_ratings.jsonl, also .gz or .xz")
    parser.add_argument("target", type=Path, help="the CSV to write")
    arguments = parser.parse_args()
    try:
        articles, summaries = convert(arguments.source, arguments.target)
    except (ValueError, OSError, EOFError, lzma.LZMAError) as error:
        sys.exit(f"summeval: {error}")
    print(f"{arguments.target}: {summaries:,} summaries of {articles:,} articles")


if __name__ == "__main__":
    main()
