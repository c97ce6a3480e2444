"""How long what cannot be had is left alone, and what of the market rests with it."""

from datetime import timedelta

from api import errors
from api.market import Candidate, MarketNews
from workflows.market_state import Rest
from workflows.policy.backoff import back_off

FORGOTTEN = timedelta(hours=3)  # after that a shortage counts as a new one
DOUBLINGS = 10.0  # the longest rest, in first ones: 3 min → 30 min
UNSUPPORTED = timedelta(hours=1)
GLOBAL_QUOTA = "GPUS_ALL_REGIONS"

_OF_A_PERSON = frozenset({errors.PERMISSION, errors.MISSING, errors.INVALID})


def resting_of(news: MarketNews) -> str:
    """What rests: a candidate without capacity, the region of a quota, all that these credentials may not do."""
    if news.kind in _OF_A_PERSON:
        return f"by {news.identity}"
    if news.kind == errors.QUOTA:
        return "quota" if news.scope == GLOBAL_QUOTA else _quota(news.candidate)
    return news.candidate.key


def keys_of(candidate: Candidate, identity: str) -> list[str]:
    """All that may keep a candidate from being tried."""
    return [candidate.key, _quota(candidate), "quota", f"by {identity}"]


def _quota(candidate: Candidate) -> str:
    return f"quota of {candidate.region} ({candidate.provisioning})"


def rest(before: Rest | None, news: MarketNews, first: float) -> Rest:
    """The rest after one more failure: ``first`` seconds, doubling; forgotten when nothing failed for three hours."""
    recent = before if before and news.at - before.last <= FORGOTTEN else None
    times = recent.times + 1 if recent else 1
    length = UNSUPPORTED if news.kind == errors.UNSUPPORTED else back_off(times, first, ceiling=DOUBLINGS)
    return Rest(
        reason=news.kind,
        message=news.message,
        since=recent.since if recent else news.at,
        last=news.at,
        until=news.at + length,
        times=times,
    )
