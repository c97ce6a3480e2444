"""The bridge: listens to the cluster and tells Temporal, so that every workflow matches its object."""
