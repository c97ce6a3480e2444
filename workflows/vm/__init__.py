"""The workflow SpotVM: the life of one VM, from its purchase until it is confirmed gone."""
