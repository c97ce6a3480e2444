"""What runs: the Job of each incarnation, its pod, its logs and outputs."""
