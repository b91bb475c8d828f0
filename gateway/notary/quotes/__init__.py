"""What a running boot has quoted: one quoter, epochs of its log first, challenges after them."""
