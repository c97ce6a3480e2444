"""The registry of checkpoint images."""
