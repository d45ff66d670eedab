"""The seam between measuring and the machine: CPU and CUDA, conditions, threads."""
