"""Training, planting faults in, measuring and exporting the pocket. The package imports none of it."""
