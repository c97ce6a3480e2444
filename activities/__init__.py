"""Activities: each folder acts on one outside system. Workflows know them by ``activities.signatures`` alone."""
