"""Readers of the public file formats, one file each, behind one registry (:mod:`.registry`)."""
