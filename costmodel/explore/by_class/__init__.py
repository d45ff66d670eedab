"""Spaces whose layers cost alike, by classes of cost: exact counts, quantiles, frontiers."""
