"""Temporal's server and the registry, each on its own."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest_asyncio
from temporalio.client import Client

from sandbox.binaries import Binaries
from sandbox.registry import Registry
from sandbox.settings import Settings
from sandbox.temporal_server import TemporalServer


@pytest_asyncio.fixture
async def registry(executables: Binaries, tmp_path: Path) -> AsyncIterator[Registry]:
    server = Registry(Settings(state_dir=tmp_path), executables)
    await server.up()
    yield server
    await server.down()


@pytest_asyncio.fixture
async def temporal(executables: Binaries, tmp_path: Path) -> AsyncIterator[TemporalServer]:
    server = TemporalServer(Settings(state_dir=tmp_path), executables)
    await server.up()
    yield server
    await server.down()


async def test_an_image_pushed_is_the_image_pulled(registry: Registry) -> None:
    config = b"{}"
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    media_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(config)},
        "layers": [],
    }
    async with aiohttp.ClientSession(f"http://{registry.address}/v2/training/resnet/") as session:
        async with session.post("blobs/uploads/", params={"digest": digest}, data=config) as answer:
            assert answer.status in {201, 202}
        if answer.status == 202:
            async with session.put(answer.headers["Location"], params={"digest": digest}, data=config) as answer:
                assert answer.status == 201
        headers = {"Content-Type": media_type}
        async with session.put("manifests/step-7", json=manifest, headers=headers) as answer:
            assert answer.status == 201
        async with session.get("manifests/step-7") as answer:
            assert await answer.json(content_type=None) == manifest
        async with session.get("tags/list") as answer:
            assert (await answer.json(content_type=None))["tags"] == ["step-7"]
        async with session.get(f"blobs/{digest}") as answer:
            assert await answer.read() == config


async def test_temporal_remembers_a_workflow_after_it_was_killed(temporal: TemporalServer) -> None:
    client = await Client.connect(temporal.address)
    await client.start_workflow("Training", id="training", task_queue="nobody")
    await temporal.process.kill()
    await temporal.up()
    client = await Client.connect(temporal.address)
    description = await client.get_workflow_handle("training").describe()
    assert description.workflow_type == "Training"


async def test_temporal_shows_its_web_ui(temporal: TemporalServer) -> None:
    async with aiohttp.ClientSession() as session, session.get(temporal.ui) as answer:
        assert answer.status == 200
        assert "<!doctype html>" in (await answer.text()).lower()
