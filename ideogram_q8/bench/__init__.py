"""How fast this machine does what the project is for, and how far that is from what the machine could do."""
