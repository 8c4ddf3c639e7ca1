"""The command line's verbs, a module each: `add(verbs)` registers the verb's options and the function that runs it.

Modules of this package import at their top what costs nothing (no torch), so that help and refusals come at once.
"""
