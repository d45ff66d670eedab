"""Spaces with a quality that differs by layer: chains of layers, within a stated bound."""
