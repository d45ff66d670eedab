"""The loop from a checkpoint to a verified choice: measure, fit, search the whole space, measure what was found."""
