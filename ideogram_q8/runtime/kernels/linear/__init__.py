"""Products of a Linear in every number format, one file a back end."""
