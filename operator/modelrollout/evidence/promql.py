"""PromQL written by users: parsed, bounded, kept inside a namespace, and filled with values that cannot break out.

A query is only ever changed through its syntax tree, and what is sent is the printed tree, so text that this parser
and Prometheus might read differently never leaves the operator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any

import promql_parser as promql

from modelrollout.api.durations import format_duration

LONGEST_QUERY = 4096
LONGEST_RANGE = timedelta(days=1)
MOST_SUBQUERY_STEPS = 11_000
DEFAULT_SUBQUERY_STEP = timedelta(minutes=1)
# The parser's tree functions take time with the cube of the depth: 400 chained minus signs would take seconds.
DEEPEST_NESTING = 16
MOST_OPERATORS = 48

PLACEHOLDER = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
PLACEHOLDERS = ("namespace", "name", "revision", "stable", "pods", "window")

Where = tuple[tuple[str, str], ...]
"""Labels and the values they must have."""

_TOKEN = re.compile(
    r"""
    (?P<string> "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | `[^`]*` )
  | (?P<comment> \#[^\n]* )
  | (?P<where> \$where\b (?: \s* , )? )
  | (?P<placeholder> \$[A-Za-z_][A-Za-z0-9_]* )
  | (?P<open> [(\[{] ) | (?P<close> [)\]}] )
  | (?P<operator> [-+*/%^<>] | [=!]= | \b(?:and|or|unless|atan2)\b )
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_LONGEST_POD_PREFIX = 58
_PLAIN_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN_METRIC = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")


class QueryError(ValueError):
    """The query can never be used; the message is one sentence that says what to change."""


def quote(value: str) -> str:
    """A PromQL string literal for any text."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def one_line(query: str) -> str:
    """PromQL without the line breaks of its printed form; strings have none in them."""
    return re.sub(r"\s*\n\s*", " ", query)


def fill(selector: str, values: Mapping[str, Sequence[str]]) -> str:
    """Fill the placeholders of a trusted selector with regular expressions that take exactly these texts.

    Each is the whole of a double-quoted string, or a part of a regular expression in one. A final ``|`` also takes
    series without the label.
    """

    def text(match: re.Match[str]) -> str:
        before, after = match[1], match[3]
        found = "|".join(re.escape(value) for value in values[match[2]])
        return f'"{before}{quote(f"(?:{found})" if before or after.strip("|") else found)[1:-1]}{after}"'

    return re.sub(r'"([^"$]*)\$([A-Za-z_]+)([^"$]*)"', text, selector)


@lru_cache(maxsize=4096)
def compile_query(
    text: str,
    namespace: str,
    name: str,
    revision: str,
    stable: str,
    window: timedelta,
    enforce_namespace: bool = True,
    where: Where | None = None,
    longest: timedelta = LONGEST_RANGE,
    trusted: bool = False,
) -> str:
    """The query to send for a user's ``text``; raises QueryError.

    ``$namespace``, ``$name``, ``$revision`` and ``$stable`` are filled into label matchers (in a regular expression
    as literal text), ``$pods`` into ``=~`` as the pattern of the names of the revision's pods, ``$window`` wherever a
    duration may be. Where ``where`` is given, ``$where`` in a list of matchers stands for it. With
    ``enforce_namespace`` every selector gets ``namespace="<namespace>"``. No range may be longer than ``longest``.
    ``trusted``: the size of the text was checked (``check_size``) before more was put into it.
    """
    if not trusted:
        check_size(text)
    values = {
        "namespace": namespace,
        "name": name,
        "revision": revision,
        "stable": stable,
        "pods": pods_pattern(revision),
        "window": format_duration(window),
        **{f"where{place}": value for place, (_, value) in enumerate(where or ())},
    }
    tree = _parse(_scan(text, values["window"], where))
    _check_type(tree)
    promql.walk(tree, pre_visit=lambda node: _check_node(node, longest))
    kept = namespace if enforce_namespace else None
    tree = promql.transform(tree, post_visit=lambda node: _rewrite(node, values, kept))
    printed = tree.prettify()
    _check_print(tree, printed, kept)
    return printed


def check_size(text: str) -> None:
    """Raise QueryError for a text that is too long, or would take the parser too long."""
    if len(text) > LONGEST_QUERY:
        raise QueryError(f"the query is longer than {LONGEST_QUERY} characters")
    depth = deepest = operators = 0
    for match in _TOKEN.finditer(text):
        if match.lastgroup == "open":
            depth += 1
            deepest = max(deepest, depth)
        elif match.lastgroup == "close":
            depth -= 1
        elif match.lastgroup == "operator":
            operators += 1
    if deepest > DEEPEST_NESTING or operators > MOST_OPERATORS:
        raise QueryError(
            f"the query is too complex: at most {DEEPEST_NESTING} nested brackets and {MOST_OPERATORS} operators"
        )


@lru_cache(maxsize=1024)
def pods_pattern(revision: str) -> str:
    """The regular expression that takes the names of the pods of ``revision``'s Deployment, and of no other.

    Kubernetes cuts the part before a pod's own five characters to 58: of a long name the ReplicaSet's hash goes first.
    """
    if len(revision) + len("-0123456789-") <= _LONGEST_POD_PREFIX:
        return f"{_literally(revision)}-[a-z0-9]{{1,10}}-[a-z0-9]{{5}}"
    return f"{_literally(revision[:_LONGEST_POD_PREFIX])}[-a-z0-9]{{5,17}}"


def _literally(value: str) -> str:
    """The regular expression that takes this text only."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", value)


def _scan(text: str, window: str, where: Where | None) -> str:
    """Fill in ``$window`` and ``$where`` outside of strings."""
    if any((ord(char) < 32 and char not in "\n\r\t") or 0xD800 <= ord(char) < 0xE000 for char in text):
        raise QueryError("the query has control characters in it")
    matchers = ",".join(f'{name}="$where{place}"' for place, (name, _) in enumerate(where or ()))

    def replace(match: re.Match[str]) -> str:
        found = match[0]
        if match.lastgroup == "where":
            if where is None:
                raise QueryError("$where is known in the SLIs of a policy only; write the matcher of the label")
            return found.replace("$where", matchers) if matchers else ""
        if match.lastgroup == "placeholder":
            if found != "$window":
                raise QueryError(_misplaced(found))
            return window
        return found

    return _TOKEN.sub(replace, text)


def _misplaced(found: str) -> str:
    if found[1:] in PLACEHOLDERS:
        return f'write {found} as the value of a label, like revision="{found}"'
    return f"{found} is unknown; placeholders are {', '.join('$' + name for name in PLACEHOLDERS)}"


def _parse(text: str) -> promql.Expr:
    try:
        tree: promql.Expr = promql.parse(text)
    except ValueError as error:
        raise QueryError(f"the query does not parse: {' '.join(str(error).split())[:200]}") from None
    return tree


def _check_type(node: Any) -> None:
    while isinstance(node, promql.ParenExpr):
        node = node.expr
    if isinstance(node, promql.MatrixSelector | promql.SubqueryExpr):
        raise QueryError("the query answers a range of samples; wrap it in a function like rate() or max_over_time()")
    if isinstance(node, promql.StringLiteral):
        raise QueryError("the query answers a text, not a number")


def _check_node(node: Any, longest: timedelta) -> None:
    match node:
        case promql.MatrixSelector():
            _check_range(node.range, longest)
        case promql.SubqueryExpr():
            _check_range(node.range, longest)
            if node.at is not None:
                raise QueryError(_NO_AT)
            step = node.step or DEFAULT_SUBQUERY_STEP
            if step <= timedelta(0) or (node.range or longest) / step > MOST_SUBQUERY_STEPS:
                raise QueryError(f"a subquery has more than {MOST_SUBQUERY_STEPS} steps; make its step longer")
        case promql.VectorSelector():
            if node.at is not None:
                raise QueryError(_NO_AT)
            if node.matchers.or_matchers:
                raise QueryError("`or` between label matchers is not PromQL; use `or` between selectors")
        case promql.Call() if node.func.name == "info":
            raise QueryError("info() reads other series than it names and is not allowed; join with group_left")
        case promql.StringLiteral():
            named = [found for found in PLACEHOLDER.findall(node.val) if found in PLACEHOLDERS]
            if named:
                raise QueryError(_misplaced(f"${named[0]}"))
        case _:
            pass


_NO_AT = "@ pins the query to a fixed time, so it would never see the rollout; remove it"


def _check_range(length: timedelta | None, longest: timedelta) -> None:
    if length is None or not timedelta(0) < length <= longest:
        raise QueryError(f"a range is longer than {format_duration(longest)}")


def _rewrite(node: Any, values: Mapping[str, str], namespace: str | None) -> promql.Expr | None:
    """A selector with its placeholders filled and its namespace fixed; None leaves any other node as it is."""
    if not isinstance(node, promql.VectorSelector):
        return None
    parts = [_matcher(matcher, values, namespace) for matcher in node.matchers.matchers]
    if namespace is not None:
        parts.append(f"namespace={quote(namespace)}")
    name = node.name or ""
    if name and not _PLAIN_METRIC.fullmatch(name):
        parts.insert(0, f"__name__={quote(name)}")
        name = ""
    # In the order in which the printer writes them, so that the printed tree can be compared with this one.
    text = f"{name}{{{','.join(sorted(part for part in parts if part))}}}"
    if node.offset:
        milliseconds = node.offset // timedelta(milliseconds=1)
        text += f" offset {'-' if milliseconds < 0 else ''}{abs(milliseconds)}ms"
    return _parse(text)


def _matcher(matcher: promql.Matcher, values: Mapping[str, str], namespace: str | None) -> str:
    operator, is_pattern = _operator(matcher.op)

    def replace(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise QueryError(_misplaced(match[0]))
        value = values[match[1]]
        if match[1] == "pods":
            if not is_pattern:
                raise QueryError('$pods is a regular expression: write pod=~"$pods"')
            return value
        return _literally(value) if is_pattern else value

    value = PLACEHOLDER.sub(replace, matcher.value)
    if namespace is not None and matcher.name == "namespace" and operator == "=":
        if value != namespace:
            raise QueryError(
                f"a query may look at its own namespace only: remove the matcher of namespace {value[:63]!r}"
            )
        return ""
    label = matcher.name if _PLAIN_LABEL.fullmatch(matcher.name) else quote(matcher.name)
    return f"{label}{operator}{quote(value)}"


def _operator(kind: promql.MatchOp) -> tuple[str, bool]:
    """How a match operator is written, and whether its value is a regular expression."""
    if kind == promql.MatchOp.Equal:
        return "=", False
    if kind == promql.MatchOp.NotEqual:
        return "!=", False
    return ("=~", True) if kind == promql.MatchOp.Re else ("!~", True)


def _check_print(tree: promql.Expr, printed: str, namespace: str | None) -> None:
    """Refuse a query whose printed form is not the checked tree, or has a selector outside the namespace."""
    again = _parse(printed)
    outside: list[str] = []

    def check(node: Any) -> None:
        if isinstance(node, promql.VectorSelector) and not any(
            matcher.name == "namespace" and matcher.op == promql.MatchOp.Equal and matcher.value == namespace
            for matcher in node.matchers.matchers
        ):
            outside.append(node.prettify())

    if namespace is not None:
        promql.walk(again, pre_visit=check)
    if outside or repr(again) != repr(tree):
        raise QueryError("the query cannot be kept inside its namespace; write it in a simpler way")
