"""Design spaces: exact sizes, numbered configurations, sampling; no prices."""
