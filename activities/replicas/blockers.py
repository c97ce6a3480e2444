"""Why a pod does not run yet, in the words of whoever knows, and what happens meanwhile. Pure.

The sources are a Job, its pod and the Events of both (events.k8s.io/v1), as JSON.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from activities.signatures import StartReading
from api import reasons
from api.projections import pod_view

Json = dict[str, Any]

PROGRESS = {"Pulling", "Pulled", "Created", "Started", "SuccessfulAttachVolume", "SuccessfulMountVolume"}
"""Reasons of a pod's Events that show progress."""

NO_POD_AFTER = timedelta(seconds=60)
"""The age from which a Job without a pod and without an Event is worth a word. If hundreds of Jobs are made at once,
Kubernetes' Job controller takes that long."""

EARLIEST = datetime.min.replace(tzinfo=UTC)

_IMAGE = re.compile(r'[Ii]mage "([^"]{1,500})"')


def read_start(job: Json | None, pod: Json | None, events: Iterable[Json]) -> StartReading:
    """Say what keeps a Job's pod from running; the reason is empty if nothing is known."""
    if pod is None:
        return _without_pod(job, _sorted(events, job))
    view, told = pod_view(pod), _sorted(events, pod)
    busy = _init_container(pod) or _pull(told)
    reading = StartReading(busy=busy, progressed_at=_progressed_at(pod, told))
    if view.waiting_reason:
        return reading.model_copy(update={"reason": view.waiting_reason, "message": view.message or ""})
    last = told[-1] if told else None
    if busy or last is None or last.get("type") != "Warning":
        return reading
    return reading.model_copy(update={"reason": last.get("reason", ""), "message": last.get("note", "")})


def _without_pod(job: Json | None, events: list[Json]) -> StartReading:
    if job is None:
        return StartReading()
    if (job.get("spec") or {}).get("suspend"):
        return StartReading(
            reason=reasons.SUSPENDED, message="its Job is suspended: whoever suspended it has to resume it"
        )
    failed = [event for event in events if event.get("type") == "Warning"]
    if failed:
        return StartReading(reason=failed[-1].get("reason", ""), message=failed[-1].get("note", ""))
    if datetime.now(UTC) < read_time(job["metadata"].get("creationTimestamp") or "") + NO_POD_AFTER:
        return StartReading()
    said = "its Job has no pod, and no Event says why: check whether the cluster's kube-controller-manager works"
    return StartReading(reason=reasons.NO_POD, message=said)


def _init_container(pod: Json) -> str:
    """Name the init container that runs; empty if none does."""
    sidecars = {
        each["name"]
        for each in (pod.get("spec") or {}).get("initContainers") or []
        if each.get("restartPolicy") == "Always"
    }
    for status in (pod.get("status") or {}).get("initContainerStatuses") or []:
        running = (status.get("state") or {}).get("running")
        if running and status["name"] not in sidecars:
            return f"init container {status['name']} has run since {running.get('startedAt', 'just now')}"
    return ""


def _pull(events: list[Json]) -> str:
    """Name the image that is being pulled; empty if none is. The kubelet pulls a pod's images one after the other."""
    pulls = [event for event in events if event.get("reason") in {"Pulling", "Pulled", "Failed", "BackOff"}]
    if not pulls or pulls[-1]["reason"] != "Pulling":
        return ""
    image = _IMAGE.search(pulls[-1].get("note", ""))
    return f"image {image[1] if image else ''} has been pulled since {_at(pulls[-1]):%H:%M:%S} UTC"


def _progressed_at(pod: Json, events: list[Json]) -> datetime | None:
    """Find when the start last made progress, by the pod's Events and its containers' states."""
    status = pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    states = [state for each in containers for state in (each.get("state") or {}).values()]
    times = [text for state in states for key in ("startedAt", "finishedAt") if (text := state.get(key))]
    moments = [read_time(text) for text in times]
    moments += [_at(event) for event in events if event.get("reason") in PROGRESS]
    return max(moments, default=None)


def _sorted(events: Iterable[Json], regarding: Json | None) -> list[Json]:
    """Sort the Events of one object, the newest last."""
    uid = regarding["metadata"].get("uid") if regarding else None
    return sorted((each for each in events if (each.get("regarding") or {}).get("uid") == uid), key=_at)


def _at(event: Json) -> datetime:
    """Read when it last happened: a series, or an old client's count, is one object that changes."""
    series = event.get("series") or {}
    times = [series.get("lastObservedTime"), event.get("deprecatedLastTimestamp"), event.get("eventTime")]
    times.append(event["metadata"].get("creationTimestamp"))
    return max((read_time(text) for text in times if text), default=EARLIEST)


def read_time(text: str) -> datetime:
    """Read a time that a tenant or a kubelet may have made up: none is later than now, and none is refused."""
    try:
        return min(datetime.fromisoformat(text), datetime.now(UTC))
    except (ValueError, TypeError):  # for example the year 0, which the API server accepts
        return EARLIEST
