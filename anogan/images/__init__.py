"""Images on disk and in memory, in NumPy and OpenCV: decode, resize, tile, stitch, folder layouts."""
