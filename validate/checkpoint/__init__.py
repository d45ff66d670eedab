"""Factored checkpoints: written from a dense one tensor by tensor, and read back strictly."""
