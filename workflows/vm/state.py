"""The state of a VM's life, which continue-as-new carries on unchanged."""

from datetime import datetime
from typing import ClassVar

from api.market import Candidate, VmRequest
from api.messages import Stage
from api.model import Slim
from api.views import AgentView, NodeView, VmView
from workflows.common.stored import Renamed


class Attempt(Slim):
    """One create call, recorded before it is made, so that the name of everything that costs money is known."""

    name: str
    zone: str
    candidate: Candidate | None = None  # None if a sweep found the VM
    price: float | None = None  # in USD per hour; None if unknown
    why: str = ""  # why this candidate was chosen
    operation: str | None = None
    absent: bool = False  # confirmed that nothing of ours exists by this name
    node_gone: bool = False


class VmState(Renamed):
    """The whole state of a VM. Times are absolute, so that a wait continues unchanged after a restart."""

    STORED_NAMES: ClassVar[dict[str, str]] = {"request": "wish"}

    stage: Stage = "Creating"
    reason: str = ""
    message: str = ""
    deadline: datetime | None = None  # of the present stage
    slow: bool = False  # the present stage takes longer than usual, so that people are told what it waits for
    attempt: int = 0  # the number of attempts, with those that are no longer kept
    tries: list[Attempt] = []
    failures: int = 0  # of steps in a row, for the back-off
    unclear: int = 0  # unclear answers in a row to the present create call
    request: VmRequest = VmRequest()
    wanted_at: datetime | None = None  # since when a machine has been looked for
    on_market: bool = False  # the market knows this machine
    view: VmView | None = None
    node: NodeView | None = None
    node_version: int = 0
    prepared: str | None = None  # the UID of the Node that was labelled; the bridge reports a Node before that
    reserved: bool = False  # its Node is kept cordoned; False if the machine joined before Outlast did that
    agent: AgentView | None = None  # the agent of the Ready node; None until somebody has looked
    agent_since: datetime | None = None  # since when the agent has not run
    told_agent: AgentView | None = None  # what the last report said of the agent
    joins: int = 0
    token_id: str | None = None
    fingerprint: dict[str, str] = {}
    certificates_asked: int = 0  # the number of signals that the Node's kubelet asks for a certificate
    certificates_answered: int = 0  # how many of these signals are answered
    released: str | None = None
    noticed_at: datetime | None = None
    ends_at: datetime | None = None  # when the machine is shut down, if its notice says so
    not_ready_since: datetime | None = None
    lost: bool = False  # the machine went or stopped against our will
    dead: bool = False  # confirmed that the machine does not run
    owner_checked_at: datetime | None = None
    closed_at: datetime | None = None  # when a report last failed that had the job checked at once
    number: int = 0  # the number of the last report
    told: tuple[str, str, str, bool] | None = None  # what the last report said
    shown: tuple[str, str] | None = None  # the stage and the instance that its entry was written for
    entry_again_at: datetime | None = None  # when the write of its entry, which failed, is repeated
    asked: int = 0  # the number of the job's ensure signals; a report answers each
    answered: int = 0
