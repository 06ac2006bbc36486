"""Kubernetes objects of YAML files, as the commands are given them with ``-f``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from modelrollout.cli.exits import Exit
from modelrollout.cli.failing import Complaint


class NotYamlError(Exception):
    """The words that follow the name of the file: what is wrong with its text."""


def parsed(text: str) -> list[Any]:
    """The documents of a YAML text, in order, as the API server takes them. Raises NotYamlError."""
    try:
        return [_as_kept(document) for document in yaml.safe_load_all(text)]
    except RecursionError:
        raise NotYamlError("is nested too deeply to be read") from None
    # A ValueError is a date that there is not.
    except (yaml.YAMLError, ValueError) as error:
        raise NotYamlError(f"is not YAML: {' '.join(str(error).split())}") from error


def _as_kept(document: Any) -> Any:
    """What the API server keeps: 1 of 1.0, and of an object's nulls nothing, so that defaults count."""
    # In place and each part once: aliases of YAML may make a document of nine lines as large as the world, or endless.
    left, seen = [document], set[int]()
    while left:
        part = left.pop()
        if isinstance(part, dict):
            items: list[tuple[Any, Any]] = list(part.items())
        elif isinstance(part, list):
            items = list(enumerate(part))
        else:
            continue
        if id(part) in seen:
            continue
        seen.add(id(part))
        for place, value in items:
            if value is None and isinstance(part, dict):
                del part[place]
            elif isinstance(value, float) and value.is_integer():
                part[place] = int(value)
            else:
                left.append(value)
    return document


def read_documents(paths: Iterable[str]) -> list[dict[str, Any]]:
    """The objects of all files, in order; ``-`` is standard input. Raises a Complaint."""
    documents: list[Any] = []
    for path in paths:
        try:
            text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
            documents += parsed(text)
        except (OSError, UnicodeDecodeError) as error:
            raise Complaint(f"{path} cannot be read: {error}", Exit.USAGE) from error
        except NotYamlError as error:
            raise Complaint(f"{path} {error}", Exit.INVALID) from error
    return [item for item in documents if isinstance(item, dict)]
