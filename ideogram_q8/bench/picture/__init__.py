"""How fast a step and a picture are, beside other programs."""
