"""Isaac Lab's tasks as environments: to collect data in, with `fla data collect isaaclab`."""
