"""``outlast cost``: what jobs have cost, those that are gone included, and what they would have cost on-demand."""

import json
from collections.abc import Iterable
from datetime import datetime

from pydantic import ValidationError
from rich.table import Table

from api import names
from api.cost import CostRecord, CostStatus, told
from api.object_conditions import finished_at
from api.spot_instance_job import SpotInstanceJobStatus
from cli.session import Cluster, status_of
from cli.times import now, span
from clients.kube import Json, path, selector


def told_cost(status: SpotInstanceJobStatus) -> str:
    """Say what a job costs until now; ``-`` if no VM was bought for it."""
    return told(status.cost, now()) if status.cost is not None else "-"


async def read(
    cluster: Cluster, name: str | None, *, everywhere: bool, since: datetime | None
) -> list[tuple[str, CostRecord]]:
    """Read what jobs cost: of those that are there from their status, of the others what was kept.

    Args:
        cluster: where to look.
        name: one job; None for all.
        everywhere: in all namespaces.
        since: leave out jobs that had ended before.

    Returns:
        For each job its namespace and its cost, in the order of their ends; those that run come last.
    """
    found: dict[tuple[str, str], CostRecord] = {}
    namespace = None if everywhere else cluster.namespace
    where = path("v1", "configmaps", namespace)
    async for kept in cluster.kube.each(where, labelSelector=selector({names.LABEL_COSTS: "true"})):
        for record in _records(kept):
            found[kept["metadata"]["namespace"], record.job_id] = record
    for job in await cluster.jobs(everywhere=everywhere):
        status = status_of(job)
        if status.cost is not None and status.job_id is not None:
            found[job["metadata"]["namespace"], status.job_id] = _of(job, status, status.cost, status.job_id)
    rows = [(where, record) for (where, _), record in found.items() if name in (None, record.job)]
    recent = [(where, record) for where, record in rows if since is None or record.ended_at >= since]
    return sorted(recent, key=lambda row: row[1].ended_at)


def table(rows: Iterable[tuple[str, CostRecord]]) -> Table:
    """Show costs, one job in a line, with their sums."""
    shown = Table(box=None, pad_edge=False, header_style="bold", show_footer=True, footer_style="bold")
    rows = list(rows)
    sums = [sum(values) for values in zip(*(_figures(record) for _, record in rows), strict=True)] or [0.0] * 5
    shown.add_column("NAMESPACE", "sum")
    shown.add_column("JOB")
    shown.add_column("ENDED")
    for title, figure in zip(("VM HOURS", "GPU HOURS"), sums[:2], strict=True):
        shown.add_column(title, f"{figure:.1f}", justify="right")
    shown.add_column("COST", f"${sums[2]:.2f}", justify="right")
    shown.add_column("ON-DEMAND", f"${sums[3]:.2f}", justify="right")
    shown.add_column("SAVED", _share(sums[2], sums[3]), justify="right")
    shown.add_column("TRAINING LOST", span(sums[4]), justify="right")
    for where, record in rows:
        hours, gpus, usd, on_demand, lost = _figures(record)
        mark = "?" if record.vms_without_price else ""
        shown.add_row(
            where, record.job, record.ended, f"{hours:.1f}", f"{gpus:.1f}", f"${usd:.2f}{mark}", f"${on_demand:.2f}",
            _share(usd, on_demand), span(lost),
        )  # fmt: skip
    return shown


def as_json(rows: Iterable[tuple[str, CostRecord]]) -> str:
    """Write costs as JSON, for scripts."""
    told_of = [{"namespace": where, **record.model_dump(mode="json", by_alias=True)} for where, record in rows]
    return json.dumps(told_of, indent=2)


def _figures(record: CostRecord) -> tuple[float, float, float, float, float]:
    return record.vm_hours, record.gpu_hours, record.usd, record.on_demand_usd, record.lost_seconds


def _share(usd: float, on_demand: float) -> str:
    return f"{100 * (1 - usd / on_demand):.0f} %" if on_demand and usd else "-"


def _records(kept: Json) -> Iterable[CostRecord]:
    """Read the lines of a month. Whoever may write ConfigMaps may have written others, which are passed over."""
    for line in (kept.get("data") or {}).values():
        try:
            yield CostRecord.model_validate_json(line)
        except ValidationError:
            continue


def _of(job: Json, status: SpotInstanceJobStatus, cost: CostStatus, job_id: str) -> CostRecord:
    """Reckon what a job that is there has cost. VMs that outlive the training cost until now."""
    ended = finished_at(job)
    record = CostRecord.of(
        cost,
        job=job["metadata"]["name"],
        job_id=job_id,
        ended=(status.state or "").partition(":")[0] if ended else "-",
        started_at=status.history[0].started_at if status.history else None,
        until=now(),
    )
    return record.model_copy(update={"ended_at": ended}) if ended else record
