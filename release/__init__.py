"""Programs that make what a release consists of, besides the code: the Helm chart and the container image."""
