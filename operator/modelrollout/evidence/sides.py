"""One question about the counters of both arms, and which series of the answer are whose."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import promql_parser

from modelrollout.evidence.context import Context
from modelrollout.evidence.slis import Catalog, Counters
from modelrollout.ports import Series


def both_selector(counters: Counters, known: Catalog, protocol: str, context: Context) -> str:
    """The selector that takes the counters of the candidate and of stable; raises CatalogError."""
    names = (*known.names(protocol, context), *known.names(protocol, context.other))
    return counters.query(tuple(dict.fromkeys(names)))


def pattern_of(counters: Counters, known: Catalog, protocol: str, arm: Context) -> re.Pattern[str]:
    """What the label that tells arms apart has in the series of ``arm``."""
    return _matcher(counters.query(known.names(protocol, arm)), known.clusters.label)


def series_of(
    series: Sequence[Series], counters: Counters, known: Catalog, protocol: str, arm: Context
) -> tuple[Series, ...]:
    """The series of ``arm``, with those that are about the process and so about both."""
    mine, label = pattern_of(counters, known, protocol, arm), known.clusters.label
    return tuple(one for one in series if not (name := one.labels.get(label)) or mine.fullmatch(name))


@lru_cache(maxsize=1024)
def _matcher(selector: str, label: str) -> re.Pattern[str]:
    tree: Any = promql_parser.parse(selector)
    return re.compile(next(matcher.value for matcher in tree.matchers.matchers if matcher.name == label))
