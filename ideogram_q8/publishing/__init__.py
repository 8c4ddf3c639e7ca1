"""From an artifact folder to a repository on the Hub: `push.py` is the command, everything it decides is in pure modules."""
