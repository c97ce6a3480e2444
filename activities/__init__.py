"""Activities act, each module on one outside system; the workflows know them by ``activities.signatures`` alone."""
