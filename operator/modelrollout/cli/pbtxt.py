"""A parameter put into the text of a config.pbtxt, with everything else in it left as it is."""

from __future__ import annotations

import re

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|#[^\n]*|[{}\[\]]|[A-Za-z_]\w*')


class PbtxtError(Exception):
    """The text cannot be changed safely; the message says what to do."""


def with_parameter(text: str, key: str, value: str) -> str:
    """The config with this parameter: in the place of the one that it has, else at its end. Raises PbtxtError."""
    entry = f'parameters {{\n  key: "{key}"\n  value: {{ string_value: "{_escaped(value)}" }}\n}}'
    for start, end in _parameters(text):
        if re.search(rf'\bkey\s*:\s*["\']{re.escape(key)}["\']', text[start:end]):
            return text[:start] + entry + text[end:]
    separator = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{separator}{entry}\n"


def _parameters(text: str) -> list[tuple[int, int]]:
    """Where each ``parameters { ... }`` of the model itself begins and ends."""
    found: list[tuple[int, int]] = []
    depth, start, last = 0, -1, (-1, "")
    for match in _TOKEN.finditer(text):
        sign = match.group()
        if sign[0] in "{[":
            if depth == 0 and last[1] == "parameters":
                if sign == "[":
                    raise PbtxtError(
                        "its parameters are a list [ ... ]: write each as parameters { ... }, or embed by hand"
                    )
                start = last[0]
            depth += 1
        elif sign[0] in "}]":
            depth -= 1
            if depth < 0:
                raise PbtxtError("its braces do not match")
            if depth == 0 and start >= 0:
                found.append((start, match.end()))
                start = -1
        if sign[0] != "#":
            last = (match.start(), sign)
    if depth:
        raise PbtxtError("its braces do not match")
    return found


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
