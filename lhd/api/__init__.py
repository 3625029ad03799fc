"""The LittleHorse gRPC API: one file for each group of RPCs, one table from rejections to status codes."""
