"""What Ideogram 4 is: architecture, components, number formats of files, presets. Nothing here imports torch."""
