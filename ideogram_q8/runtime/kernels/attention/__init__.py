"""Attention in bfloat16 and INT8."""
