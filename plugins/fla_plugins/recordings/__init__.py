"""Recordings in other layouts than LeRobot's: HDF5, NumPy files, folders of images, each described by a mapping."""
