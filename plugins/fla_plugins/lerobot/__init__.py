"""LeRobot datasets, v2 and v3, read and recorded without torch and without the lerobot library."""
