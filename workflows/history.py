"""When a workflow goes on in a new run by continue-as-new, and how: where its history is long, or newer code waits.

A module of its own, so that a rehearsal can pass it through the workflow sandbox and lower the figures.
"""

from typing import NoReturn

from pydantic import BaseModel
from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api.model import Model

EVENTS = 3_000
EVENTS_IN_RECOVERY = 8_000  # until which a recovery may hold it up
BYTES_IN_RECOVERY = 16 << 20  # likewise; the service ends a run at 50 MiB


def is_long() -> bool:
    """The history is so long that a new run should go on."""
    info = workflow.info()
    return info.get_current_history_length() >= EVENTS or info.is_continue_as_new_suggested()


def is_time_to_go_on(*, recovering: bool = False) -> bool:
    """True if the history is long, or the worker's deployment has another current version than this run's.

    Belongs into the condition of every wait that may last: signals and updates fill the history of a run that sleeps.
    """
    info = workflow.info()
    short = info.get_current_history_length() < EVENTS_IN_RECOVERY
    if recovering and short and info.get_current_history_size() < BYTES_IN_RECOVERY:
        return False
    return is_long() or info.is_target_worker_deployment_version_changed()


def go_on(start: Model, state: BaseModel) -> NoReturn:
    """End this run; the next one has the state, and begins on the deployment's current version.

    A run stays on the version that began it (PINNED), and by default so would its successors; without worker
    versioning the wish has no effect.
    """
    workflow.continue_as_new(
        start.model_copy(update={"state": state.model_dump(mode="json")}),
        initial_versioning_behavior=workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE,
    )
