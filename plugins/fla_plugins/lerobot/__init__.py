"""LeRobot v3 datasets, read and recorded without torch and without the lerobot library."""
