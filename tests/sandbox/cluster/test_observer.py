"""The observer, with a real API server that closes its watches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest_asyncio

from sandbox.control import ControlClient
from sandbox.control_plane import ControlPlane
from sandbox.demo.observer import Observer

GROUP = "observed.example.com"


class NoVms:
    """The control surface of a sandbox in which nothing exists."""

    async def status(self) -> dict[str, Any]:
        return {"vms": [], "processes": []}

    async def events(self, since: int, wait: float) -> list[Any]:
        await asyncio.sleep(wait)
        return []


def definition(*fields: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {field: {"type": "string"} for field in fields}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [version],
        },
    }


async def define(plane: ControlPlane, *fields: str) -> None:
    """Install the kind, or another version of it, for which the API server starts new storage."""
    await plane.kubectl("apply", "-f", "-", stdin=json.dumps(definition(*fields)))
    await plane.kubectl("wait", "--for=condition=Established", f"crd/things.{GROUP}")


async def create(plane: ControlPlane, name: str) -> None:
    thing = {"apiVersion": f"{GROUP}/v1", "kind": "Thing", "metadata": {"name": name, "namespace": "default"}}
    await plane.kubectl("create", "-f", "-", stdin=json.dumps(thing))


@pytest_asyncio.fixture
async def observer(control_plane: ControlPlane) -> AsyncIterator[Observer]:
    await define(control_plane)
    await control_plane.kubectl("get", "things")
    made = Observer(control_plane.kubeconfig, cast(ControlClient, NoVms()), {"things": f"/apis/{GROUP}/v1/things"})
    await made.start()
    yield made
    await made.stop()
    await control_plane.kubectl("delete", "crd", f"things.{GROUP}")


async def test_a_watch_that_the_api_server_closes_begins_again(observer: Observer, control_plane: ControlPlane) -> None:
    await create(control_plane, "stays")
    await create(control_plane, "goes")
    await observer.until(lambda: observer.get("things", "stays") and observer.get("things", "goes"), 90, "both")
    for field in ("one", "two"):
        await define(control_plane, field)
        await control_plane.kubectl("delete", "things", "goes")
        await create(control_plane, "goes")
    await create(control_plane, "last")
    await observer.until(lambda: observer.get("things", "last"), 90, "what came after the watches were closed")
    await observer.until(lambda: len(observer.all("things")) == 3, 90, "what went meanwhile to be forgotten")
    told = [(change.type, change.name) for change in observer.history if change.name != "goes"]
    assert told == [("ADDED", "stays"), ("ADDED", "last")]
