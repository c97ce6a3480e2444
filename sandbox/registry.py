"""A real OCI registry (go-containerregistry's) on 127.0.0.1, without authentication, with its images in memory."""

from __future__ import annotations

from sandbox.binaries import Binaries
from sandbox.claims import free_port
from sandbox.processes import Process, Server
from sandbox.settings import Settings


class Registry(Server):
    """One registry on 127.0.0.1 that speaks plain HTTP. Its images are gone once it is down."""

    def __init__(self, settings: Settings, binaries: Binaries) -> None:
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        """host:port, the first part of an image's name. On loopback, clients use plain HTTP by themselves."""
        process = Process("registry", [binaries.registry, f"-port={port}"], settings.state_dir)
        super().__init__(process, f"http://{self.address}/v2/")
