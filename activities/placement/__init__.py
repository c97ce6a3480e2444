"""Room in the cluster for a pod, and the machines on which it could ever run."""
