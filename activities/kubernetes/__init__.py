"""Nodes, status, Events and other objects of the cluster, and the marks on those that are ours."""
