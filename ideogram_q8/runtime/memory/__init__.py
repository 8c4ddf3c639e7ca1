"""What fits: what is free and used, what each stage takes under each plan, and of which networks."""
