"""Triton programs, and nothing else: importing a module of this package needs Triton, compiling for a card needs no card.

Each is checked against its definition in plain torch, by Triton's interpreter on a CPU and natively where there is a GPU.
"""
