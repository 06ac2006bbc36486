"""How the operator's log lines look: one JSON object or one line of text each, on standard error."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from typing_extensions import override

from modelrollout.settings import LogFormat, Settings


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, ``fields`` of the record, the traceback if there is one."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({key: value for key, value in getattr(record, "fields", {}).items() if key not in line})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(settings: Settings) -> None:
    """Send all loggers to standard error in the format of the settings; kopf's chatter only from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.log_format is LogFormat.JSON:
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.value.upper())
    for name in ("kopf", "aiohttp", "kubernetes", "urllib3", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
