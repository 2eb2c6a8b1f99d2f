"""From an archive and a trained model to a store of gait encodings."""
