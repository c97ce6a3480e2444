"""Whom to tell of workflows that do not go on, and when again. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from api.sweep import Stuck

AGAIN = timedelta(minutes=50)
"""The time after which a workflow that is still stuck is reported again: the API server keeps Events for an hour."""
NAMED = 5
"""Workflows that the alarm names; the others are counted."""


def due(found: Iterable[Stuck], before: Iterable[Stuck], now: datetime) -> list[Stuck]:
    """List those to tell of: new ones, those with another problem, and those of which it is time to tell again."""
    known = {(each.workflow_id, each.problem): each.told_at for each in before}

    def is_due(each: Stuck) -> bool:
        told = known.get((each.workflow_id, each.problem))
        return told is None or now - told >= AGAIN

    return [each for each in found if is_due(each)]


def remembered(found: Iterable[Stuck], before: Iterable[Stuck], told: Iterable[Stuck], now: datetime) -> list[Stuck]:
    """Note for the next sweep when people were told of each."""
    known = {each.workflow_id: each.told_at for each in before} | {each.workflow_id: now for each in told}
    return [each.model_copy(update={"told_at": known.get(each.workflow_id)}) for each in found]


def well_again(found: Iterable[Stuck], before: Iterable[Stuck]) -> list[Stuck]:
    """List those of the last sweep that are not found any more; whether they go on is still to be asked."""
    still = {each.workflow_id for each in found}
    return [each for each in before if each.workflow_id not in still]


def alarm(found: Iterable[Stuck], counts: Mapping[str, int]) -> str:
    """Say what does not go on, and where it says what to do."""
    listed, total = list(found), sum(counts.values())
    named = "; ".join(f"{each.workflow_type} {each.workflow_id} ({each.problem})" for each in listed[:NAMED])
    more = f"; and {total - NAMED} more" if total > NAMED else ""
    return (
        f"{total} workflows do not go on, because their task fails again and again. Nobody acts for what they look "
        f"after: {named}{more}. How to look and to mend: docs/alerts.md"
    )
