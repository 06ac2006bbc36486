"""`modelrollout labels`: sends true labels to the observer in batches, and says what became of them."""

from __future__ import annotations

import csv
import http.client
import json
import re
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from modelrollout.cli.checking import check_address
from modelrollout.cli.exits import Exit
from modelrollout.cli.failing import Complaint, plainly
from modelrollout.cli.options import examples

BATCH = 1000
_WHOLE = re.compile(r"([+-]?\d{1,15})\.0+")
_MEANINGS = {
    "unknown_id": "no answer with this id was seen (only sampled requests are asked)",
    "too_late": "the answer waited longer than labels.window, or was pushed out by labels.maxPending",
    "duplicate": "a label for this id was taken before",
    "malformed": "no id, no label, a field too many, or a word of more than 128 characters (slice: 63)",
    "wrong_kind": "a word where the classes are numbers, or a number where they are words (modelrollout profile show)",
    "rows": "another number of labels than the request had rows",
    "not_asked_for": "no ModelDeployment here asks for labels",
}


@click.command(
    epilog=examples(
        "modelrollout labels truth.csv --url http://127.0.0.1:8080",
        "modelrollout labels - --url http://127.0.0.1:8080 --modeldeployment digits < truth.jsonl",
    )
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@click.option("--url", required=True, help="Address of the observer's label port, like http://127.0.0.1:8080.")
@click.option("--modeldeployment", help="Only join with answers of this ModelDeployment.")
@click.option("--batch", default=BATCH, show_default=True, type=click.IntRange(1, 10_000), help="Labels a request.")
@click.option("--timeout", default=30.0, show_default=True, type=click.FloatRange(0.1, 600), help="Seconds a request.")
def labels(file: Path, url: str, modeldeployment: str | None, batch: int, timeout: float) -> None:
    """Send the true labels of FILE: .csv with columns id, label and perhaps slice, or .jsonl with these keys.

    Exit code 6 where not one label was taken.
    """
    accepted, sent, refused = 0, 0, Counter[str]()
    check_address("--url", url)
    if timeout != timeout:
        raise Complaint("--timeout: give a number of seconds", Exit.USAGE)
    with plainly():
        entries = _entries(file)
        while chunk := list(islice(entries, batch)):
            answer = _send(url, modeldeployment, chunk, timeout)
            accepted += answer["accepted"]
            refused.update(answer["refused"])
            sent += len(chunk)
            click.echo(f"{sent} sent, {accepted} joined", err=True)
    click.echo(f"{accepted} of {sent} labels joined")
    for reason, number in refused.most_common():
        click.echo(f"  {number} {reason}: {_MEANINGS.get(reason, '')}".rstrip(": "))
    if sent == 0:
        raise Complaint(f"{file} has no labels", Exit.INVALID)
    if accepted == 0:
        raise Complaint("not one label was joined", Exit.INVALID)


def _entries(file: Path) -> Iterator[dict[str, Any]]:
    """The labels of the file. Raises Complaint with the line that cannot be read."""
    try:
        if file.suffix.lower() == ".csv":
            yield from _csv(file)
        else:
            yield from _lines(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Complaint(f"{file}: cannot be read: {error}", Exit.INVALID) from error


def _csv(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream)
        if not {"id", "label"} <= set(rows.fieldnames or ()):
            raise Complaint(
                f"{file}: the first line must name the columns id and label (and perhaps slice)", Exit.INVALID
            )
        for row in rows:
            entry = {key: row[key] for key in ("id", "label", "slice") if row.get(key)}
            # Tables write whole numbers as 1.0; the class is 1, as it is where JSON says 1.0.
            if (whole := _WHOLE.fullmatch(entry.get("label", "").strip())) is not None:
                entry["label"] = str(int(whole[1]))
            yield entry


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with click.open_file(str(file), encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line, parse_constant=_no_number)
            except (ValueError, RecursionError):
                entry = None
            if not isinstance(entry, dict):
                raise Complaint(
                    f'{file}: line {number} is no JSON object like {{"id": "...", "label": 1}}', Exit.INVALID
                )
            yield entry


def _no_number(word: str) -> None:
    """NaN and Infinity are no label, and no JSON: one of them would have the whole batch refused."""
    raise ValueError(word)


def _send(url: str, name: str | None, chunk: list[dict[str, Any]], timeout: float) -> dict[str, Any]:
    place = url.rstrip("/") + "/v1/labels" + (f"?{urlencode({'modeldeployment': name})}" if name else "")
    request = urllib.request.Request(  # noqa: S310 - the scheme was looked at
        place, json.dumps(chunk).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    # A proxy of the environment must not see labels.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as response:
            answer: Any = json.loads(response.read(65536))
    except urllib.error.HTTPError as error:
        said = _plain(error.read(500).decode("utf-8", "replace"))
        raise Complaint(f"{url}: HTTP {error.code}: {said}: is it the observer's label port?") from error
    except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
        said = _plain(str(getattr(error, "reason", None) or error))
        raise Complaint(f"{url}: {said}: is it the observer's label port?") from error
    if (
        not isinstance(answer, dict)
        or not isinstance(answer.get("accepted"), int)
        or not isinstance(refused := answer.get("refused"), dict)
        or not all(isinstance(number, int) for number in refused.values())
    ):
        raise Complaint(f"{url} does not answer like an observer")
    return answer


def _plain(text: str) -> str:
    """One line of what a server that may be another one says."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(line.split())[:300] or "no words"
