"""``outlast status``: what a job is doing, as a tree of its replicas, their nodes and VMs, and what it waits for."""

from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from api.overview import blocker_of, overview
from api.spot_instance_job import JobStatusEntry, SpotInstanceJobStatus
from cli.cost import told_cost
from cli.session import Cluster, status_of
from cli.times import age, now
from clients.kube import Json

GOOD, BAD, BUSY = "green", "red", "yellow"


def list_of(jobs: list[Json], *, everywhere: bool) -> Table:
    """List jobs, one in a line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in [*(["NAMESPACE"] if everywhere else []), "NAME", "STATE", "PROGRESS", "LAST CHECKPOINT"]:
        table.add_column(title, overflow="fold")
    table.add_column("PREEMPTIONS", justify="right")
    table.add_column("COST", justify="right")
    table.add_column("AGE")
    for job in jobs:
        status, meta = status_of(job), job["metadata"]
        entries = status.job_statuses
        table.add_row(
            *([meta["namespace"]] if everywhere else []),
            meta["name"],
            _state(status),
            _furthest(entries),
            age(status.last_checkpoint_time),
            str(sum(entry.preemptions or 0 for entry in entries)),
            told_cost(status),
            age(_created(job)),
        )
    return table


def card(job: Json) -> RenderableType:
    """Show one job with all that belongs to it."""
    status, meta = status_of(job), job["metadata"]
    head = Text.assemble(
        (f"{meta['namespace']}/{meta['name']}", "bold"), "  ", _state(status), f"  age {age(_created(job))}"
    )
    tree = Tree(head, guide_style="dim")
    if status.message:
        tree.add(Text(status.message))
    for entry in status.job_statuses:
        _add_replica(tree, entry, status)
    for line in _facts(status):
        tree.add(line)
    return Group(tree)


async def read(cluster: Cluster, name: str | None, *, everywhere: bool) -> Any:
    """Read one job, or all of them."""
    return await cluster.jobs(everywhere=everywhere) if name is None else await cluster.job(name)


def _state(status: SpotInstanceJobStatus) -> Text:
    state = status.state or overview(status).state
    if state.startswith(("Failed", "Not ")):
        return Text(state, style=BAD)
    return Text(state, style=GOOD if state.startswith(("Running", "Completed")) else BUSY)


def _add_replica(tree: Tree, entry: JobStatusEntry, status: SpotInstanceJobStatus) -> None:
    style = GOOD if entry.phase in {"Running", "Succeeded"} else BAD if entry.phase == "Failed" else BUSY
    branch = tree.add(Text.assemble(f"replica {entry.replica}  ", (entry.phase or "-", style), *_since(entry, status)))
    if entry.message:
        branch.add(Text(entry.message))
    where = [part for part in (f"Job {entry.name}", f"node {entry.node_name}" if entry.node_name else "") if part]
    if entry.vm_name and entry.vm_name != entry.node_name:
        where.append(f"VM {entry.vm_name}")
    branch.add(Text(" → ".join(where)))
    for member in entry.members or []:
        progress = f"  progress {member.progress:g}" if member.progress is not None else ""
        where_it_is = member.node_name or member.vm_name or ""
        branch.add(Text(f"member {member.member}  {member.phase or '-'}  {where_it_is}{progress}"))
    facts = [f"started from {entry.restored_from}" if entry.restored_from else "started from the beginning"]
    if entry.progress is not None:
        facts.append(f"progress {entry.progress:g}")
    if entry.last_checkpoint_time is not None:
        facts.append(f"checkpoint {age(entry.last_checkpoint_time)} ago")
    counts = ((entry.preemptions, "preemptions"), (entry.restarts, "restarts"))
    facts += [f"{count} {what}" for count, what in counts if count]
    branch.add(Text(", ".join(facts), style="dim"))


def _since(entry: JobStatusEntry, status: SpotInstanceJobStatus) -> list[str]:
    """Say since when it runs, if the history tells."""
    for past in reversed(status.history):
        if (past.replica, past.incarnation, past.ended_at) == (entry.replica, entry.incarnation, None):
            return [f" for {age(past.started_at)}"]
    return []


def _facts(status: SpotInstanceJobStatus) -> list[Text]:
    lines = []
    told = {condition.type: condition for condition in status.conditions}
    blocker = blocker_of(status.job_statuses, told)
    if blocker is not None:
        found = told[blocker.type]
        how_long = f" (for {age(found.last_transition_time)})"
        lines.append(Text.assemble(("waits: ", BUSY), found.message or found.reason, how_long))
    if status.last_checkpoint_image:
        lines.append(Text(f"last checkpoint {age(status.last_checkpoint_time)} ago: {status.last_checkpoint_image}"))
    if status.cost is not None:
        sums, lost = status.cost.until(now()), status.cost.lost_seconds
        compared = f", ${sums.on_demand_usd:.2f} on-demand" if sums.on_demand_usd else ""
        lines.append(Text(f"cost {told_cost(status)}{compared}, now ${status.cost.per_hour:.2f} an hour"))
        if lost:
            lines.append(Text(f"training lost with machines: {lost:.0f} s"))
    if status.request is not None:
        lines.append(Text(f"request {status.request.value!r}: {status.request.state} {status.request.message}"))
    return lines


def _furthest(entries: list[JobStatusEntry]) -> str:
    known = [entry.progress for entry in entries if entry.progress is not None]
    return f"{max(known):g}" if known else "-"


def _created(job: Json) -> datetime:
    return datetime.fromisoformat(job["metadata"]["creationTimestamp"])
