"""The recorded histories as files: `histories/<name>.json`, in the form of `temporal workflow show --output json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHistory

DIRECTORY = Path(__file__).parent / "histories"


def recorded() -> list[str]:
    """Names of the histories."""
    return sorted(path.stem for path in DIRECTORY.glob("*.json"))


def read(name: str) -> WorkflowHistory:
    """One history; its workflow id is no part of the file, so its name stands for it."""
    return WorkflowHistory.from_json(name, (DIRECTORY / f"{name}.json").read_text())


def write(name: str, history: WorkflowHistory) -> Path:
    """Keep a history: sorted and indented, so that another recording shows as a readable difference.

    Without the stack traces of failures, which name the machine's paths.
    """
    path = DIRECTORY / f"{name}.json"
    path.write_text(json.dumps(_untraced(history.to_json_dict()), indent=1, sort_keys=True) + "\n")
    return path


def _untraced(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untraced(each) for key, each in value.items() if key != "stackTrace"}
    if isinstance(value, list):
        return [_untraced(each) for each in value]
    return value
