"""The client certificate by which a VM becomes its Node: one for each bootstrap token, and only for that Node.

Whoever is root on the machine while it joins can copy its token. kubeadm lets the cluster approve every request made
with kubeadm's own tokens, even one for the name of another Node. The tokens that we make belong to a group whose
requests only this module approves. A request that nobody reads before the token is revoked stays unapproved. That is
harmless: nobody else approves it, and the cluster removes it after a day.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import datetime

import aiohttp

from activities.certificates.approver import Approver
from activities.certificates.request import Asked, client_problem
from activities.join.tokens import Tokens, token_id_of
from activities.signatures import JobRef, StartJoin
from api import names
from clients.background import beside
from clients.informer import Informer
from clients.kube import Json, Kube, KubeError, path

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.4


class Outcome:
    """What became of the certificate requests of one join."""

    problem = ""
    """What keeps the machine from its certificate, for the message of its join; empty if nothing does."""


class ClientCertificates:
    """Answers requests that are made with a VM's bootstrap token."""

    def __init__(self, kube: Kube, tokens: Tokens, requests: Informer[Asked]) -> None:
        self._kube = kube
        self._tokens = tokens
        self._approver = Approver(kube, requests)

    @contextlib.asynccontextmanager
    async def answering(self, join: StartJoin) -> AsyncIterator[Outcome]:
        """Answer requests until the block ends, however long a check of the machine itself takes."""
        outcome = Outcome()

        async def look_again_and_again() -> None:
            while True:
                try:
                    outcome.problem = await self.answer(join) or outcome.problem
                except (KubeError, aiohttp.ClientError, TimeoutError, OSError) as error:
                    outcome.problem = f"its certificate request cannot be answered: {error}"
                    log.warning("%s: %s", join.vm.name, outcome.problem)
                await asyncio.sleep(LOOK_SECONDS)

        async with beside(look_again_and_again(), f"certificate of {join.vm.name}"):
            yield outcome

    async def answer(self, join: StartJoin) -> str:
        """Approve the request of this VM's kubelet, deny the others made with its token, and return the denial."""
        node, token_id = join.vm.name, token_id_of(join.vm.name)
        user = names.token_user(token_id)
        asked = [each for each in await self._approver.waiting(user) if names.BOOTSTRAP_GROUP in each.groups]
        if not asked:
            return ""
        token = await self._tokens.read(token_id)
        problems = [(each, client_problem(each, node) or _token_problem(each, token)) for each in asked]
        right = [each for each, problem in problems if problem is None]
        refused = [(each, problem) for each, problem in problems if problem is not None]
        if right and token is not None:
            first, *others = sorted(right, key=lambda each: (each.created, each.name))
            if _spent_on(token) is None and not await self._tokens.spend(token, first.uid):
                return ""  # another worker does the same; the next poll shows what it has done
            await self._approver.approve(first, f"the kubelet of {node}, by the token that was made for it")
            refused += [(each, "a token makes one Node, once") for each in others]
        return await self._approver.deny(refused, await self._job(join) if refused else None, f"the token of {node}")

    async def _job(self, join: StartJoin) -> JobRef | None:
        """Find the job that the VM was bought for; None if it is gone."""
        namespace, _, name = join.workflow.partition("/")
        found = await self._kube.find(path(names.API_VERSION, names.JOB_PLURAL, namespace, name)) if name else None
        uid = found["metadata"]["uid"] if found else ""
        if names.job_id(join.cluster_id, uid) != join.job_id:
            return None
        return JobRef(namespace=namespace, name=name, uid=uid, job_id=join.job_id)


def _token_problem(asked: Asked, token: Json | None) -> str | None:
    """Say why this token gets no certificate for this request; None if it gets one."""
    if token is None:
        return "its token was revoked"
    if asked.created < datetime.fromisoformat(token["metadata"]["creationTimestamp"]):
        return "it was made with an earlier token"
    if _spent_on(token) not in {None, asked.uid}:
        return "a token makes one Node, once"
    return None


def _spent_on(token: Json) -> str | None:
    """Read the UID of the request that was approved for a token; None if there is none."""
    spent: str | None = (token["metadata"].get("annotations") or {}).get(names.ANNOTATION_CERTIFICATE)
    return spent
