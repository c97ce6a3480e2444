"""A cloud in a box: Kubernetes, Temporal, a registry and GCE on one machine, for the demo, the tests and rehearsals."""
