"""Weights in other libraries' layouts."""
