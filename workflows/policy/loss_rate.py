"""How often the cloud preempts machines: a rate learned from observed losses, with a prior until there are some.

The prior is the middle of what Google published on preemptible VMs: 5 % to 15 % of a project's VMs per day, on a
seven-day average (cloud.google.com/compute/docs/instances/preemptible). It weighs as much as one day of one VM, so
that observations soon outweigh it.
"""

PRIOR_PER_HOUR = 0.10 / 24
PRIOR_HOURS = 24.0


def losses_per_hour(losses: float, hours: float, expected: float = PRIOR_PER_HOUR) -> float:
    """Estimate the losses per hour from ``losses`` in ``hours`` of machine time.

    It is the posterior mean of a Poisson process's rate. The Gamma prior has a mean of ``expected`` losses per hour.
    """
    return (expected * PRIOR_HOURS + losses) / (PRIOR_HOURS + hours)
