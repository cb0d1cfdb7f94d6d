"""CIF text: data blocks, CIF 2.0, data names, files of several structures."""
