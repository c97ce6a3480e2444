"""A VM's sshd: users and keys from the instance metadata ``ssh-keys``, commands by /bin/sh in its directory, SFTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import asyncssh

from sandbox.machines import MachineSpec
from sandbox.machines.light.processes import CHUNK, Processes

log = logging.getLogger(__name__)


class SshServer:
    """Serves SSH in a VM. Keys are read at each login, as the guest agent does it."""

    def __init__(self, spec: MachineSpec, port: int, root: Path, processes: Processes) -> None:
        self._spec = spec
        self._port = port
        self._root = root
        self._processes = processes
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._silent: socket.socket | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self.host_key = self._host_key()

    async def start(self) -> None:
        """Listen on the VM's address.

        Raises:
            OSError: address and port are taken.
        """
        self._acceptor = await asyncssh.listen(
            self._spec.address,
            self._port,
            server_factory=lambda: _Logins(self._spec, self._connections),
            server_host_keys=[self.host_key],
            process_factory=self._run,
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=os.fsencode(self._root)),
            allow_scp=True,
            encoding=None,
            line_editor=False,
            login_timeout=30,
        )

    def hang(self) -> None:
        """Fall silent, like an sshd that was stopped: it accepts connections and says nothing; existing ones go on."""
        if self._acceptor is not None:
            self._acceptor.close()
            self._silent = socket.create_server((self._spec.address, self._port))

    def cut(self) -> None:
        """Stop listening, and break all connections."""
        if self._silent is not None:
            self._silent.close()
        if self._acceptor is not None:
            self._acceptor.close()
        for connection in list(self._connections):
            connection.abort()

    def _host_key(self) -> asyncssh.SSHKey:
        """Return the key on the VM's disk, which is made at its first boot."""
        path = self._root / "etc/ssh/ssh_host_ed25519_key"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            key = asyncssh.generate_private_key("ssh-ed25519")
            path.touch(mode=0o600)
            path.write_bytes(key.export_private_key())
            path.with_suffix(".pub").write_bytes(key.export_public_key())
        return asyncssh.read_private_key(path)

    async def _run(self, channel: asyncssh.SSHServerProcess[bytes]) -> None:
        """Run one command. Bytes are copied by hand: redirection to a subprocess's pipes loses output at its end."""
        command = channel.command
        argv = ("/bin/sh", "-c", command) if command is not None else ("/bin/sh", "-i")
        user = channel.get_extra_info("username")
        try:
            child = await self._processes.start(*argv, environment={"USER": user, "LOGNAME": user})
        except OSError as error:
            log.warning("cannot run %r: %s", command, error)
            channel.exit(126)
            return
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        feeder = asyncio.create_task(_feed(channel, child, child.stdin))
        try:
            # As in sshd, a channel ends when the command has ended and nobody keeps its output open any more.
            await asyncio.gather(_drain(child.stdout, channel.stdout), _drain(child.stderr, channel.stderr))
            status = await child.wait()
        finally:
            feeder.cancel()
        if status < 0:
            channel.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
        else:
            channel.exit(status)


class _Logins(asyncssh.SSHServer):  # type: ignore[misc]
    """Accepts public keys alone: those in ``ssh-keys`` or, on a VM with OS Login, those of its accounts."""

    def __init__(self, spec: MachineSpec, connections: set[asyncssh.SSHServerConnection]) -> None:
        self._spec = spec
        self._connections = connections
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        if self._spec.metadata.get("enable-oslogin", "").upper() == "TRUE":
            known = [asyncssh.import_public_key(each) for each in self._spec.logins.get(username, [])]
        else:
            known = authorized_keys(self._spec.metadata, username)
        return key.public_data in {each.public_data for each in known}


def authorized_keys(metadata: Mapping[str, str], username: str) -> list[asyncssh.SSHKey]:
    """Return the keys that the metadata item ``ssh-keys`` gives to ``username``.

    Its lines are ``USER:TYPE KEY [COMMENT]``; the comment ``google-ssh {"userName":…,"expireOn":…}`` makes a key
    expire.
    """
    found = []
    for line in metadata.get("ssh-keys", "").splitlines():
        user, _, entry = line.strip().partition(":")
        if user != username or _expired(entry):
            continue
        with contextlib.suppress(asyncssh.KeyImportError):
            found.append(asyncssh.import_public_key(" ".join(entry.split()[:2])))
    return found


def _expired(entry: str) -> bool:
    _, _, options = entry.partition(" google-ssh ")
    try:
        expiry = json.loads(options)["expireOn"] if options else None
        return expiry is not None and datetime.strptime(expiry, "%Y-%m-%dT%H:%M:%S%z") < datetime.now(UTC)
    except (ValueError, KeyError, TypeError):
        return True  # the guest agent skips a key whose options it cannot read


async def _drain(source: asyncio.StreamReader, sink: asyncssh.SSHWriter[bytes]) -> None:
    connected = True
    while data := await source.read(CHUNK):
        if not connected:
            continue  # nobody listens any more, but the command goes on
        try:
            sink.write(data)
            await sink.drain()
        except (OSError, asyncssh.Error):
            connected = False


async def _feed(
    channel: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process, sink: asyncio.StreamWriter
) -> None:
    """Pass on what the client types, and the signals that it sends."""
    with contextlib.suppress(OSError, asyncssh.Error):
        while True:
            try:
                data = await channel.stdin.read(CHUNK)
            except asyncssh.SignalReceived as received:
                os.killpg(child.pid, signal.Signals[f"SIG{received.signal}"])
                continue
            except (asyncssh.BreakReceived, asyncssh.TerminalSizeChanged):
                continue
            if not data:
                break
            sink.write(data)
            await sink.drain()
    sink.close()
