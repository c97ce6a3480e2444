"""When a sweep is itself the danger, and what people are told of one. Pure."""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from api.sweep import Kind, Swept

FEW = 3
_BY_WORKFLOW = ("machines", "CheckpointBackups", "Leases", "finalizers")
NAMED = 100  # orphans named in a report; the others are counted


def too_many(orphans: int, seen: int) -> bool:
    """More than a few orphans, and more than half of all: rather a worker that looks at an empty Temporal."""
    return orphans > FEW and orphans * 2 > seen


def alarm(kinds: Iterable[Swept], command: str) -> str | None:
    """Why nothing may be swept, with ``command`` to sweep nevertheless; None where there is no reason.

    Marks are judged by their Nodes alone, and of images only those are found whose job Temporal knows.
    """
    many = [one for one in kinds if one.kind in _BY_WORKFLOW and too_many(len(one.orphans), one.seen)]
    if not many:
        return None
    told = " and ".join(f"{len(one.orphans)} of {one.seen} {one.kind}" for one in many)
    return (
        f"nothing was swept: no open workflow owns {told}. Does this worker look at the right Temporal namespace, and "
        f"has it lost no workflows? If these are orphans indeed, sweep them once: {command}"
    )


def needs_credentials(job_id: str, with_machines: Iterable[str], unreadable: list[str]) -> str | None:
    """Why what a job holds has to stay: without it its machines cannot be deleted. None where nothing speaks for it."""
    if job_id in with_machines:
        return "it has machines still; the sweep after these are gone lets go"
    if unreadable:
        return "it may have machines in what was not readable"
    return None


def by_hand(workflow_type: str, task_queue: str, namespace: str, request: str) -> str:
    """The command by which a person starts one sweep. ``request`` is its input in JSON."""
    return (
        f"temporal workflow start --namespace {namespace} --task-queue {task_queue} --type {workflow_type} "
        f"--workflow-id sweep-by-hand --input '{request}'"
    )


def failed_again(failed: Mapping[Kind, str], before: Collection[Kind]) -> str | None:
    """The alarm about finders that failed in two sweeps in a row; None if there is none."""
    lasting = [f"{kind} ({why})" for kind, why in failed.items() if kind in before]
    if not lasting:
        return None
    return (
        f"two sweeps in a row could not look for {', '.join(lasting)}: what nobody owns of these is not found, and "
        "machines among them cost money; the other kinds are swept as usual"
    )


def summary(
    kinds: Iterable[Swept], unreadable: list[str], dry_run: bool, failed: Mapping[Kind, str] = MappingProxyType({})
) -> str:
    """One line for the Web UI."""
    told = [f"{len(one.orphans)} of {one.seen} {one.kind}" for one in kinds if one.seen]
    line = f"orphans: {', '.join(told)}" if told else "there is nothing that could be an orphan"
    line += " (dry run)" if dry_run else ""
    if failed:
        line += f"; could not look for {', '.join(failed)}"
    return f"{line}; not readable: {'; '.join(unreadable)}" if unreadable else line


def shortened(kind: Swept) -> Swept:
    """With no more names than fit into a report."""
    more = len(kind.orphans) - NAMED
    return kind.model_copy(update={"orphans": [*kind.orphans[:NAMED], f"and {more} more"]}) if more > 0 else kind
