"""How often the cloud takes machines back: a rate learnt from what was seen, with a prior for what was not."""

PRIOR_LOSSES = 1.0
PRIOR_HOURS = 24.0
"""One loss a day, held as firmly as one day's experience: the longest that GCE let a preemptible VM live."""


def losses_per_hour(losses: float, hours: float, expected: float = PRIOR_LOSSES / PRIOR_HOURS) -> float:
    """Posterior mean of a Poisson process's rate under a Gamma prior: ``losses`` in ``hours`` of machine time.

    ``expected`` is the prior's mean, in losses per hour.
    """
    return (expected * PRIOR_HOURS + losses) / (PRIOR_HOURS + hours)
