"""SSH to a machine whose host keys are known beforehand, and the key that opens it."""

import asyncio
import contextlib
import ipaddress
import logging
import os
import shlex
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncssh
from temporalio.exceptions import ApplicationError

from activities.cloud_errors import Invalid
from activities.compute import Compute
from activities.documents.checks import FOREIGN_PROFILE
from activities.kubernetes.secret import read_secret
from activities.signatures import VmRef
from api import errors
from api.common import LocalReference
from api.formats import SSH_USER
from api.identity import owns_account
from api.names import shown
from api.spot_instance_vm import SshAccess
from clients.kube import Kube

CONNECT_SECONDS = 10.0  # TCP, key exchange and authentication; asyncssh itself would wait forever
RUN_SECONDS = 15.0
CHUNK = 2**16
SAID = 16 * 2**20
"""Characters that a command may print: whoever is root there may print without end, and all teams share our memory."""
# asyncssh reports each connection at level INFO.
logging.getLogger("asyncssh").setLevel(logging.WARNING)

# asyncssh wants the name of the user who runs it, which matters to nothing here; a container's user may have none.
os.environ.setdefault("LOGNAME", "outlast")


DENIED: dict[SshAccess, str] = {
    "Metadata": "if this lasts and an organisation policy demands OS Login, set gcp.sshAccess: OSLogin",
    "OSLogin": "if this lasts, grant the service account of the credentials roles/compute.osAdminLogin on the project, "
    "and roles/iam.serviceAccountUser on the VM's gcp.serviceAccount if it has one",
}
"""What helps if a machine lets nobody in, written behind its refusal."""


class Unreachable(Exception):
    """The machine does not answer yet, or does not let us in yet; the message says which."""


@dataclass(frozen=True)
class SshKeys:
    """Loads private keys: from a Secret if an object names one, else from the installation's own file.

    Args:
        kube: the cluster, to read Secrets.
        key_file: the installation's private key (``OUTLAST_SSH_KEY_FILE``); None if it has none.
    """

    kube: Kube
    key_file: Path | None = None

    async def load(self, reference: LocalReference | None, namespace: str) -> asyncssh.SSHKey:
        """Load the private key; it never leaves the process.

        Raises:
            ApplicationError: MISSING if there is none, INVALID if it cannot be read; the message names the remedy.
        """
        if reference is not None:
            where = f"Secret {namespace}/{reference.name}, key ssh-privatekey"
            key = (await read_secret(self.kube, namespace, reference.name)).get("ssh-privatekey")
        else:
            where = f"the installation's SSH key {self.key_file}"
            key = self.key_file.read_text() if self.key_file and self.key_file.is_file() else None
        if key is None:
            raise ApplicationError(
                f"no SSH key: {where} does not exist; set sshKeySecretRef in the SpotInstanceVM, or "
                "OUTLAST_SSH_KEY_FILE",
                type=errors.MISSING,
                non_retryable=True,
            )
        try:
            return asyncssh.import_private_key(key)
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            raise ApplicationError(
                f"{where} is no usable private key: {error}; it must be in OpenSSH or PEM form without a passphrase",
                type=errors.INVALID,
                non_retryable=True,
            ) from None


async def login(compute: Compute, vm: VmRef, key: asyncssh.SSHKey, named_by: LocalReference | None) -> str:
    """Let ``key`` log in by OS Login as the account of the VM's credentials, and return the user name.

    The key stays in that account's profile and opens all that the account may enter. So a key from a namespace's
    Secret (``named_by``) never goes into an account of somebody else.

    Raises:
        CloudError: OS Login refuses.
    """
    if named_by is not None and not owns_account(vm.credentials, vm.namespace):
        raise Invalid(FOREIGN_PROFILE)
    return await compute.login(vm.project, public_key(key))


async def user_of(
    compute: Compute, vm: VmRef, key: asyncssh.SSHKey, *, access: SshAccess, user: str, named_by: LocalReference | None
) -> str:
    """Return the name by which ``key`` enters a VM: OS Login's, or the ``user`` that the VM's metadata admits.

    Raises:
        CloudError: OS Login refuses.
    """
    return await login(compute, vm, key, named_by) if access == "OSLogin" else user


def public_key(key: asyncssh.SSHKey) -> str:
    """Format the public half as an ``authorized_keys`` line without a comment."""
    return " ".join(key.export_public_key().decode().split()[:2])


@contextlib.asynccontextmanager
async def connect(
    address: str,
    port: int,
    user: str,
    key: asyncssh.SSHKey,
    host_keys: list[str],
    access: SshAccess = "Metadata",
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Connect to the machine that owns one of ``host_keys`` (``ssh-ed25519 AAAA…``), and to no other.

    Raises:
        ApplicationError: HOST_KEY, not to be retried: another machine answers at this address.
        Unreachable: nothing answers, or it does not let us in.
    """
    trusted = list(_readable(host_keys))
    if not SSH_USER.fits(user):
        message = f"sshUser: {shown(user)} is {SSH_USER.remedy}"
        raise ApplicationError(message, type=errors.INVALID, non_retryable=True)
    try:
        ipaddress.ip_address(address)
    except ValueError as error:
        raise Unreachable(f"{shown(address)} is no IP address") from error
    try:
        connection = await asyncssh.connect(
            address,
            port,
            username=user,
            client_keys=[key],
            known_hosts=lambda host, addr, port: (trusted, [], []),
            config=None,  # neither the ssh_config nor the agent of the user who runs the worker
            agent_path=None,
            preferred_auth="publickey",
            connect_timeout=CONNECT_SECONDS,
            login_timeout=CONNECT_SECONDS,
            keepalive_interval=5,
            keepalive_count_max=3,
        )
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
        raise ApplicationError(
            f"the machine at {address} is not the one that was bought: its SSH host key is none of those that the "
            f"VM published ({error})",
            type=errors.HOST_KEY,
            non_retryable=True,
        ) from error
    except asyncssh.PermissionDenied as error:
        message = f"SSH at {address} does not let {user} in yet: {error.reason}; {DENIED[access]}"
        raise Unreachable(message) from error
    except (OSError, TimeoutError, asyncssh.Error) as error:
        raise Unreachable(f"SSH at {address}:{port} does not answer yet: {error or type(error).__name__}") from error
    try:
        async with connection:
            yield connection
    except asyncssh.Error as error:  # raised by SFTP, for example
        raise Unreachable(f"the connection to {address} broke: {error}") from error


def _readable(host_keys: list[str]) -> Iterator[asyncssh.SSHKey]:
    """Read the keys among what a guest published; whoever is root there can publish anything."""
    for line in host_keys:
        with contextlib.suppress(asyncssh.KeyImportError, ValueError):
            yield asyncssh.import_public_key(line)


async def run(connection: asyncssh.SSHClientConnection, *command: str, stdin: str = "") -> tuple[int, str]:
    """Run a command, and return its exit status and what it printed to stdout.

    Raises:
        Unreachable: the machine disappeared meanwhile. asyncssh shows that only by a missing exit status.
    """
    try:
        async with (
            asyncio.timeout(RUN_SECONDS),
            connection.create_process(
                " ".join(map(shlex.quote, command)), input=stdin, stderr=asyncssh.DEVNULL
            ) as process,
        ):
            said = await _read(process.stdout, command[0])
            await process.wait_closed()
    except (OSError, TimeoutError, asyncssh.Error) as error:
        raise Unreachable(f"the connection broke while {command[0]} ran: {error or type(error).__name__}") from error
    if process.exit_status is None or process.exit_status < 0:
        raise Unreachable(f"the machine disappeared while {command[0]} ran")
    return process.exit_status, said.strip()


async def _read(stdout: asyncssh.SSHReader[str], command: str) -> str:
    pieces, length = list[str](), 0
    while piece := await stdout.read(CHUNK):
        pieces.append(piece)
        length += len(piece)
        if length > SAID:
            raise Unreachable(f"{command} prints more than {SAID // 2**20} MiB there")
    return "".join(pieces)
