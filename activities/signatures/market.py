"""The market's workflow, by Temporal's API."""

from activities.signatures.base import Done, Signature
from api.market import Choice, Choose, Hazard, HazardQuestion, MarketNews
from api.model import Model
from api.timings import Timings


class AskMarket(Model):
    """Put a question to a project's market."""

    project: str
    timings: Timings
    question: Choose


class AskHazard(Model):
    """Ask a project's market how often machines are lost."""

    project: str
    question: HazardQuestion


class TellMarket(Model):
    """Tell a project's market what became of a VM."""

    project: str
    timings: Timings
    news: MarketNews


ASK_MARKET = Signature("ask_market", AskMarket, Choice, timeout=20)
ASK_HAZARD = Signature("ask_hazard", AskHazard, Hazard, timeout=10)
TELL_MARKET = Signature("tell_market", TellMarket, Done, timeout=10)
