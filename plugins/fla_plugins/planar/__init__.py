"""Two planar arms reach for coloured targets on a table: a simulator and renderer in plain numpy.

Small enough to train on in minutes on a laptop, yet the task needs what a vision-language-action policy must have:
the picture says where the targets are, and only the words say which one is meant.
"""
