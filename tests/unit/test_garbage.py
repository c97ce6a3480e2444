"""Old garbage is collected from time to time, in a quiet moment, and never by itself."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from programs import garbage


@contextmanager
def counted() -> Iterator[list[int]]:
    """Note the generations that are collected."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    gc.callbacks.append(note)
    try:
        yield seen
    finally:
        gc.callbacks.remove(note)


def grow() -> list[list[int]]:
    """Allocate what lives, as much as makes Python look at everything several times."""
    return [[number] for number in range(300_000)]


async def test_what_grows_has_only_young_objects_collected() -> None:
    async with garbage.collected(every=3600):
        with counted() as seen:
            kept = grow()
        assert seen
        assert max(seen) < 2
    assert kept


async def test_old_ones_are_collected_once_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "WORTHWHILE", 1)
    monkeypatch.setattr(garbage, "MOST", 10**9)
    quiet = False
    async with garbage.collected(lambda: quiet, every=0.001):
        with counted() as seen:
            kept = grow()
            await asyncio.sleep(0.003)
            assert 2 not in seen
            quiet = True
            async with asyncio.timeout(200):
                while 2 not in seen:
                    kept += grow()
                    await asyncio.sleep(0.001)


async def test_it_is_not_put_off_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "WORTHWHILE", 1)
    async with garbage.collected(lambda: False, every=0.001), asyncio.timeout(200):
        with counted() as seen:
            kept = grow()
            while 2 not in seen:
                kept += grow()
                await asyncio.sleep(0.001)


async def test_afterwards_everything_is_as_before() -> None:
    before = gc.get_threshold()
    async with garbage.collected():
        assert gc.get_threshold() != before
        assert gc.get_freeze_count()
    assert gc.get_threshold() == before
    assert not gc.get_freeze_count()
