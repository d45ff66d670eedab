"""Measuring on the nodes of a Ray cluster: workers pull configurations, results come back in the order of the plan."""
