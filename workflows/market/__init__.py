"""The workflow SpotMarket: what all jobs of a cloud project have learned about what can be bought."""
