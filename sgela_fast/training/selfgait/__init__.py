"""Train SelfGait on silhouettes: without labels, then on a few of them; leaves a run folder."""
