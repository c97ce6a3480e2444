"""When a workflow's history is long enough for continue-as-new.

A module of its own, so that it is passed through the workflow sandbox and a rehearsal can lower the figures.
"""

from temporalio import workflow

EVENTS = 3_000
EVENTS_IN_RECOVERY = 8_000  # until which a recovery may hold it up


def is_long(*, recovering: bool = False) -> bool:
    """It is time to go on in a new run."""
    info = workflow.info()
    events = info.get_current_history_length()
    if recovering and events < EVENTS_IN_RECOVERY:
        return False
    return events >= EVENTS or info.is_continue_as_new_suggested()
