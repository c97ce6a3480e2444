"""Reading, changing and writing on a real API server loses nothing that somebody else wrote meanwhile."""

import asyncio
from typing import Any

import pytest

from clients.changes import change, write_current, write_or_create
from clients.kube import Kube, KubeError, of_version, path

Json = dict[str, Any]
UNDONE = "the count stays"


@pytest.fixture
async def where(kube: Kube, namespace: str) -> str:
    """Return the path of a ConfigMap that counts."""
    await kube.create(path("v1", "configmaps", namespace), {"metadata": {"name": "counter"}, "data": {"count": "0"}})
    return path("v1", "configmaps", namespace, "counter")


def one_more(found: Json) -> Json:
    return {"data": {"count": str(int(found["data"]["count"]) + 1)}}


async def test_writers_at_the_same_time_lose_nothing(kube: Kube, where: str) -> None:
    await asyncio.gather(*(change(kube, where, one_more, UNDONE) for _ in range(20)))
    assert (await kube.get(where))["data"] == {"count": "20"}


async def test_the_object_is_returned_as_it_is_now(kube: Kube, where: str) -> None:
    changed = await change(kube, where, one_more, UNDONE)
    assert changed == await kube.get(where)


async def test_nothing_is_written_if_nothing_is_to_be_changed(kube: Kube, where: str) -> None:
    before = await kube.get(where)
    assert await change(kube, where, lambda found: None, UNDONE) == before
    assert await kube.get(where) == before


async def test_an_object_that_does_not_exist_is_none(kube: Kube, where: str) -> None:
    await kube.delete(where)
    assert await change(kube, where, one_more, UNDONE) is None


async def test_an_object_that_goes_meanwhile_is_none(kube: Kube, where: str) -> None:
    async def write(found: Json) -> Json:
        await kube.delete(where)
        return await kube.patch(where, of_version(found, one_more(found)))

    assert await write_current(kube, where, write, UNDONE) is None


async def test_one_made_again_under_the_name_is_decided_on_anew(kube: Kube, where: str, namespace: str) -> None:
    seen = []

    async def write(found: Json) -> Json:
        seen.append(found["metadata"]["uid"])
        if len(seen) == 1:
            await kube.delete(where)
            again = {"metadata": {"name": "counter"}, "data": {"count": "7"}}
            await kube.create(path("v1", "configmaps", namespace), again)
        return await kube.patch(where, of_version(found, one_more(found)))

    await write_current(kube, where, write, UNDONE)
    assert len(set(seen)) == 2
    assert (await kube.get(where))["data"] == {"count": "8"}


async def test_a_refusal_is_not_repeated(kube: Kube, where: str) -> None:
    asked = []

    def wrong(found: Json) -> Json:
        asked.append(found)
        return {"data": {"no key/": "x"}}

    with pytest.raises(KubeError, match="Invalid value"):
        await change(kube, where, wrong, UNDONE)
    assert len(asked) == 1


async def test_it_gives_up_and_says_what_is_left_undone(kube: Kube, where: str) -> None:
    async def write(found: Json) -> Json:
        await kube.patch(where, one_more(found))  # somebody else is always faster
        return await kube.patch(where, of_version(found, one_more(found)))

    with pytest.raises(TimeoutError, match=f"{where} is changed by others all the time: {UNDONE}"):
        await write_current(kube, where, write, UNDONE, patience=0.2)


async def test_who_creates_it_first_does_not_make_the_others_fail(kube: Kube, namespace: str) -> None:
    collection = path("v1", "configmaps", namespace)

    async def write(found: Json | None) -> Json:
        if found is None:
            return await kube.create(collection, {"metadata": {"name": "new"}, "data": {"count": "1"}})
        return await kube.patch(f"{collection}/new", of_version(found, one_more(found)))

    await asyncio.gather(*(write_or_create(kube, f"{collection}/new", write, UNDONE) for _ in range(10)))
    assert (await kube.get(f"{collection}/new"))["data"] == {"count": "10"}
