"""Experiments: what the studies consist of, what runs them, and the one tidy table of what came out."""
