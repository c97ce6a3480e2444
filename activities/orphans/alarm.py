"""The sweep's alarm: an Event for the people who run Outlast."""

import hashlib

from temporalio import activity

from activities import signatures
from activities.kubernetes.ownership import FIELD_MANAGER
from activities.kubernetes.status import NOTE_BYTES
from activities.signatures import Done, SweepAlarm
from clients.kube import Kube, KubeError, path


class AlarmActivities:
    """Raises the alarm. ``kube`` may create Events; ``deployment`` is the worker's own."""

    def __init__(self, kube: Kube, deployment: str) -> None:
        self._kube = kube
        self._deployment = deployment

    @activity.defn(name=signatures.SOUND_ALARM.name)
    async def sound_alarm(self, alarm: SweepAlarm) -> Done:
        """Create a Warning on the worker's Deployment; a retry finds the first. Without the namespace there is none."""
        at = alarm.at.isoformat(timespec="microseconds").replace("+00:00", "Z")
        what = f"{at}/{alarm.reason}/{alarm.message}"
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{self._deployment}.{hashlib.sha256(what.encode()).hexdigest()[:16]}",
                "namespace": alarm.namespace,
            },
            "regarding": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": self._deployment,
                "namespace": alarm.namespace,
            },
            "eventTime": at,
            "type": "Warning",
            "reason": alarm.reason,
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
