"""Puts a file into a parameter of a model's config.pbtxt, so that it is versioned with the model."""

from __future__ import annotations

import json

from modelrollout.profile.model import ProfileError


def embed(config: str, key: str, value: str) -> str:
    """The configuration with ``parameters[key].string_value`` set; what was written stays as it is.

    Raises ProfileError where the configuration cannot be read.
    """
    from google.protobuf import text_format  # type: ignore[import-untyped]
    from tritonclient.grpc import model_config_pb2

    try:
        read = text_format.Parse(config, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise ProfileError(f"the model's configuration cannot be read: {error}") from error
    if key in read.parameters:
        # Its own text is gone then, comments too: nothing else can replace an entry safely.
        read.parameters[key].string_value = value
        return str(text_format.MessageToString(read))
    head = config if config.endswith("\n") or not config else f"{config}\n"
    return f"{head}parameters {{\n  key: {json.dumps(key)}\n  value {{ string_value: {json.dumps(value)} }}\n}}\n"
