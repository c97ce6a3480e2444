"""``spec.outputs``: files that a training left in its container, copied from a machine that we bought to the bucket.

An ended container cannot be entered any more, but its writable layer stays on the node as long as its pod exists in the
API. That layer is read by SSH, and streamed to the bucket file by file. It does not contain volumes, and the kubelet
removes an emptyDir when the pod ends.
"""

import contextlib
import re
import shlex
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncssh
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.cloud_errors import CloudError, to_application_error
from activities.compute import Cloud
from activities.heartbeat import heartbeats
from activities.join.ssh import SshKeys, Unreachable, connect, run, user_of
from activities.replicas.pods import pods_of
from activities.signatures import SAVE_OUTPUTS, SavedOutputs, SaveOutputs
from activities.storage import Buckets, Storage
from api import errors
from api.storage import key_below, outputs_prefix
from clients.kube import Json, Kube

_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

BUDGET_SECONDS = 30.0
"""No file is begun after this, so that an activity ends within its minute; the next one continues."""
CHUNK = 2**20

# Prints the container's writable layer, as containerd's overlayfs snapshotter or CRI-O reports it, then "<bytes>
# <path>" for each file. Each ends with NUL, because a line break in a file's name could make it look like another file.
# A path through a symbolic link could lead out of the container, and is left out.
LIST = r"""
id=$1; shift
upper=$(ctr -n k8s.io snapshots mounts /upper "$id" 2>/dev/null | sed -n 's/.*[ ,]upperdir=\([^, ]*\).*/\1/p')
if [ -z "$upper" ]; then
  root=$(crictl inspect -o go-template --template '{{.info.runtimeSpec.root.path}}' "$id" 2>/dev/null)
  upper=${root%/merged}/diff
fi
upper=$(realpath -e -- "$upper") || exit 3
printf '%s\0' "$upper"
for path in "$@"; do
  path=${path%/}
  [ "$(realpath -e -- "$upper$path" 2>/dev/null)" = "$upper$path" ] || continue
  find "$upper$path" -type f -printf '%s %p\0'
done
"""


@dataclass(frozen=True)
class _File:
    on_machine: str
    in_container: str
    size: int


class OutputActivities:
    """Saves outputs from machines that were bought.

    Args:
        kube: the cluster, which says which containers the pods had.
        cloud: the cloud that runs the VMs and knows their host keys.
        ssh_keys: the keys that open them.
        ssh_port: the port of all VMs (``OUTLAST_SSH_PORT``).
        buckets: the buckets for the outputs.
    """

    def __init__(self, kube: Kube, cloud: Cloud, ssh_keys: SshKeys, ssh_port: int, buckets: Buckets) -> None:
        self._kube = kube
        self._cloud = cloud
        self._ssh_keys = ssh_keys
        self._ssh_port = ssh_port
        self._buckets = buckets

    @activity.defn(name=SAVE_OUTPUTS.name)
    async def save_outputs(self, request: SaveOutputs) -> SavedOutputs:
        """Upload what is not in the bucket in the same size; if ``done`` is False, call again for the rest."""
        containers = containers_on_machine(await pods_of(self._kube, request.ref), request)
        try:
            bucket = await self._buckets.open(request.storage, request.cloud, request.ref.job.namespace)
            async with heartbeats(), self._machine(request) as machine:
                return await self._save(request, containers, machine, bucket)
        except CloudError as error:
            raise to_application_error(error) from error

    async def _save(
        self, request: SaveOutputs, containers: list[str], machine: asyncssh.SSHClientConnection, bucket: Storage
    ) -> SavedOutputs:
        prefix = outputs_prefix(request.storage, request.ref.job.job_id, request.ref.replica, request.member)
        began, there = time.monotonic(), {each.key: each.size for each in await bucket.list(prefix)}
        files = [file for container in containers for file in await _list(machine, container, request.paths)]
        for file in files:
            key = _key(prefix, file)
            if there.get(key) == file.size:
                continue
            if time.monotonic() - began > BUDGET_SECONDS:
                return SavedOutputs(done=False, files=len(files), location=prefix)
            await bucket.put(key, _read(machine, file.on_machine))
        total = sum(file.size for file in files)
        return SavedOutputs(done=True, files=len(files), total_bytes=total, location=prefix)

    @contextlib.asynccontextmanager
    async def _machine(self, request: SaveOutputs) -> AsyncIterator[asyncssh.SSHClientConnection]:
        vm = request.vm
        compute = await self._cloud.open(vm.credentials, vm.namespace)
        view = await compute.get(vm.project, vm.zone, vm.name)
        if view is None:
            raise ApplicationError(f"VM {vm.name} is gone", type=errors.MISSING, non_retryable=True)
        host_keys = await compute.host_keys(vm.project, vm.zone, vm.name)
        if not host_keys:
            raise Unreachable(f"{vm.name} no longer publishes its SSH host keys")
        key = await self._ssh_keys.load(request.ssh_key, vm.namespace)
        address = view.external_ip or view.internal_ip or ""
        access, named = request.ssh_access, request.ssh_key
        user = await user_of(compute, vm, key, access=access, user=request.ssh_user, named_by=named)
        async with connect(address, self._ssh_port, user, key, host_keys, access) as machine:
            yield machine


def containers_on_machine(pods: list[Json], request: SaveOutputs) -> list[str]:
    """List the ids of the containers that ran on the machine; the other members of a gang ran elsewhere."""
    here = [pod for pod in pods if len(pods) == 1 or pod["spec"].get("nodeName") == request.vm.name]
    return [each for pod in here for each in _containers(pod)]


def _containers(pod: Json) -> list[str]:
    """List the ids of the pod's containers, without the runtime's name before them."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    ids = [each["containerID"].rpartition("/")[2] for each in statuses if each.get("containerID")]
    return [each for each in ids if _CONTAINER.fullmatch(each)]  # a kubelet wrote it, and it becomes an argument


async def _list(machine: asyncssh.SSHClientConnection, container: str, paths: list[str]) -> list[_File]:
    status, said = await run(machine, "sudo", "-n", "sh", "-c", LIST, "sh", container, *paths)
    if status != 0:
        raise ApplicationError(
            f"the layer of container {container} cannot be found: containerd with overlayfs, or CRI-O with crictl, "
            "is needed",
            type=errors.UNSUPPORTED,
            non_retryable=True,
        )
    upper, *lines = said.removesuffix("\0").split("\0")
    found = (line.partition(" ") for line in lines)
    return [
        _File(path, path.removeprefix(upper), int(size))
        for size, _, path in found
        if size.isdecimal() and path.startswith(f"{upper}/")
    ]


def _key(prefix: str, file: _File) -> str:
    try:
        return key_below(prefix, file.in_container)
    except ValueError as error:
        raise ApplicationError(str(error), type=errors.INVALID, non_retryable=True) from error


async def _read(machine: asyncssh.SSHClientConnection, path: str) -> AsyncIterator[bytes]:
    """Read a file's bytes; raise if it was cut off, so that half a file is not taken for the whole."""
    command = shlex.join(["sudo", "-n", "cat", "--", path])
    async with machine.create_process(command, encoding=None, stdin=asyncssh.DEVNULL) as process:
        while part := await process.stdout.read(CHUNK):
            yield part
        done = await process.wait()
    if done.exit_status != 0:
        raise Unreachable(f"{path} could not be read to its end")
