"""The workflows of a release that takes other steps: the histories of earlier releases do not replay with it."""

from temporalio import workflow

from api import names
from api.market import MarketStart
from api.messages import JobStart, VmStart
from workflows.job.workflow import SpotInstanceJob
from workflows.market.workflow import SpotMarket
from workflows.sweep.workflow import Sweep
from workflows.vm.workflow import SpotVM

A_MOMENT = 0.01


@workflow.defn(name=names.JOB_WORKFLOW)
class NextJob(SpotInstanceJob):
    """Begins with a wait."""

    @workflow.init
    def __init__(self, start: JobStart) -> None:
        super().__init__(start)

    @workflow.run
    async def run(self, start: JobStart) -> str:
        await workflow.sleep(A_MOMENT)
        return await super().run(start)


@workflow.defn(name=names.VM_WORKFLOW)
class NextVM(SpotVM):
    """Begins with a wait."""

    @workflow.init
    def __init__(self, start: VmStart) -> None:
        super().__init__(start)

    @workflow.run
    async def run(self, start: VmStart) -> str:
        await workflow.sleep(A_MOMENT)
        return await super().run(start)


@workflow.defn(name=names.MARKET_WORKFLOW)
class NextMarket(SpotMarket):
    """Begins with a wait."""

    @workflow.init
    def __init__(self, start: MarketStart) -> None:
        super().__init__(start)

    @workflow.run
    async def run(self, start: MarketStart) -> str:
        await workflow.sleep(A_MOMENT)
        return await super().run(start)


NEXT = [NextJob, NextVM, NextMarket, Sweep]
