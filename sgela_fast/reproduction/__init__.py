"""Reruns the paper's experiments on the data at hand and shows the published figures beside ours."""
