"""lhd, a workflow daemon that listens to the world; what plugin authors need is in lhd.plugin."""
