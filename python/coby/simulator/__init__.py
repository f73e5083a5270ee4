"""Synthetic markets that speak a venue's own wire format."""
