"""Policies of the lerobot library, in PyTorch, behind our server: `fla serve outputs/train/act/checkpoints/last`."""
