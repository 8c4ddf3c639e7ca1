"""What machine this is: devices, NVIDIA's management library, threads."""
