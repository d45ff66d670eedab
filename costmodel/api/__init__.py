"""The Python API: the questions of the command line with strings or objects, and answers that a notebook shows."""
