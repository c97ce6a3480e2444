"""The state of a VM's life, carried over continue-as-new as it is."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from api.market import Candidate, VmWish
from api.messages import Stage
from api.views import AgentView, NodeView, VmView


class Try(BaseModel):
    """One create call, recorded before it is made: nothing that costs money exists without a record of its name."""

    name: str
    zone: str
    candidate: Candidate | None = None  # None of those that a sweep found
    price: float | None = None  # in USD per hour, where it is known
    why: str = ""  # this candidate
    operation: str | None = None
    absent: bool = False  # confirmed that nothing of ours is there by this name
    node_gone: bool = False


class VmState(BaseModel):
    """All of it. Times are absolute, so that a wait goes on where it was after a restart."""

    model_config = ConfigDict(extra="ignore")

    stage: Stage = "Creating"
    reason: str = ""
    message: str = ""
    deadline: datetime | None = None  # of the present stage
    attempt: int = 0  # counts the create tries, also those no longer kept
    tries: list[Try] = []
    failures: int = 0  # of steps in a row, for the back-off
    unclear: int = 0  # answers in a row to the present create call
    wish: VmWish = VmWish()
    wanted_at: datetime | None = None  # since when a machine is looked for
    on_market: bool = False  # the market knows of this machine
    view: VmView | None = None
    node: NodeView | None = None
    node_version: int = 0
    prepared: str | None = None  # UID of the Node that was labelled; the bridge tells of a Node before that
    reserved: bool = False  # its Node is cordoned; not that of a machine which joined before Outlast did so
    agent: AgentView | None = None  # of the Ready node; None as long as nobody has looked
    agent_since: datetime | None = None  # since when it does not run
    told_agent: AgentView | None = None  # what the last report said of it
    joins: int = 0
    token_id: str | None = None
    fingerprint: dict[str, str] = {}
    certificates_asked: int = 0  # signals that the Node's kubelet asks for a certificate
    certificates_answered: int = 0  # of them, those after which its requests were answered
    released: str | None = None
    noticed_at: datetime | None = None
    ends_at: datetime | None = None  # when it is shut down, where its notice says so
    not_ready_since: datetime | None = None
    lost: bool = False  # the cloud took it back
    dead: bool = False  # confirmed that the machine does not run
    owner_checked_at: datetime | None = None
    number: int = 0  # of the last report
    told: tuple[str, str, str, bool] | None = None  # what the last report said
    asked: int = 0  # the job's ensure signals; each is answered by a report
    answered: int = 0
