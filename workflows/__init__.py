"""The workflows: they decide from their own state and messages, and act only through activities."""
