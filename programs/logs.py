"""The log of every program of ours: lines for people, or JSON with a field for whatever a line is about.

``OUTLAST_LOG_FORMAT`` is ``text`` or ``json``. Imports are few, because the node agent runs on every spot node.
"""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from api.log_context import fields, of_workflow

VARIABLE = "OUTLAST_LOG_FORMAT"
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
OF_SDK = ("temporal_workflow", "temporal_activity")
"""The fields that the SDK adds to the records of a workflow and of an activity."""
SHOWN = ("workflow_id", "workflow_type", "workflow_run_id", "activity_type", "activity_id", "attempt")
"""What is shown of them."""


class JsonLines(logging.Formatter):
    """Writes each record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record: when, how bad, who, what, and what it is about."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_about(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def handler(environment: Mapping[str, str]) -> logging.Handler:
    """Make the handler of the log, on stderr.

    Raises:
        ValueError: the format is not known.
    """
    chosen = environment.get(VARIABLE) or "text"
    if chosen not in ("text", "json"):
        raise ValueError(f"{VARIABLE}={chosen!r} is neither text nor json")
    made = logging.StreamHandler()
    made.setFormatter(JsonLines() if chosen == "json" else logging.Formatter(TEXT))
    return made


def _about(record: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in OF_SDK:
        details = getattr(record, name, None)
        if isinstance(details, Mapping):
            found |= of_workflow(str(details.get("workflow_id") or ""))
            found |= {key: details[key] for key in SHOWN if details.get(key) is not None}
    return found | fields()
