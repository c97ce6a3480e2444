"""How often the cloud takes machines back: a rate learnt from what was seen, with a prior for what was not.

The prior is the middle of what Google published of preemptible VMs: 5 % to 15 % of a project's a day, on a seven-day
average (cloud.google.com/compute/docs/instances/preemptible). It weighs as much as one day of one VM: what is seen
soon outweighs what was read.
"""

PRIOR_PER_HOUR = 0.10 / 24
PRIOR_HOURS = 24.0


def losses_per_hour(losses: float, hours: float, expected: float = PRIOR_PER_HOUR) -> float:
    """Posterior mean of a Poisson process's rate under a Gamma prior: ``losses`` in ``hours`` of machine time.

    ``expected`` is the prior's mean, in losses per hour.
    """
    return (expected * PRIOR_HOURS + losses) / (PRIOR_HOURS + hours)
