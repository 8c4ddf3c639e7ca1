"""Bytes and records: safetensors, GGUF, PNG, strict JSON, manifest, report."""
