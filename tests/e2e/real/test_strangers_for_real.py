"""GPU pods of another team beside real kubelets, joined by the real kubeadm."""

from __future__ import annotations

import pytest

from sandbox.machines.real.requirements import obstacle
from tests.e2e.rig import Rig
from tests.e2e.test_strangers import keeps_a_free_gpu

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(1200)]
if reason := obstacle():
    pytestmark.append(pytest.mark.skip(reason=reason))


async def test_a_gpu_that_is_free_on_a_bought_node_is_not_a_strangers(real: Rig) -> None:
    namespace = await real.namespace()
    await keeps_a_free_gpu(real, namespace)
    await real.kubectl("delete", "namespace", namespace, deadline=180)
