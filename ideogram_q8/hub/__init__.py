"""One client of the Hugging Face Hub: looking, downloading with resume, refusals in words."""
