"""The bridge: watches the cluster and signals the workflows, so that every workflow matches its object."""
