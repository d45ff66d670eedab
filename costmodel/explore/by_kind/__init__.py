"""Homogeneous spaces over several kinds of layers that are too many for classes: sums over kinds."""
