"""Model cards, made from reports and manifests."""
