"""Checkpoints: when they are made, of which replica, what they yield, and what a replica restores from."""
