"""Factors of weights: which ranks, in which form, and how a user writes them."""
