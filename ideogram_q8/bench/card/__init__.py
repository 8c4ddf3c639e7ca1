"""`bench card`: every claim about a graphics card proved, disproved or left open in one run of a few minutes.

A run is a list of phases (`phases`), each in a process of its own with a limit of its own (`run`, `child`). Whatever a phase finds is a
line of card.jsonl (`lines`), on the disk before the next measurement begins; a phase that fails, lacks a library or is late is a line
too. At the end the lines are held against what the project aims at (`aims`, `summary`). Phases import what they need when they
run, so that a machine without diffusers or comfy-kitchen still measures the rest.
"""
