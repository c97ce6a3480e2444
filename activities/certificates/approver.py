"""The approver of certificate requests: approves the right one, denies the others and reports those on the job."""

import logging
from collections.abc import Iterable

from activities.certificates.request import SIGNERS, Asked
from activities.kubernetes.status import emit
from activities.signatures import JobEvent, JobRef
from api import events
from clients.informer import Informer, Kind
from clients.kube import Json, Kube, KubeError, UnsafeNameError, path
from clients.watch import Resource

log = logging.getLogger(__name__)

API, PLURAL = "certificates.k8s.io/v1", "certificatesigningrequests"


def _unanswered(item: Json) -> Asked | None:
    if item["spec"]["signerName"] not in SIGNERS:
        return None
    asked = Asked.read(item)
    return None if asked.answered else asked


REQUESTS = Kind("certificate requests", Resource(API, PLURAL), _unanswered, lambda asked: asked.user)
"""Unanswered requests to both signers of kubelets, by who asks."""

AT_ONCE = 20
"""Requests denied in one poll, so that a flood of requests cannot keep a poll from ending."""


class Approver:
    """Reads and answers the requests of kubelets.

    Args:
        kube: the cluster, in which it may approve for both signers of kubelets.
        requests: what is asked, of the kind ``REQUESTS``.
    """

    def __init__(self, kube: Kube, requests: Informer[Asked]) -> None:
        self._kube = kube
        self._requests = requests

    async def waiting(self, user: str) -> list[Asked]:
        """List the unanswered requests of a user. An answer names the version that was read, so memory is enough."""
        return list((await self._requests.read()).of(user).values())

    async def approve(self, asked: Asked, why: str) -> None:
        """Approve a request in the version that was read."""
        await self._answer(asked, "Approved", "KubeletOfSpotVM", why)

    async def deny(self, refused: Iterable[tuple[Asked, str]], job: JobRef | None, owner: str) -> str:
        """Deny requests, each for its own reason, report them in one Event on the job, and return its message.

        Args:
            refused: the requests, each with what is wrong with it.
            job: the job that gets the Event; no Event is made if None.
            owner: who made the requests, for the message.
        """
        refused = list(refused)
        if not refused:
            return ""
        first, problem = refused[0]
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        message = (
            f"{owner} asked for a certificate of {first.subject} by the request {first.name}{more}; denied: {problem}. "
            "Whoever is root on that machine can ask for it: check vmImage, startupScript and the training image"
        )
        log.warning(message)
        # Reported first, because nobody reads an answered request again; its time lets a retry find the first Event.
        event = JobEvent(type="Warning", reason=events.CERTIFICATE_DENIED, message=message, at=first.created)
        refusal = await emit(self._kube, job, event) if job else None
        for asked, why in refused[:AT_ONCE]:
            await self._answer(asked, "Denied", "NotOfSpotVM", why)
        if refusal:
            raise refusal
        return message

    async def _answer(self, asked: Asked, verdict: str, reason: str, message: str) -> None:
        """Answer a request, unless it was answered or deleted meanwhile or its name is no segment of a path."""
        condition: Json = {"type": verdict, "status": "True", "reason": reason, "message": message}
        body = {"metadata": {"resourceVersion": asked.version}, "status": {"conditions": [condition]}}
        try:
            self._requests.learn(await self._kube.patch(path(API, PLURAL, name=asked.name, sub="approval"), body))
        except UnsafeNameError:
            return  # nobody else approves it
        except KubeError as error:
            if error.status not in (404, 409):
                raise
