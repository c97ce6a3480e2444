"""``outlast timeline``: what happened to a job, from its status and its Events, as a list or a page.

Kubernetes keeps Events for an hour by default, and the status lists the last thirty incarnations and the conditions. So
an older job is told of in less detail.
"""

from dataclasses import dataclass, field
from datetime import datetime

from rich.table import Table

from api.object_conditions import finished_at
from api.report import IncarnationRecord
from api.spot_instance_job import SpotInstanceJobStatus
from cli.session import Cluster, status_of
from cli.times import now, span
from clients.kube import Json, path, selector


@dataclass(frozen=True)
class Moment:
    """Something that happened."""

    at: datetime
    what: str
    message: str
    warning: bool = False


@dataclass(frozen=True)
class Story:
    """What is known of a job's life."""

    name: str
    namespace: str
    created: datetime
    ended: datetime | None
    status: SpotInstanceJobStatus
    moments: list[Moment] = field(default_factory=list)

    @property
    def until(self) -> datetime:
        """Return its end, or the present time."""
        return self.ended or now()

    @property
    def incarnations(self) -> list[IncarnationRecord]:
        """List what ran when, oldest first."""
        return self.status.history

    @property
    def longest(self) -> float:
        """Return how long it took so far, in seconds."""
        return max(1.0, (self.until - self.created).total_seconds())


async def read(cluster: Cluster, name: str) -> Story:
    """Read a job with its Events."""
    job = await cluster.job(name)
    meta = job["metadata"]
    where = path("events.k8s.io/v1", "events", cluster.namespace)
    events = await cluster.kube.list(where, fieldSelector=selector({"regarding.uid": meta["uid"]}))
    status = status_of(job)
    moments = [*map(_event, events), *_conditions(status), *_starts(status)]
    return Story(
        name=name,
        namespace=meta["namespace"],
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        ended=finished_at(job),
        status=status,
        moments=sorted(moments, key=lambda moment: moment.at),
    )


def table(story: Story) -> Table:
    """List what happened, oldest first."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("TIME (UTC)", no_wrap=True)
    shown.add_column("AFTER", justify="right", no_wrap=True)
    shown.add_column("WHAT", no_wrap=True)
    shown.add_column("MESSAGE", overflow="fold")
    for moment in story.moments:
        after = span((moment.at - story.created).total_seconds())
        style = "yellow" if moment.warning else None
        shown.add_row(f"{moment.at:%Y-%m-%d %H:%M:%S}", after, moment.what, moment.message, style=style)
    return shown


def _event(event: Json) -> Moment:
    at = event.get("eventTime") or event.get("deprecatedFirstTimestamp") or event["metadata"]["creationTimestamp"]
    return Moment(datetime.fromisoformat(at), event["reason"], event.get("note") or "", event.get("type") == "Warning")


def _conditions(status: SpotInstanceJobStatus) -> list[Moment]:
    return [
        Moment(one.last_transition_time, f"{one.type}={one.status}", f"{one.reason} {one.message}".strip())
        for one in status.conditions
        if one.last_transition_time is not None
    ]


def _starts(status: SpotInstanceJobStatus) -> list[Moment]:
    found = []
    for past in status.history:
        origin = f"from {past.restored_from}" if past.restored_from else "from the beginning"
        which = f"replica {past.replica}, incarnation {past.incarnation}"
        found.append(Moment(past.started_at, "Started", f"{which} on {past.node} {origin}"))
        if past.ended_at is not None:
            found.append(Moment(past.ended_at, "Ended", f"{which}: {past.why_ended}"))
    return found
