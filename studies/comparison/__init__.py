"""What comparisons of pretrained models share: baselines, choices of ranks, statistics, records."""
