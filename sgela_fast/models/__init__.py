"""The models, built from settings. They know tensors only: no files, no data sets, no command line."""
