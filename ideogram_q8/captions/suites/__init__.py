"""The project's own captions for Ideogram 4: 300 to measure with, 128 to calibrate with, each written by hand.

`evaluation/` and `calibration/` hold one text file a category; `table` reads their compact rows and writes Ideogram's JSON,
with the styles and palettes that rows name from `styles`. No row, sentence or text is in both folders. The captions are the
project's own work and under its licence (Apache-2.0): no brands, no real persons, nothing copied from a data set.
"""
