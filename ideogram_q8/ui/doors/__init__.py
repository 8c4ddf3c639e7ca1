"""Who may talk to the app, and how much one visitor may take."""
