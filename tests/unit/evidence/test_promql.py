"""Users' PromQL: kept in its namespace, filled without a way out, and refused with a sentence."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import Any

import promql_parser as promql
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelrollout.evidence import promql as ours
from modelrollout.evidence.promql import QueryError, compile_query, fill, quote

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def compiled(text: str, enforce: bool = True, **values: Any) -> str:
    given = {"namespace": "demo", "name": "digits", "revision": "digits-new", "stable": "digits-old"} | values
    window = given.pop("window", timedelta(minutes=1))
    return compile_query(text, window=window, enforce_namespace=enforce, **given)


def shape(text: str) -> list[tuple[Any, ...]]:
    """The tree without the values of its label matchers."""
    nodes: list[tuple[Any, ...]] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql.VectorSelector):
            nodes.append(("selector", node.name, [(str(m.op), m.name) for m in node.matchers.matchers], node.offset))
        else:
            nodes.append((type(node).__name__,))

    promql.walk(promql.parse(text), pre_visit=visit)
    return nodes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'max(feature_psi{revision="$revision"})',
            'max(feature_psi{namespace="demo",revision="digits-new"})',
        ),
        ("rate(x[$window])", 'rate(x{namespace="demo"}[1m])'),
        ("max_over_time(x[1h:$window])", 'max_over_time(x{namespace="demo"}[1h:1m])'),
        ('x{w="$window"}', 'x{namespace="demo",w="1m"}'),
        ('x{namespace="$namespace"}', 'x{namespace="demo"}'),
        ('x{namespace="demo"}', 'x{namespace="demo"}'),
        ('x{namespace=~".*"}', 'x{namespace="demo",namespace=~".*"}'),
        ("x offset 90s", 'x{namespace="demo"} offset 1m30s'),
        ("x offset -1500ms", 'x{namespace="demo"} offset -1s500ms'),
        ("rate(x[500ms] offset 5m)", 'rate(x{namespace="demo"}[500ms] offset 5m)'),
        ('{__name__=~"a.*"}', '{__name__=~"a.*",namespace="demo"}'),
        ('{"a.b","c.d"="e"}', '{"c.d"="e",__name__="a.b",namespace="demo"}'),
        ("a / on(b) group_left(c) d", 'a{namespace="demo"} / on (b) group_left (c) d{namespace="demo"}'),
        ("quantile(scalar(a), b)", 'quantile(scalar(a{namespace="demo"}), b{namespace="demo"})'),
        ("absent(x) or vector(0)", 'absent(x{namespace="demo"}) or vector(0)'),
        (
            'label_replace(x, "a", "$1", "b", "(.*)\\n\\"")',
            'label_replace(x{namespace="demo"}, "a", "$1", "b", "(.*)\\n\\"")',
        ),
        ("x # } or y{", 'x{namespace="demo"}'),
        ('x{a="# $revision"}', 'x{a="# digits-new",namespace="demo"}'),
        ('x{pod=~"$revision-.*$"}', 'x{namespace="demo",pod=~"digits-new-.*$"}'),
        ("1 + 1", "1 + 1"),
        ("(time())", "(time())"),
    ],
)  # fmt: skip
def test_compiles(text: str, expected: str) -> None:
    assert " ".join(compiled(text).split()) == expected
    promql.parse(compiled(text))


def test_without_enforcement_only_placeholders_are_filled() -> None:
    text = 'sum(envoy_x{namespace="gateways",c=~".*/$namespace/$name/.*"})'
    assert compiled(text, enforce=False) == 'sum(envoy_x{c=~".*/demo/digits/.*",namespace="gateways"})'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "does not parse"),
        ("sum(x", "does not parse: unclosed left parenthesis"),
        ("x{a=~'('}", "does not parse"),
        ("x[5m]", "answers a range of samples"),
        ("((x[5m]))", "answers a range of samples"),
        ("x[5m:1m]", "answers a range of samples"),
        ('"text"', "answers a text"),
        ("rate(x[25h])", "a range is longer than 24h"),
        ("max_over_time(x[2d:1m])", "a range is longer than 24h"),
        ("max_over_time(x[1d:1s])", "more than 11000 steps"),
        ("sum(max_over_time(rate(x[2d])[1h:1m]))", "a range is longer than 24h"),
        ("x @ 1609746000", "@ pins the query"),
        ("x @ end()", "@ pins the query"),
        ("max_over_time(x[1h:1m] @ start())", "@ pins the query"),
        ('x{a="b" or c="d"}', "`or` between label matchers"),
        ("info(x)", "info() reads other series"),
        ('x{namespace="other"}', "its own namespace only: remove the matcher of namespace 'other'"),
        ('x{namespace="$name"}', "its own namespace only"),
        ('x{a="$nothing"}', "$nothing is unknown; placeholders are $namespace, $name, $revision"),
        ('x{a="$revisions"}', "$revisions is unknown"),
        ("x[$nothing]", "$nothing is unknown"),
        ("$revision", 'as the value of a label, like revision="$revision"'),
        ("x{a=$revision}", "as the value of a label"),
        ('label_replace(x, "a", "$revision", "b", "c")', "as the value of a label"),
        ('count_values("$name", x)', "as the value of a label"),
        ("x" * 4097, "longer than 4096 characters"),
        ("(" * 17 + "x" + ")" * 17, "too complex"),
        ("-" * 4000 + "x", "too complex"),
        ("x+" * 2000 + "x", "too complex"),
        ("x or " * 800 + "x", "too complex"),
        ("x\x00", "control characters"),
        ("x{a='\ud800'}", "control characters"),
    ],
)
def test_refuses(text: str, sentence: str) -> None:
    with pytest.raises(QueryError) as caught:
        compiled(text)
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "abs(" * 16 + "x" + "+y)" * 16,
        "x+" * 48 + "x",
        "-" * 48 + "x",
        "x+(" * 16 + "x" + ")" * 16 + "+x" * 32,
        "x{" + "a='b'," * 600 + "}",
    ],
)
def test_the_most_complex_query_takes_no_time_to_speak_of(text: str) -> None:
    began = time.process_time()
    compiled(text)
    assert time.process_time() - began < 1.0


@given(
    value=TEXTS,
    text=st.sampled_from(['x{a="$revision"}', "x{a='$revision',b=`$revision`}", 'sum(rate(x{a!="$revision"}[1m]))']),
)
@settings(deadline=None)  # fmt: skip
def test_no_value_changes_the_tree(value: str, text: str) -> None:
    printed = compiled(text, revision=value)
    assert shape(printed) == shape(compiled(text, revision="harmless"))
    values: list[str] = []

    def collect(node: Any) -> None:
        if isinstance(node, promql.VectorSelector):
            values.extend(m.value for m in node.matchers.matchers if m.name in "ab")

    promql.walk(promql.parse(printed), pre_visit=collect)
    assert set(values) == {value}


@given(TEXTS)
@settings(deadline=None)
def test_a_value_in_a_pattern_means_itself(value: str) -> None:
    printed = compiled('x{a=~"$revision"}', revision=value)
    node = promql.parse(printed)
    assert isinstance(node, promql.VectorSelector)
    pattern = next(m.value for m in node.matchers.matchers if m.name == "a")
    assert pattern.replace("\\", "") == value.replace("\\", "")
    assert shape(printed) == shape(compiled('x{a=~"$revision"}', revision="harmless"))


@given(TEXTS)
def test_quoting_is_exact(value: str) -> None:
    node = promql.parse(fill('x{a=~"$cluster",b=~"$cluster|"}', {"cluster": (value, "c")}))
    assert isinstance(node, promql.VectorSelector)
    plain, optional = (matcher.value for matcher in sorted(node.matchers.matchers, key=lambda matcher: matcher.name))
    assert re.fullmatch(plain, value)
    assert re.fullmatch(plain, "c")
    assert not re.fullmatch(plain, f"{value}~~~")
    assert re.fullmatch(optional, value)
    assert re.fullmatch(optional, "")
    literal = promql.parse(quote(value))
    assert isinstance(literal, promql.StringLiteral)
    assert literal.val == value


@given(st.text("x{}()[]\"'`\\$#=~!,+- \n1mnamespacedor@", max_size=60))
@settings(max_examples=500, deadline=None)
def test_whatever_is_sent_stays_in_its_namespace(text: str) -> None:
    try:
        printed = compiled(text)
    except QueryError:
        return
    outside: list[str] = []

    def check(node: Any) -> None:
        if isinstance(node, promql.VectorSelector):
            names = [(m.name, m.value) for m in node.matchers.matchers if m.op == promql.MatchOp.Equal]
            if ("namespace", "demo") not in names or node.matchers.or_matchers:
                outside.append(node.prettify())

    promql.walk(promql.parse(printed), pre_visit=check)
    assert not outside


@pytest.mark.parametrize("printed", ['y{namespace="demo"}', "x", 'x{namespace="demo"} or y{namespace="demo"}'])
def test_a_print_that_is_not_the_checked_tree_is_not_sent(printed: str) -> None:
    with pytest.raises(QueryError, match="simpler way"):
        ours._check_print(promql.parse('x{namespace="demo"}'), printed, "demo")


def test_compiling_is_remembered() -> None:
    compile_query.cache_clear()
    compiled("remembered")
    compiled("remembered")
    assert ours.compile_query.cache_info().hits == 1


@pytest.mark.parametrize(
    ("text", "where", "expected"),
    [
        ("x{$where}", (("a", "b"),), 'x{a="b",namespace="demo"}'),
        ("x{$where}", (), 'x{namespace="demo"}'),
        ('x{$where , y="z"}', (), 'x{namespace="demo",y="z"}'),
        ('x{y="z",$where}', (), 'x{namespace="demo",y="z"}'),
        ('x{y="z",$where}', (("a", "b"), ("c", "d")), 'x{a="b",c="d",namespace="demo",y="z"}'),
        # A value that looks like a placeholder or like PromQL is text.
        ("x{$where}", (("a", "$revision"),), 'x{a="$revision",namespace="demo"}'),
        ("x{$where}", (("a", '",namespace="kube-system'),), r'x{a="\",namespace=\"kube-system",namespace="demo"}'),
    ],
)
def test_where_is_a_list_of_matchers(text: str, where: ours.Where, expected: str) -> None:
    assert compiled(text, where=where) == expected


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_no_value_of_where_changes_the_query(value: str) -> None:
    assert shape(compiled("sum(x{$where,y='z'})", where=(("a", value),))) == shape('sum(x{a="b",namespace="c",y="z"})')


def test_where_and_pods_out_of_place() -> None:
    with pytest.raises(QueryError, match="known in the SLIs of a policy only"):
        compiled("x{$where}")
    with pytest.raises(QueryError, match="does not parse"):
        compiled("x + $where", where=(("a", "b"),))
    with pytest.raises(QueryError, match=r'is a regular expression: write pod=~"\$pods"'):
        compiled('x{pod="$pods"}')
    with pytest.raises(QueryError, match="a range is longer than 24h"):
        compiled("rate(x[25h])")
    assert compiled("rate(x[25h])", longest=timedelta(hours=30)) == 'rate(x{namespace="demo"}[1d1h])'


@pytest.mark.parametrize(
    ("revision", "pod", "taken"),
    [
        ("digits-0123456789", "digits-0123456789-6cd79f5b96-wsxbj", True),
        ("digits-0123456789", "digits-0123456789-84d7-wsxbj", True),
        ("digits-0123456789", "digits-0123456789-0123456789-6cd79f5b96-wsxbj", False),
        ("digits-0123456789", "digits-0123456780-6cd79f5b96-wsxbj", False),
        ("digits-0123456789", "other-digits-0123456789-6cd79f5b96-wsxbj", False),
        # 58 characters are left of what comes before a pod's own five.
        (f"{'m' * 40}-0123456789", f"{'m' * 40}-0123456789-6cd79fwsxbj", True),
        (f"{'m' * 52}-0123456789", f"{'m' * 52}-01234wsxbj", True),
        (f"{'m' * 52}-0123456789", f"{'m' * 52}-99234wsxbj", False),
    ],
)
def test_pods_are_those_of_one_deployment(revision: str, pod: str, taken: bool) -> None:
    selector = promql.parse(compiled('x{pod=~"$pods"}', revision=revision))
    pattern = next(matcher.value for matcher in selector.matchers.matchers if matcher.name == "pod")
    assert bool(re.fullmatch(pattern, pod)) is taken
