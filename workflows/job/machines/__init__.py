"""The machines under the replicas: the VMs of a job, the Nodes that it sees, the spot return."""
