"""The Space: its files, its start, its command."""
