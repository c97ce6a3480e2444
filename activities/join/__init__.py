"""The join of a machine to the cluster as a Node: kubeadm over SSH."""
