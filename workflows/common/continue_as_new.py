"""When and how a workflow continues as new: if its history is long, or if newer code is waiting.

It is a module of its own, so that a test can pass it through the workflow sandbox and lower the limits.
"""

from typing import NoReturn

from pydantic import BaseModel
from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api.model import Model

from workflows.common.patches import patched

EVENTS = 1_000
"""The length of a history, in events, from which it counts as long.

A worker that restarts replays the histories of all its workflows, and one that keeps a workflow keeps up to 1 KB for
each activity of its history.
"""

EVENTS_BEFORE = 3_000
"""The same for a run that an earlier release has brought beyond ``EVENTS``."""

EVENTS_IN_RECOVERY = 8_000
"""The length up to which a recovery may delay the new run."""

BYTES_IN_RECOVERY = 16 << 20
"""The size up to which a recovery may delay the new run. The service ends a run at 50 MiB."""


def is_long() -> bool:
    """True if the history is so long that a new run should begin."""
    info = workflow.info()
    length = info.get_current_history_length()
    if info.is_continue_as_new_suggested() or length >= EVENTS_BEFORE:
        return True
    return length >= EVENTS and patched("shorter-runs")


def is_time_to_go_on(*, recovering: bool = False) -> bool:
    """True if the history is long, or if the worker's deployment has another current version than this run.

    It belongs in the condition of every wait that may last, because signals and updates fill the history of a run that
    sleeps. With ``recovering`` it is True only beyond the larger limits of a recovery.
    """
    info = workflow.info()
    short = info.get_current_history_length() < EVENTS_IN_RECOVERY
    if recovering and short and info.get_current_history_size() < BYTES_IN_RECOVERY:
        return False
    return is_long() or info.is_target_worker_deployment_version_changed()


def go_on(start: Model, state: BaseModel) -> NoReturn:
    """End this run. The next one receives the state and begins on the deployment's current version.

    A run stays on the version that began it (PINNED), and by default its successors would too. Without worker
    versioning the choice of a version has no effect.
    """
    workflow.continue_as_new(
        start.model_copy(update={"state": state.model_dump(mode="json")}),
        initial_versioning_behavior=workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE,
    )
