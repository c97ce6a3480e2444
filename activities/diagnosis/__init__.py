"""What only the worker can say of its surroundings: its rights, the quota, keys, and the way to the cluster."""
