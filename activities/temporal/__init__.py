"""Other workflows of ours: the VMs' and the market's."""
