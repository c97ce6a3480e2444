"""Workflows decide: they read their own state and messages, and act through activities alone."""
