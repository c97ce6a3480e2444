import asyncio
import sys

import pytest

from sandbox import claims
from sandbox.claims import claim_octet, free_port


def test_sandboxes_get_addresses_of_their_own() -> None:
    first, claim = claim_octet(2222)
    second, other = claim_octet(2222)
    with claim, other:
        assert first != second


async def test_a_port_that_another_process_was_given_is_given_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if nobody listens on it yet."""
    code = "import sys; from sandbox.claims import free_port; print(free_port(), flush=True); sys.stdin.read()"
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert other.stdout
    taken = int(await asyncio.wait_for(other.stdout.readline(), 60))
    own = free_port()
    choices = iter([taken, own, *range(31000, 32000)])
    monkeypatch.setattr(claims._random, "randrange", lambda *_: next(choices))
    assert free_port() not in {taken, own}
    await asyncio.wait_for(other.communicate(b""), 60)
    monkeypatch.setattr(claims._random, "randrange", lambda *_: taken)
    assert free_port() == taken
