"""The recorded histories as files, in the form of `temporal workflow show --output json`.

A history is called ``<release>/<name>``, and is in `histories/<release>/<name>.json`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHistory

from tests.replay.releases import HERE, folder, kept, version

DIRECTORY = HERE / "histories"


def recorded() -> list[str]:
    """List the names of the histories of all releases."""
    return [f"{release}/{path.stem}" for release in kept("histories") for path in _files(release)]


def newest(name: str) -> str:
    """Read the history of this name of the newest release."""
    return f"{kept('histories')[-1]}/{name}"


def read(name: str) -> WorkflowHistory:
    """Read one history. The file does not contain its workflow id, so its name replaces that."""
    return WorkflowHistory.from_json(name, (DIRECTORY / f"{name}.json").read_text())


def write(name: str, history: WorkflowHistory) -> Path:
    """Keep a history of the release to come: sorted and indented, so that a second recording differs readably.

    It is written without the stack traces of failures, which name the machine's paths.

    Raises:
        ReleasedError: the release is out.
    """
    path = folder("histories", version()) / f"{name}.json"
    path.write_text(json.dumps(_untraced(history.to_json_dict()), indent=1, sort_keys=True) + "\n")
    return path


def _files(release: str) -> list[Path]:
    return sorted((DIRECTORY / release).glob("*.json"))


def _untraced(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untraced(each) for key, each in value.items() if key != "stackTrace"}
    if isinstance(value, list):
        return [_untraced(each) for each in value]
    return value
