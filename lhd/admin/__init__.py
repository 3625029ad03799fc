"""What operators ask a running daemon: health and metrics over TCP, status and explain over the admin socket."""
