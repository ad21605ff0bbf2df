"""What this system says about orders: names, instruments, and the seams that say it around handler, publish, reply and commit."""
