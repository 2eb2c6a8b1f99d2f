"""From a store of gait encodings to Re-ID figures."""
