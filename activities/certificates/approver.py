"""Answers certificate requests: approves the one that is right, denies the others, and reports those on the job."""

import asyncio
import logging
import time
from collections.abc import Iterable

from activities.certificates.request import SIGNERS, Asked
from activities.signatures import JobEvent, JobRef
from activities.status import emit
from clients.kube import Json, Kube, KubeError, UnsafeNameError, path

log = logging.getLogger(__name__)

API, PLURAL = "certificates.k8s.io/v1", "certificatesigningrequests"
DENIED = "CertificateDenied"
"""Reason of the Event that reports it."""

READ_SECONDS = 0.3
"""Seconds between two reads of all requests, however many machines join at once."""

AT_ONCE = 20
"""Requests denied in one look, so that a flood of requests does not keep the look from ending."""


class Approver:
    """Reads the requests of kubelets, and answers them. ``kube`` may approve for the two signers of kubelets."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._reading = asyncio.Lock()
        self._read_at = -READ_SECONDS
        self._found: list[Asked] = []

    async def waiting(self) -> list[Asked]:
        """List unanswered requests of both signers, as they were :data:`READ_SECONDS` ago at most."""
        async with self._reading:
            if time.monotonic() >= self._read_at + READ_SECONDS:
                recently = "0"  # from the API server's memory
                self._found = [asked for signer in SIGNERS for asked in await self.waiting_for(signer, recently)]
                self._read_at = time.monotonic()
            return self._found

    async def waiting_for(self, signer: str, version: str = "") -> list[Asked]:
        """List unanswered requests of one signer; ``version`` is the resourceVersion to list at."""
        since = {"resourceVersion": version} if version else {}
        items = await self._kube.list(path(API, PLURAL), fieldSelector=f"spec.signerName={signer}", **since)
        return [asked for item in items if not (asked := Asked.read(item)).answered]

    async def approve(self, asked: Asked, why: str) -> None:
        """Approve a request as it was read."""
        await self._answer(asked, "Approved", "KubeletOfSpotVM", why)

    async def deny(self, refused: Iterable[tuple[Asked, str]], job: JobRef | None, owner: str) -> str:
        """Deny requests, each for its reason, and report them on the job in one Event; gives its message.

        Args:
            refused: the requests with what is wrong with them.
            job: whose Event it becomes; None: no Event is made.
            owner: who asked, for the report.
        """
        refused = list(refused)
        if not refused:
            return ""
        first, problem = refused[0]
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        message = (
            f"{owner} asked for a certificate of {first.subject} by the request {first.name}{more}; denied: {problem}. "
            "Whoever is root on that machine can ask for it: look at vmImage, startupScript and the training's image"
        )
        log.warning(message)
        # Reported first, because an answered request is not seen again; its time makes a retry find the first Event.
        event = JobEvent(type="Warning", reason=DENIED, message=message, at=first.created)
        refusal = await emit(self._kube, job, event) if job else None
        for asked, why in refused[:AT_ONCE]:
            await self._answer(asked, "Denied", "NotOfSpotVM", why)
        if refusal:
            raise refusal
        return message

    async def _answer(self, asked: Asked, verdict: str, reason: str, message: str) -> None:
        """Answer a request, unless it was answered or deleted meanwhile, or its name is no segment of a path."""
        condition: Json = {"type": verdict, "status": "True", "reason": reason, "message": message}
        body = {"metadata": {"resourceVersion": asked.version}, "status": {"conditions": [condition]}}
        try:
            await self._kube.patch(path(API, PLURAL, name=asked.name, sub="approval"), body)
        except UnsafeNameError:
            return  # nobody approves it either
        except KubeError as error:
            if error.status not in (404, 409):
                raise
