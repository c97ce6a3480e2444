"""The service's limits of a run, and how much of them a run has used.

They are from the service's dynamic configuration, docs.temporal.io/cloud/limits and temporal's common/dynamicconfig.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.execution import Execution

EVENTS = 51_200
BYTES = 50 << 20
PAYLOAD_BYTES = 2 << 20
SIGNALS = 10_000
UPDATES = 2_000
UPDATES_AT_ONCE = 10
PENDING_ACTIVITIES = 2_000

NEAR = 0.5
"""The share of a limit that no run of ours may reach, because nobody has planned what happens at a limit."""

LOOK_EVENTS, LOOK_BYTES = 256, BYTES // 4
"""How often a run is checked: each so many events, and at each event from so many bytes on. A check is costly."""


class LimitError(AssertionError):
    """A run has passed a limit at which the service would have ended it, or failed its task for good."""


@dataclass
class Usage:
    """What one run has used so far; the most at once of what comes and goes."""

    signals: int = 0
    updates: int = 0
    pending_activities: int = 0
    payload_bytes: int = 0


def keep_to(run: "Execution") -> None:
    """Raise if a run has passed a limit.

    Raises:
        LimitError: it names the run and the limit.
    """
    if over := _over(run, 1.0):
        raise LimitError(f"run {run.run_id} of {run.id} passed the service's limits: {', '.join(over)}")


def near(run: "Execution") -> list[str]:
    """List the limits of which a run has used more than ``NEAR``."""
    return [f"{run.id}: {each}" for each in _over(run, NEAR)]


def _over(run: "Execution", share: float) -> list[str]:
    usage, history = run.usage, run.history
    used = {
        "events": (len(history.events), EVENTS),
        "bytes": (history.size, BYTES),
        "bytes of a payload": (usage.payload_bytes, PAYLOAD_BYTES),
        "signals": (usage.signals, SIGNALS),
        "updates": (usage.updates, UPDATES),
        "pending activities": (usage.pending_activities, PENDING_ACTIVITIES),
    }
    return [f"{count} {what} of {limit}" for what, (count, limit) in used.items() if count > share * limit]
