"""When a sweep would itself be the danger, and what people read about it."""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from api.sweep import Kind, Swept

FEW = 3
"""This many orphans never raise the alarm."""

NAMED = 100
"""How many orphans a report names. The others are counted."""

_BY_WORKFLOW = ("machines", "CheckpointBackups", "Leases", "finalizers")
"""The kinds that are orphans if no open workflow owns them. A lost Temporal makes all of them look so."""


def too_many(orphans: int, seen: int) -> bool:
    """True if there are more than a few orphans and they are more than half of all.

    That is more likely a worker that looks at an empty Temporal.
    """
    return orphans > FEW and orphans * 2 > seen


def alarm(kinds: Iterable[Swept], command: str) -> str | None:
    """Say why nothing may be swept, with ``command`` to sweep nevertheless; None if there is no reason.

    Preemption taints and images do not count: a taint is judged only by its Node, and only images of a job that
    Temporal knows are found.
    """
    many = [one for one in kinds if one.kind in _BY_WORKFLOW and too_many(len(one.orphans), one.seen)]
    if not many:
        return None
    counts = " and ".join(f"{len(one.orphans)} of {one.seen} {one.kind}" for one in many)
    return (
        f"nothing was swept: no open workflow owns {counts}. Check that this worker uses the right Temporal namespace "
        f"and that no workflows were lost there. If these really are orphans, sweep them once: {command}"
    )


def needs_credentials(job_id: str, with_machines: Iterable[str], unreadable: list[str]) -> str | None:
    """Say why a job's finalizers have to stay; None if they may go.

    They protect the credentials without which its machines cannot be deleted.
    """
    if job_id in with_machines:
        return "it still has machines; the first sweep after they are gone removes the finalizers"
    if unreadable:
        return "it may have machines in what could not be read"
    return None


def by_hand(workflow_type: str, task_queue: str, namespace: str, request: str) -> str:
    """Return the command by which a person starts one sweep. ``request`` is its input in JSON."""
    return (
        f"temporal workflow start --namespace {namespace} --task-queue {task_queue} --type {workflow_type} "
        f"--workflow-id sweep-by-hand --input '{request}'"
    )


def failed_again(failed: Mapping[Kind, str], before: Collection[Kind]) -> str | None:
    """Return the alarm about finders that failed in two sweeps in a row; None if there is none."""
    lasting = [f"{kind} ({why})" for kind, why in failed.items() if kind in before]
    if not lasting:
        return None
    return (
        f"two sweeps in a row could not look for {', '.join(lasting)}: orphans of these kinds are not found, and "
        "orphaned machines cost money. The other kinds are swept as usual"
    )


def summary(
    kinds: Iterable[Swept],
    unreadable: list[str],
    dry_run: bool,
    failed: Mapping[Kind, str] = MappingProxyType({}),
    stuck: int = 0,
) -> str:
    """Sum up a sweep in one line for the Web UI."""
    counts = [f"{len(one.orphans)} of {one.seen} {one.kind}" for one in kinds if one.seen]
    line = f"orphans: {', '.join(counts)}" if counts else "there is nothing that could be an orphan"
    line += " (dry run)" if dry_run else ""
    line += f"; {stuck} workflows do not go on" if stuck else ""
    if failed:
        line += f"; could not look for {', '.join(failed)}"
    return f"{line}; not readable: {'; '.join(unreadable)}" if unreadable else line


def shortened(kind: Swept) -> Swept:
    """Return the result of one kind with no more names than fit into a report."""
    more = len(kind.orphans) - NAMED
    return kind.model_copy(update={"orphans": [*kind.orphans[:NAMED], f"and {more} more"]}) if more > 0 else kind
