"""The sweep's alarm: an Event where people look who run Outlast."""

import hashlib

from temporalio import activity

from activities import signatures
from activities.ownership import FIELD_MANAGER
from activities.signatures import Done, SweepAlarm
from activities.status import NOTE_BYTES
from clients.kube import Kube, KubeError, path

WORKER = "outlast-worker"  # the Deployment of deploy/base


class AlarmActivities:
    """Tells. ``kube`` may create Events."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    @activity.defn(name=signatures.SOUND_ALARM.name)
    async def sound_alarm(self, alarm: SweepAlarm) -> Done:
        """A Warning on the worker's Deployment; a retry finds the first. Where there is no such namespace none."""
        at = alarm.at.isoformat(timespec="microseconds").replace("+00:00", "Z")
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{WORKER}.{hashlib.sha256(at.encode()).hexdigest()[:16]}",
                "namespace": alarm.namespace,
            },
            "regarding": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": WORKER,
                "namespace": alarm.namespace,
            },
            "eventTime": at,
            "type": "Warning",
            "reason": "SweepStopped",
            "note": alarm.message.encode()[:NOTE_BYTES].decode(errors="ignore"),
            "action": "Sweep",
            "reportingController": "outlast",
            "reportingInstance": FIELD_MANAGER,
        }
        try:
            await self._kube.create(path("events.k8s.io/v1", "events", alarm.namespace), body)
        except KubeError as error:
            if error.status not in (404, 409):
                raise
        return Done()
