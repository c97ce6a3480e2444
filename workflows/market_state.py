"""What the market of one project remembers, carried over continue-as-new as it is. All of it is bounded."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from api.common import SecretReference
from api.market import Candidate
from workflows.policy.exposure import Observations


class Memory(BaseModel):
    """Part of the state."""

    model_config = ConfigDict(extra="ignore")


class Rest(Memory):
    """Something that could not be had: it is left alone until a moment, longer each time."""

    reason: str
    message: str = ""  # in the cloud's words: for the people of ``namespace`` alone
    namespace: str = ""  # that was told so
    scope: str = ""  # the quota's metric, or the permission
    since: datetime
    last: datetime
    until: datetime
    times: int = 1
    tried_by: str | None = None  # after the rest one VM tries, the others wait for what becomes of it


class Bought(Memory):
    """A VM that exists: the poll of preempted operations looks for it."""

    name: str
    candidate: Candidate
    since: datetime
    namespace: str = ""
    credentials: SecretReference | None = None


class Quote(Memory):
    """A price as it was read; ``usd_per_hour`` is None if the cloud told none."""

    usd_per_hour: float | None = None
    read_at: datetime
    refused: list[str] = []  # the identities that asked in vain; another may be told


class MarketState(Memory):
    """All of it."""

    rests: dict[str, Rest] = {}  # of all who want such a thing; see ``policy.rests``
    own: dict[str, Rest] = {}  # of one VM alone: what may be its own spec's mistake
    observations: Observations = Observations()  # of how long machines ran and how often they were taken back
    bought: dict[str, Bought] = {}  # by the VM's key
    quotes: dict[str, Quote] = {}  # by region and machine type
    looked_at: datetime | None = None  # preempted operations up to here are told of
    told: list[str] = []  # names of the last operations told of
