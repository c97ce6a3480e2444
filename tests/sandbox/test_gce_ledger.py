"""Whoever asks what happened to VMs may wait for the next event."""

import asyncio

from sandbox.gce.ledger import Happening, Ledger


def requested(ledger: Ledger, name: str) -> None:
    ledger.write(Happening.REQUESTED, name, "us-central1-a", 1, "n1-standard-4")


async def test_what_has_happened_is_told_at_once() -> None:
    ledger = Ledger()
    for name in ("a", "b", "c"):
        requested(ledger, name)
    assert [event.name for event in await ledger.since(1, 60)] == ["b", "c"]


async def test_what_happens_next_is_waited_for() -> None:
    ledger = Ledger()
    requested(ledger, "a")
    asked = asyncio.create_task(ledger.since(1, 60))
    await asyncio.sleep(0)
    requested(ledger, "b")
    assert [event.name for event in await asked] == ["b"]


async def test_nothing_is_told_if_nothing_happens_in_time() -> None:
    assert await Ledger().since(0, 0.01) == []
