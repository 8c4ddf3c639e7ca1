"""The app without its page: nothing here imports gradio."""
