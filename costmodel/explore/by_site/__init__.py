"""Spaces in which every weight has a rank of its own: exact labels where they fit, else points within a stated gap."""
