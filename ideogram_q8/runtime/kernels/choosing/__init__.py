"""Choosing between back ends: trials, measured tables, tuning, operators, scratch memory."""
