"""``modelrollout backtest``: how often guards would have fired over the history in Prometheus."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from modelrollout.cli.exits import Exit
from modelrollout.cli.failing import Complaint, plainly
from modelrollout.cli.options import (
    Place,
    duration,
    examples,
    files_option,
    output_option,
    place_options,
    usage,
    write_each,
)

if TYPE_CHECKING:
    from modelrollout.adapters.userclient import UserClient
    from modelrollout.api.guard import Guard
    from modelrollout.api.modeldeployment import ModelDeployment
    from modelrollout.cli.policies import Policies
    from modelrollout.cli.view.backtest import Report
    from modelrollout.cli.view.past import Past
    from modelrollout.settings import Prometheus

MOST_EVALUATIONS = 50_000
MOST_QUESTIONS = 5000
SHORTEST_STEP, LONGEST_STEP = timedelta(seconds=5), timedelta(hours=1)
LEAST_STEPS = 10
ANSWER_WAIT = timedelta(seconds=60)
_NAMED = r"([a-z0-9.-]+/)?[a-z0-9.-]+"
QUIET = 2.0
"""Seconds after which a line of progress is shown."""


@click.command(
    epilog=examples(
        "modelrollout backtest --against 14d -f policy.yaml --prometheus http://localhost:9090",
        "modelrollout backtest --against 3d --deployment demo/digits --prometheus http://localhost:9090",
        "modelrollout backtest --against 12h -f digits.yaml -o json | jq '.[].guards[] | {name, served}'",
    )
)
@click.option("--against", required=True, metavar="TIME", help="How far back, like 14d, 1d12h or 90m.")
@files_option(
    "File with policies whose guards are replayed, or ModelDeployments as they shall be; - is stdin. May be "
    "repeated. Default: the guards that each ModelDeployment has now."
)
@click.option(
    "--deployment",
    "names",
    multiple=True,
    metavar="NAMESPACE/NAME",
    help="Over whose past; may be repeated. Default: those of FILE, else all that there are.",
)
@click.option("--prometheus", metavar="URL", help="Prometheus to ask. Default: that of the operator's settings.")
@click.option("--step", default="1m", show_default=True, callback=duration, help="Time between two evaluations.")
@click.option(
    "--settings",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The operator's settings file. Default: its ConfigMap in the cluster.",
)
@output_option
@place_options
def backtest(
    place: Place,
    against: str,
    paths: tuple[str, ...],
    names: tuple[str, ...],
    prometheus: str | None,
    step: float,
    settings: Path | None,
    output: str | None,
) -> None:
    """Replay guards over the history in Prometheus; nothing is changed.

    Guards with bounds are judged as if what served had been on trial again, one rollout after the other; guards
    relative to stable in the rollouts that the ModelRevisions remember, as all others are there too. It tells for each
    guard how often it would have fired, and the first, last and worst moment.

    Exit codes: 0 no guard would have taken back what was good, 3 one would have, 6 a file or guard is invalid, 2 wrong
    usage, 1 anything else.
    """
    with plainly():
        span, each = _span(against), timedelta(seconds=step)
        if not SHORTEST_STEP <= each <= LONGEST_STEP:
            raise usage("--step must be from 5s to 1h")
        if span < LEAST_STEPS * each:
            raise usage(f"--against {against}: must be at least {LEAST_STEPS} times --step")
        if span / each > MOST_EVALUATIONS:
            raise usage(
                f"that would be {span // each} evaluations of each guard, at most {MOST_EVALUATIONS} are: make "
                "--against shorter or --step longer"
            )
        asked = _asked(place, paths, names, prometheus, settings)
        work = _gathered(place.connect(), asked, settings, span, each)
        reports = _replayed(work, prometheus)
        from modelrollout.cli.view.backtest import report_document, report_lines

        write_each(reports, output, report_document, report_lines)
        if any(report.invalid for report in reports):
            raise SystemExit(int(Exit.INVALID))
        if any(report.fired for report in reports):
            raise SystemExit(int(Exit.TAKEN_BACK))


@dataclass(frozen=True)
class _Asked:
    """Over whose past to replay (empty: see ``_live``), what the files have, and the namespace that was given."""

    names: tuple[str, ...]
    documents: list[dict[str, Any]]
    namespace: str | None

    @property
    def wished(self) -> list[dict[str, Any]]:
        """The ModelDeployments of the files."""
        return [item for item in self.documents if item.get("kind") == "ModelDeployment"]

    def policies(self, namespace: str) -> Policies:
        """The policies of the files; those that name no namespace are of the one given, else of ``namespace``."""
        from modelrollout.cli.policies import in_documents

        return in_documents(self.documents, self.namespace or namespace)

    def wish(self, namespace: str, name: str, default: str) -> dict[str, Any] | None:
        """The ModelDeployment of the files; ``default`` is the namespace of those that name none."""
        for item in self.wished:
            metadata = item.get("metadata") or {}
            if (metadata.get("namespace") or default, metadata.get("name")) == (namespace, name):
                return item
        return None


@dataclass(frozen=True)
class _Work:
    """One ModelDeployment to replay: its guards with where they come from, and whom to ask.

    ``problem`` is the sentence that says why it has none that could be replayed.
    """

    past: Past
    guards: Sequence[Guard]
    origins: dict[str, str]
    prometheus: Prometheus | None
    notes: tuple[str, ...]
    problem: str = ""


def _span(text: str) -> timedelta:
    """``14d`` and ``1d12h`` too: the API's durations have no days."""
    from modelrollout.api.durations import parse_duration

    found = re.fullmatch(r"([0-9]{1,6})d(.*)", text, re.DOTALL)
    days, rest = (int(found[1]), found[2]) if found else (0, text)
    try:
        return timedelta(days=days) + (parse_duration(rest) if rest or not found else timedelta(0))
    except (ValueError, OverflowError) as error:
        raise usage(f"--against {text}: give a time like 14d, 1d12h or 90m") from error


def _asked(
    place: Place, paths: tuple[str, ...], names: tuple[str, ...], prometheus: str | None, settings: Path | None
) -> _Asked:
    """What can be known without the cluster; raises a Complaint about what is wrong with it."""
    from modelrollout.api.base import clean
    from modelrollout.cli import surroundings
    from modelrollout.cli.documents import read_documents
    from modelrollout.cli.policies import is_policy, policy_problem

    for name in names:
        if re.fullmatch(_NAMED, name) is None:
            raise usage(f"--deployment {name}: write NAMESPACE/NAME, NAME or all")
    if prometheus is not None:
        surroundings.prometheus_of("", None, prometheus)
    if settings is not None:
        surroundings.operator_settings(None, "", settings)
    documents = read_documents(paths)
    for document in documents:
        problem = policy_problem(document)[1] if is_policy(document) else None
        if problem:
            named = document.get("metadata")
            name = clean(str(named.get("name")), 253) if isinstance(named, dict) else ""
            raise Complaint(f"{document['kind']} {name}: {problem}", Exit.INVALID)
    asked = _Asked(names, documents, place.namespace)
    if paths and not asked.wished and not asked.policies("default").known:
        raise Complaint(f"{', '.join(paths)} has neither policies nor ModelDeployments", Exit.INVALID)
    for item in asked.wished:
        _parsed(item, place.namespace or "default")
    return asked


def _parsed(item: dict[str, Any], namespace: str) -> ModelDeployment:
    """The ModelDeployment of a file or the cluster, in ``namespace`` where it names none; raises a Complaint."""
    from modelrollout.api.errors import InvalidSpec
    from modelrollout.api.modeldeployment import parse_modeldeployment

    metadata = item.get("metadata") if isinstance(item.get("metadata"), dict) else {}
    place = (metadata or {}).get("namespace") or namespace
    try:
        return parse_modeldeployment({**item, "metadata": {**(metadata or {}), "namespace": place}})
    except InvalidSpec as error:
        raise Complaint(f"{place}/{(metadata or {}).get('name')}: {error}", Exit.INVALID) from error


def _gathered(
    client: UserClient, asked: _Asked, settings: Path | None, span: timedelta, step: timedelta
) -> list[_Work]:
    home = client.namespace
    live = _live(client, asked)
    if not live:
        where = f" in namespace {asked.namespace}" if asked.namespace else ""
        raise Complaint(f"there is no ModelDeployment{where} to replay")
    now = client.now().replace(microsecond=0)
    work = []
    with Progress("read {} ModelDeployments", len(live)) as progress:
        for item in live:
            work.append(_work(client, item, asked, home, settings, (now - span, now), step))
            progress.one()
    return work


def _live(client: UserClient, asked: _Asked) -> list[dict[str, Any]]:
    """The ModelDeployments of the cluster over whose past the guards are replayed, each once."""
    names = asked.names
    if not names and asked.wished:
        places = [item.get("metadata") or {} for item in asked.wished]
        names = tuple(f"{one.get('namespace') or client.namespace}/{one.get('name')}" for one in places)
    if not names or "all" in names:
        items, _ = client.list_objects("ModelDeployment", asked.namespace)
        return items
    found = []
    for full in dict.fromkeys(name if "/" in name else f"{client.namespace}/{name}" for name in names):
        namespace, _, bare = full.rpartition("/")
        item = client.get("ModelDeployment", namespace, bare)
        if item is None:
            raise Complaint(f"there is no ModelDeployment {full} with a past to replay")
        found.append(item)
    return found


def _work(
    client: UserClient,
    item: dict[str, Any],
    asked: _Asked,
    home: str,
    settings: Path | None,
    times: tuple[datetime, datetime],
    step: timedelta,
) -> _Work:
    """What to replay of one ModelDeployment: the guards of the files, else those that it has.

    ``home`` is the namespace of objects that name none.
    """
    from modelrollout.cli import surroundings
    from modelrollout.cli.policies import applied, in_cluster, only_from
    from modelrollout.cli.reading import children_of
    from modelrollout.cli.view.origins import origin_words
    from modelrollout.cli.view.past import Past
    from modelrollout.cli.view.snapshot import snapshot
    from modelrollout.cli.view.text import stamp

    namespace, name = str(item["metadata"].get("namespace") or client.namespace), str(item["metadata"]["name"])
    client.namespace = namespace
    raw, files = asked.wish(namespace, name, home), asked.policies(namespace)
    wish = _parsed(raw or item, namespace)
    if files.known and raw is None:
        resolution, notes = only_from(wish, files)
    else:
        resolution, notes = applied(wish, files.over(in_cluster(client, namespace)))
    children = children_of(client, name)
    live = snapshot(item, children, times[1])
    known = surroundings.operator_settings(client, namespace, settings)
    profile = surroundings.profile_of(wish, known.settings)
    enforce = surroundings.enforces(known.settings)
    past = Past(live, resolution.wish, times[0], times[1], step, profile, resolution.definitions, enforce)
    prometheus, _ = surroundings.prometheus_of(wish.spec.rollout.prometheus, known.settings, None)
    origins = {origin.guard: origin_words(origin) for origin in resolution.origins}
    guards = () if resolution.problem else resolution.wish.spec.rollout.guards
    told = [*notes, *children.unreadable]
    if not resolution.wish.spec.rollout.guards and not notes and not resolution.problem:
        told.append("it has no guards: there is nothing to replay")
    if (first := past.reigns()[:1]) and first[0].begin > past.since:
        told.append(f"who served before {stamp(first[0].begin)} is not on record: that time is not replayed")
    return _Work(past, guards, origins, prometheus, tuple(told), resolution.problem or "")


def _replayed(work: list[_Work], url: str | None) -> list[Report]:
    import asyncio

    from modelrollout.cli.replaying import questions

    asks = sum(questions(each.past, each.guards) for each in work)
    if asks > MOST_QUESTIONS:
        raise usage(
            f"that would ask Prometheus {asks} questions, at most {MOST_QUESTIONS} are: name fewer with --deployment, "
            "or make --against shorter or --step longer"
        )
    with Progress("asked {} questions", asks) as progress:
        return asyncio.run(_ask(work, url, progress))


async def _ask(work: list[_Work], url: str | None, progress: Progress) -> list[Report]:
    from modelrollout.adapters.prometheus import PrometheusMetrics
    from modelrollout.cli import surroundings
    from modelrollout.cli.replaying import Replayer
    from modelrollout.cli.view.backtest import Report

    reports = []
    for each in work:
        given = surroundings.prometheus_of("", None, url)[0] if url else each.prometheus
        if given is None:
            raise Complaint("no Prometheus is known: give --prometheus URL")
        metrics = PrometheusMetrics(given.model_copy(update={"timeout": ANSWER_WAIT}))
        try:
            found = await Replayer(metrics, progress.one).run(each.past, each.guards)
        finally:
            await metrics.close()
        past = each.past
        silent = [note for guard in found if (note := guard.unread)]
        if found and len(silent) == len(found):
            raise Complaint(f"{given.url}: {silent[0]}")
        reports.append(
            Report(
                past.wish.metadata.namespace,
                past.wish.metadata.name,
                past.since,
                past.until,
                past.step,
                past.length,
                found,
                each.origins,
                each.notes,
                each.problem,
            )
        )
    return reports


class Progress:
    """A line on standard error about a part of the work that takes its time: ``done 3 of 8 things``."""

    def __init__(self, words: str, whole: int, now: Callable[[], float] = time.monotonic) -> None:
        self._words, self._whole, self._now, self._count = words, whole, now, 0
        self._tty = sys.stderr.isatty()
        self._due = now() + QUIET
        self._told = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        if self._tty and self._told:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def one(self) -> None:
        """One more is done."""
        self._count += 1
        now = self._now()
        if now < self._due:
            return
        self._due, self._told = now + (0.2 if self._tty else 10 * QUIET), True
        text = self._words.format(f"{self._count} of {self._whole}")
        sys.stderr.write(f"\r\033[K{text}" if self._tty else f"{text}\n")
        sys.stderr.flush()
