"""The app from a checkout: `python app.py`, then open the address it prints; `ideogram_q8.commands.app` has the options."""

from __future__ import annotations

from ideogram_q8.machine import console

if __name__ == "__main__":
    console.prepare()

from ideogram_q8.commands.app import main

if __name__ == "__main__":
    raise SystemExit(console.run(main))
