"""SSH from a container, whose user has a number and no name, to a machine whose root is a stranger."""

import getpass
import pwd
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncssh
import pytest

from activities.join import ssh
from activities.join.ssh import SAID, Unreachable


@asynccontextmanager
async def machine(says: str, status: int = 0) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Connect to a machine that answers each command so; ``yes`` answers without end."""

    async def answer(process: asyncssh.SSHServerProcess[str]) -> None:
        try:
            while process.command == "yes":
                process.stdout.write(says)
                await process.stdout.drain()
            process.stdout.write(says)
        finally:
            process.exit(status)

    key, host_key = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    trusted = asyncssh.import_authorized_keys(key.export_public_key().decode())
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[host_key], authorized_client_keys=trusted, process_factory=answer
    )
    try:
        known = host_key.export_public_key().decode()
        async with ssh.connect("127.0.0.1", server.get_port(), "outlast", key, [known]) as connection:
            yield connection
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("status", [0, 3])
async def test_what_a_command_says_is_read_with_its_status(status: int) -> None:
    async with machine("some\nlines\n", status) as connection:
        assert await ssh.run(connection, "sh", "-c", "true") == (status, "some\nlines")


async def test_a_machine_that_prints_without_end_is_cut_short() -> None:
    """Otherwise it would fill the memory of the worker of all teams."""
    async with machine("y\n" * 2**15) as connection:
        with pytest.raises(Unreachable, match=f"yes prints more than {SAID // 2**20} MiB"):
            await ssh.run(connection, "yes")


def test_who_runs_it_needs_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert ssh.connect
    assert getpass.getuser()  # asyncssh asks for it before it connects
