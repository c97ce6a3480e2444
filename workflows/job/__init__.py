"""The workflow SpotInstanceJob: the life of one training, from ``kubectl apply`` until nothing of it is left."""
