"""Weights to factors: SVD, Tucker, whitened; and the modules that hold them."""
