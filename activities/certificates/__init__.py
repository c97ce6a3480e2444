"""Certificates of our VMs' kubelets: which requests are approved, and which are denied."""
