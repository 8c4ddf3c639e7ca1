"""What the inputs of every Linear look like while the model paints: recorded once, read by every recipe that measures."""
