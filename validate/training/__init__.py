"""Trains small models on text that every machine has, to measure quality where no weights can be fetched."""
