"""A request -> denoising steps -> a picture."""
