"""The demo: a whole story of preemptions, told while it happens, from ``kubectl apply`` until nothing is left."""
