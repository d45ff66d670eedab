"""Configurations priced: counts, seconds, memory, energy, a verdict, and the assumptions behind them."""
