"""A crowd of jobs on one sandbox: how start, notices, memory and the bridge's restart grow with their number."""
