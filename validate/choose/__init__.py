"""From a checkpoint to a verified choice: search, measure, compare, decide."""
