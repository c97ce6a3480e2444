"""What the market of one project remembers. All of it is bounded, and continue-as-new carries it on unchanged."""

from datetime import datetime

from pydantic import ConfigDict

from api.common import SecretReference
from api.market import Candidate
from api.model import Slim
from workflows.market.exposure import Observations


class Memory(Slim):
    """Part of the state."""

    model_config = ConfigDict(extra="ignore")


class Cooldown(Memory):
    """A cooldown: something could not be bought and is not tried again until a time, which is later each time."""

    reason: str
    message: str = ""  # in the cloud's words, which only the people of ``namespace`` read
    namespace: str = ""  # the one that received the message
    scope: str = ""  # the quota's metric or the permission
    since: datetime
    last: datetime
    until: datetime
    times: int = 1
    tried_by: str | None = None  # the VM that tries it after the cooldown, while the others wait for the result


class Bought(Memory):
    """A VM that exists, of the sample from which the market learns how often machines are lost."""

    name: str
    candidate: Candidate
    since: datetime
    namespace: str = ""
    credentials: SecretReference | None = None


class Others(Memory):
    """The spot VMs of one zone that are not in the sample, and whose credentials may ask the cloud about them."""

    count: int = 0
    namespace: str = ""
    credentials: SecretReference | None = None


class Watch(Memory):
    """The zones that one activity watches for preempted machines, and until when it does so."""

    zones: list[str]
    until: datetime


class Quote(Memory):
    """A price as it was read; ``usd_per_hour`` is None if the cloud gave none."""

    usd_per_hour: float | None = None
    read_at: datetime
    refused: list[str] = []  # the identities that got no answer; another may get one


class MarketState(Memory):
    """The whole memory of one market."""

    rests: dict[str, Cooldown] = {}  # the shared cooldowns, by key
    own: dict[str, Cooldown] = {}  # the cooldowns of single VMs, whose cause may be a mistake in their spec
    observations: Observations = Observations()  # how long machines ran and how often they were lost
    bought: dict[str, Bought] = {}  # by VM key; a sample if there are more than ``memory.KEPT``
    others: dict[str, Others] = {}  # by zone
    quotes: dict[str, Quote] = {}  # by region and machine type
    looked_at: datetime | None = None  # preempted operations up to this time have been reported
    told: list[str] = []  # the names of the last operations that were reported
    watches: list[Watch] = []  # those under way; an activity outlives the run that began it
    heard: list[str] = []  # what distinguishes the last news, so that news that come twice count once
