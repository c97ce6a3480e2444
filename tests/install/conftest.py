"""Helm itself, built from its module as the sandbox's executables are."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest_asyncio

from release.chart import CHART
from sandbox import binaries
from tests.install.helm import Helm, HelmError


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def helm(tmp_path_factory: Any) -> Helm:
    """Return what runs helm with some arguments and returns its output. It reads and writes nothing of the user's."""
    executable = (await binaries.ensure(parts=("helm",))).helm
    own = tmp_path_factory.mktemp("helm")
    directories = {f"HELM_{name}_HOME": str(own / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}

    async def run(*arguments: str | Path, **environment: str) -> str:
        process = await asyncio.create_subprocess_exec(
            executable,
            *arguments,
            env={**os.environ, **directories, "KUBECONFIG": os.devnull, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await asyncio.wait_for(process.communicate(), 300)
        if process.returncode:
            raise HelmError((output + errors).decode())
        return output.decode()

    return run


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def rendered(helm: Helm) -> Helm:
    """Return what renders the chart with some more arguments, in the usual namespace."""

    async def render(*arguments: str, namespace: str = "outlast-system") -> str:
        return await helm("template", "outlast", CHART, "--namespace", namespace, *arguments)

    return render
