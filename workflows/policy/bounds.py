"""The longest wait, so that a date can be made of whatever a person, a spec or a count of failures asks for."""

LONGEST = 10 * 365 * 86_400.0
"""Seconds. Dates end in the year 9999, and a duration beyond about 292 years does not fit into Temporal's timers."""


def bounded(seconds: float) -> float:
    """Clamp a wait to 0 … :data:`LONGEST` seconds; NaN counts as 0."""
    if seconds != seconds:  # only NaN is not itself; math.isnan refuses large integers
        return 0.0
    return float(min(max(seconds, 0.0), LONGEST))
