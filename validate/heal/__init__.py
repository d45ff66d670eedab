"""Distilling a dense model into the factors that were made of it."""
