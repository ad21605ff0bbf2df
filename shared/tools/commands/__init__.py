"""Commands of `orders` that need more than a function each."""
