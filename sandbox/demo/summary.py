"""The result of the demo: steps done and lost, how long each phase of each recovery took, VMs made and deleted."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table

from sandbox.demo.observer import Change, holds
from sandbox.demo.story import Recovery, Story


def summary(story: Story) -> RenderableType:
    """Format the end of the demo, for a terminal or a log."""
    return Group("", _recoveries(story), "", _totals(story))


def _totals(story: Story) -> RenderableType:
    trainings = story.trainings.of(story.job.id)
    winner = next(each for each in trainings if each.done)
    redone = sum(recovery.redone for recovery in story.recoveries)
    happened = [event["what"] for event in story.observer.ledger]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("steps done", f"{winner.last} of {winner.of}")
    table.add_row("steps lost", f"{story.steps_lost[0]} with one VM, {story.steps_lost[1]} with both at once")
    table.add_row("steps computed again", f"{redone}, all restored replicas together")
    table.add_row("VMs", f"{happened.count('running')} made, {happened.count('deleted')} deleted")
    return table


def _recoveries(story: Story) -> RenderableType:
    """Format the seconds from the notice to each phase."""
    table = Table(title="seconds after the notice", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    phases = [_phases(story, recovery) for recovery in story.recoveries]
    for recovery in story.recoveries:
        table.add_column(f"replica {recovery.replica}", justify="right")
    for phase in phases[0]:
        seconds = [each.get(phase) for each in phases]
        table.add_row(phase, *("" if each is None else f"{each:.1f}" for each in seconds))
    return table


def _phases(story: Story, recovery: Recovery) -> dict[str, float | None]:
    """Return the seconds from the notice to each phase, None for one that did not happen, such as a checkpoint."""
    seen = story.observer.history
    moments = {
        "CheckpointBackup of the survivor accepted": _first(seen, "checkpointbackups", recovery.backup),
        "its image in the registry": next((each.at for each in seen if _is_completed(each, recovery.backup)), None),
        "new VM asked for": story.observer.happened("requested", recovery.successor),
        "new VM running": story.observer.happened("running", recovery.successor),
        "new Node Ready": next((each.at for each in seen if _is_ready(each, recovery.successor)), None),
        "training goes on": recovery.trains,
        "lost VM gone": story.observer.happened("deleted", recovery.vm),
    }
    return {phase: None if at is None else at - recovery.notice for phase, at in moments.items()}


def _first(seen: list[Change], kind: str, name: str | None) -> float | None:
    return next((each.at for each in seen if each.kind == kind and each.name == name), None)


def _is_completed(change: Change, backup: str | None) -> bool:
    of_backup = change.kind == "checkpointbackups" and change.name == backup
    return of_backup and (change.object.get("status") or {}).get("phase") == "Completed"


def _is_ready(change: Change, node: str) -> bool:
    return change.kind == "nodes" and change.name == node and holds(change.object, "Ready")
