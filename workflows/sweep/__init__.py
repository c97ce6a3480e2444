"""The workflow Sweep, which finds what no other workflow looks after."""
