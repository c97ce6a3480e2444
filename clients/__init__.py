"""The clients that the worker, its activities and the bridge share: Kubernetes and Temporal, each with deadlines."""
