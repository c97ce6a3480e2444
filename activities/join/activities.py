"""The activities that join a machine: over SSH with verified host keys, detached from us on the machine itself."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncssh
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import signatures
from activities.certificates.client import ClientCertificates, Outcome
from activities.certificates.request import Asked
from activities.cloud_errors import CloudError, to_application_error
from activities.compute import Cloud
from activities.heartbeat import heartbeats, watch_seconds
from activities.join import kubeadm
from activities.join.runtimes import Runtime, runtime_of
from activities.join.ssh import SshKeys, Unreachable, connect, run, user_of
from activities.join.tokens import Tokens, token_id_of
from activities.signatures import Done, JoinProgress, StartJoin, TokenRef
from api import errors
from api.names import is_segment, shown
from clients.informer import Informer
from clients.kube import Kube

WATCH_SECONDS = 20.0  # of polling in one activity, and between two polls of the VM if the caller is more patient
TRY_SECONDS = 30.0  # for one poll; both together end before the activity's start-to-close
POLL_SECONDS = (0.5, 3.0)  # first and longest pause between two polls


class JoinActivities:
    """Joins VMs to the cluster.

    Args:
        cloud: the cloud that runs the VMs and knows their host keys.
        kube: the cluster that they join.
        ssh_keys: the keys that open them.
        ssh_port: the port of all VMs (``OUTLAST_SSH_PORT``).
    """

    def __init__(
        self, cloud: Cloud, kube: Kube, requests: Informer[Asked], ssh_keys: SshKeys, ssh_port: int = 22
    ) -> None:
        self._cloud = cloud
        self._tokens = Tokens(kube)
        self._certificates = ClientCertificates(kube, self._tokens, requests)
        self._ssh_keys = ssh_keys
        self._ssh_port = ssh_port

    @activity.defn(name=signatures.START_JOIN.name)
    async def start_join(self, join: StartJoin) -> JoinProgress:
        """Start ``kubeadm join`` once the machine has booted, unless it runs or has succeeded already.

        The caller repeats the call if it returns Booting or Unreachable after :data:`WATCH_SECONDS`. A join that
        failed is undone and started from the beginning.
        """
        return await self._watch(join, lambda: self._start(join), {"Booting", "Unreachable"})

    @activity.defn(name=signatures.OBSERVE_JOIN.name)
    async def observe_join(self, join: StartJoin) -> JoinProgress:
        """Watch the join until it has ended, and approve its certificate meanwhile.

        The caller repeats the call if it returns Running or Unreachable.
        """
        async with self._certificates.answering(join) as outcome:
            return await self._watch(join, lambda: self._observe(join, outcome), {"Running"})

    @activity.defn(name=signatures.REVOKE_TOKEN.name)
    async def revoke_token(self, token: TokenRef) -> Done:
        """Revoke a token that was made for a VM; one that does not exist is success."""
        await self._tokens.revoke(token.token_id)
        return Done()

    async def _has_stopped(self, join: StartJoin) -> bool:
        """True if the machine no longer runs, so that nothing more can come of its join."""
        vm = join.vm
        try:
            compute = await self._cloud.open(vm.credentials, vm.namespace)
            found = await compute.get(vm.project, vm.zone, vm.name)
        except CloudError:  # asked again soon
            return False
        return found is None or found.stopped

    async def _watch(
        self, join: StartJoin, look: Callable[[], Awaitable[JoinProgress]], unsettled: set[str]
    ) -> JoinProgress:
        deadline = time.monotonic() + watch_seconds(WATCH_SECONDS)
        pause, longest = POLL_SECONDS
        look_at = time.monotonic() + WATCH_SECONDS
        async with heartbeats():
            while True:
                try:
                    async with asyncio.timeout(TRY_SECONDS):
                        progress = await look()
                except Unreachable as error:
                    progress = JoinProgress(state="Unreachable", message=str(error))
                except TimeoutError as error:
                    progress = JoinProgress(state="Unreachable", message=str(error) or f"silent for {TRY_SECONDS:g} s")
                except CloudError as error:
                    raise to_application_error(error) from error
                if progress.state not in unsettled or time.monotonic() + pause > deadline:
                    return progress
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + WATCH_SECONDS
                    if await self._has_stopped(join):
                        return progress
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, longest)

    async def _start(self, join: StartJoin) -> JoinProgress:
        async with self._machine(join) as machine:
            if machine is None:
                return JoinProgress(state="Booting", message="the guest has not published its SSH host keys yet")
            state, note = await _state_of(machine), ""
            if state not in {"running", "ended 0"}:
                _, said = await run(machine, "sh", "-c", kubeadm.STARTUP_SCRIPT)
                if waits_for := _waits_for(said):
                    return JoinProgress(state="Booting", message=waits_for)
                note = await self._launch(machine, join)
            return await self._progress(machine, join, Outcome(), note)

    async def _launch(self, machine: asyncssh.SSHClientConnection, join: StartJoin) -> str:
        """Put all files on the machine, start the join, and return what people should know about it.

        The token travels in a file that nobody else can read, never in argv.
        """
        if not all(map(is_segment, join.provider_id.removeprefix("gce://").split("/"))):
            # kubeadm makes it a flag of the kubelet, in a line that is split at spaces.
            raise ApplicationError(
                f"{shown(join.provider_id)} is no provider ID: correct gcp.project of the SpotInstanceVM",
                type=errors.INVALID,
                non_retryable=True,
            )
        discovery = await self._tokens.discovery(join)
        _, directory = await run(machine, "sh", "-c", kubeadm.PREPARE)
        _, version = await run(machine, "kubeadm", "version", "-o", "short")
        runtime = await _runtime_of(machine, join)
        configuration = kubeadm.join_configuration(
            discovery,
            node=join.vm.name,
            job_id=join.job_id,
            provider_id=join.provider_id,
            directory=directory,
            version=version,
            reserved=join.reserved,
            cri_socket=runtime.socket,
        )
        async with machine.start_sftp_client() as sftp:
            await _put(sftp, kubeadm.KUBELET_PATCH_FILE, kubeadm.KUBELET_PATCH)
            await _put(sftp, "join.sh", kubeadm.JOIN_SCRIPT)
            await _put(sftp, kubeadm.RUNTIME_FILE, runtime.socket or "")
            await _put(sftp, "join.yaml", configuration)
        await run(machine, "sh", "-c", kubeadm.START)
        return runtime.note

    async def _observe(self, join: StartJoin, outcome: Outcome) -> JoinProgress:
        async with self._machine(join) as machine:
            if machine is None:
                return JoinProgress(
                    state="Unreachable", message="the guest does not publish its SSH host keys any more"
                )
            return await self._progress(machine, join, outcome)

    async def _progress(
        self, machine: asyncssh.SSHClientConnection, join: StartJoin, outcome: Outcome, note: str = ""
    ) -> JoinProgress:
        token = await self._tokens.read(token_id_of(join.vm.name))
        token_id = token_id_of(join.vm.name) if token is not None else None
        state = await _state_of(machine)
        if state == "running":
            message = _joined("kubeadm join runs", outcome.problem, note)
            return JoinProgress(state="Running", message=message, token_id=token_id)
        if token is not None:
            # The token has served, or the next attempt gets another one. A copy of it is useless from here on.
            await self._certificates.answer(join)
            await self._tokens.delete(token)
        if state == "ended 0":
            return JoinProgress(state="Joined", token_id=token_id, fingerprint=await _fingerprint(machine, join))
        _, log = await run(machine, "sh", "-c", kubeadm.LOG)
        runtime = await _runtime_of(machine, join)
        failure = kubeadm.why_it_failed(state.removeprefix("ended "), log)
        message = _joined(failure, outcome.problem, runtime.note)
        return JoinProgress(state="Failed", message=message, token_id=token_id)

    @contextlib.asynccontextmanager
    async def _machine(self, join: StartJoin) -> AsyncIterator[asyncssh.SSHClientConnection | None]:
        """Connect to the VM that was bought; None while it has not published its host keys."""
        vm = join.vm
        compute = await self._cloud.open(vm.credentials, vm.namespace)
        host_keys = await compute.host_keys(vm.project, vm.zone, vm.name)
        if not host_keys:
            yield None
            return
        key = await self._ssh_keys.load(join.ssh_key, join.namespace)
        access, named = join.spec.gcp.ssh_access, join.ssh_key
        user = await user_of(compute, vm, key, access=access, user=join.spec.ssh_user, named_by=named)
        async with connect(join.address, self._ssh_port, user, key, host_keys, access) as machine:
            yield machine


async def _runtime_of(machine: asyncssh.SSHClientConnection, join: StartJoin) -> Runtime:
    config = join.spec.kubeadm_join_config
    return await runtime_of(machine, config.cri_socket if config else None)


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


async def _state_of(machine: asyncssh.SSHClientConnection) -> str:
    _, state = await run(machine, "sh", "-c", kubeadm.STATE)
    return state


def _waits_for(said: str) -> str | None:
    """Say what of the boot is still to come, from the output of ``STARTUP_SCRIPT``; None if nothing is."""
    startup_script, _, found_kubeadm = said.partition("\n")
    if startup_script == "activating":
        return "the startup script runs"
    if "kubeadm" not in startup_script + found_kubeadm:
        return f"neither the image nor the startup script (which is {startup_script or 'unknown'}) contains kubeadm"
    return None


async def _put(sftp: asyncssh.SFTPClient, name: str, content: str) -> None:
    """Write a file of mode 0600 in one step: a program that runs meanwhile reads the old one or the new one."""
    path = f"{kubeadm.DIRECTORY}/{name}"
    async with sftp.open(f"{path}.new", "w", asyncssh.SFTPAttrs(permissions=0o600)) as file:
        await file.write(content)
    await sftp.posix_rename(f"{path}.new", path)


async def _fingerprint(machine: asyncssh.SSHClientConnection, join: StartJoin) -> dict[str, str]:
    """Ask the machine for its fingerprint, as far as it can say."""
    _, said = await run(machine, "sh", "-c", kubeadm.FINGERPRINT)
    found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    gpu = join.spec.gpu
    found |= {"gpu": gpu.type, "gpuCount": str(gpu.count)} if gpu else {}
    return {key: value for key, value in found.items() if value}
