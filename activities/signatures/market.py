"""The market's workflow, reached by Temporal's API."""

from datetime import datetime

from activities.signatures.base import Done, Signature
from api.common import SecretReference
from api.market import Choice, Choose, Hazard, HazardQuestion, MarketNews
from api.model import Model
from api.timings import Timings


class AskMarket(Model):
    """Ask a project's market what to buy."""

    project: str
    timings: Timings
    question: Choose


class AskHazard(Model):
    """Ask a project's market how often machines are lost."""

    project: str
    question: HazardQuestion


class TellMarket(Model):
    """Report to a project's market what became of a VM."""

    project: str
    timings: Timings
    news: MarketNews


class Asker(Model):
    """Credentials that may be used to ask a cloud, and the namespace of their Secret."""

    namespace: str
    credentials: SecretReference | None = None


class WatchPreempted(Model):
    """Tell the VMs of a project that are preempted in these zones, for so many seconds."""

    project: str
    zones: list[str]
    since: datetime
    told: list[str] = []  # the operations of which the VMs know
    askers: list[Asker]  # tried in turn, because some keys may be revoked
    every: float  # seconds between two reads
    seconds: float


class WatchedPreempted(Model):
    """How far the operations were read: where the next watch begins."""

    looked_at: datetime | None  # None if the cloud never answered
    told: list[str] = []  # the last ones, at most ``MOST_TOLD``


ASK_MARKET = Signature("ask_market", AskMarket, Choice, timeout=20)
ASK_HAZARD = Signature("ask_hazard", AskHazard, Hazard, timeout=10)
TELL_MARKET = Signature("tell_market", TellMarket, Done, timeout=10)

WATCH_SECONDS = 300.0
"""How long one watch lasts. If its worker is killed, the next one begins only then."""

MOST_TOLD = 500
"""The most operations of which the next watch learns. A VM that is told twice ignores the second notice, and the
service takes no result of 2 MB."""

WATCH_PREEMPTED = Signature("watch_preempted", WatchPreempted, WatchedPreempted, timeout=WATCH_SECONDS + 60)
"""Nobody waits for its result, so it may take longer than a minute. It sends no heartbeats: each is a billed action."""
